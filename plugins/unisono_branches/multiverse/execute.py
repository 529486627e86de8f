"""Execution: lanes of all requests as rows of one batch, which fork where a block opens and join where it closes.

::

    rows of the cache     q ─┬─ a ─┐         a fork copies what is kept, a join lays it side by side
                             ├─ b ─┼─ q …
                             └─ c ─┘         serial: the same rows, one at a time

Side by side or not, alone or in a batch, a lane sees the same tokens at the same positions, and its draws belong to
(its seed, position, token): the tokens are the same.

Shapes: b rows, n new tokens, v vocabulary. Masks: True = keep.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from unisono import Text
from unisono.batching import OnStep, Progress
from unisono.errors import RequestError
from unisono.verify import Draw, KVCache

from unisono_branches.corpus.facts import TaggedFacts
from unisono_branches.grammar.lane import Lane
from unisono_branches.grammar.read import read, visible
from unisono_branches.grammar.tags import END, PATH, pieces_of
from unisono_branches.multiverse.kept import stack, take
from unisono_branches.multiverse.request import TaggedRequest
from unisono_branches.multiverse.writing import Bounds, Writing, Written
from unisono_branches.network.sight import Masked
from unisono_branches.network.transformer import Transformer

Watch = Callable[[Sequence[Written], Float[Tensor, "n v"]], None]
"""Told of each lane's tokens that were read, and of the logits of what follows each."""


@dataclass(eq=False)
class Task:
    """A request under way: its lanes that can be written, in the order of the text."""

    request: TaggedRequest
    text: Writing
    live: list[Writing]
    prompt_tokens: int
    start: int
    steps: int = 0

    @property
    def active(self) -> list[Writing]:
        """The lanes that are written in the next step."""
        return self.live if self.request.execution == "parallel" else self.live[:1]

    @property
    def done(self) -> int:
        """Positions so far, behind the prompt."""
        return max((lane.position for lane in self.live), default=self.text.position) - self.start

    def result(self, facts: TaggedFacts) -> Text:
        """Return the text, when it is written."""
        tokens = [token for token in self.text.tokens if token.piece != END]
        pieces = tuple(token.piece for token in tokens)
        said = {
            "prompt_tokens": self.prompt_tokens,
            "steps": self.steps,
            "depth": max(token.position for token in tokens) + 1,
            "branches": sum(token.piece == PATH and token.step >= 0 for token in tokens),
            "cut": self.text.all_cut,
        }
        order = tuple(token.step for token in tokens)
        return Text("".join(pieces), tuple(facts.encode(pieces)), pieces, order, said)


def begin(facts: TaggedFacts, request: TaggedRequest, seed: int, beside: bool) -> Task:
    """Return a request with its prompt read; raises ``RequestError`` for a prompt that cannot be gone on from.

    ``beside``: whether paths begin at one position and are blind to one another, or stand one behind the other.
    """
    limit = facts.context if request.max_depth is None else request.max_depth
    if limit > facts.context:
        raise RequestError(
            f"max_depth={limit} is beyond the model's context of {facts.context}: lower it",
            code="limit",
            path="max_depth",
            value=limit,
        )
    pieces = pieces_of(request.text)
    tokens = facts.encode(pieces)
    reading = read(pieces)
    positions = reading.positions if beside else tuple(range(len(tokens)))
    depth = max(positions) + 1
    if depth >= limit or len(tokens) > facts.context:
        raise RequestError(
            f"the prompt has {len(tokens)} tokens at {depth} positions, and there is room for {limit}, of which it "
            "must leave one: shorten it" + ("" if limit == facts.context else ", or raise max_depth"),
            code="limit",
            path="text",
            value=depth,
        )
    bounds = Bounds(
        facts.max_branches if request.max_branches is None else request.max_branches,
        facts.max_nesting if request.max_nesting is None else request.max_nesting,
        beside,
    )
    text = Writing(Lane(), bounds, seed, depth, limit)
    text.written += [Written(piece, position, -1) for piece, position in zip(pieces, positions, strict=True)]
    text.waiting = [token for token in text.written if isinstance(token, Written)]
    if beside:
        text.view = visible(torch.tensor([reading.blocks]), torch.tensor([reading.branches]))[0]
    return Task(request, text, [text], len(pieces), depth)


@dataclass(eq=False)
class Execution:
    """Tasks that are carried out together.

    Attributes:
        evaluations: of the network so far.
        places: token positions computed so far, over all rows.
    """

    net: Transformer
    facts: TaggedFacts
    tasks: list[Task]
    watch: Watch | None = None
    evaluations: int = 0
    places: int = 0
    rows: list[Writing] = field(default_factory=list)
    cache: Any = None

    @torch.no_grad()
    def run(self, on_step: OnStep | None = None) -> list[Text]:
        """Write all texts."""
        progress = Progress(on_step, sum(task.text.limit - task.start for task in self.tasks))
        while any(task.live for task in self.tasks):
            running = [task for task in self.tasks if task.live]
            rows = [(task, lane) for task in running for lane in task.active]
            self._load([lane for _, lane in rows])
            logits = self._read()
            for task in running:
                task.steps += 1
            self._draw(rows, logits)
            progress.to(min(sum(task.done for task in self.tasks), progress.total - 1))
        progress.finish()
        return [task.result(self.facts) for task in self.tasks]

    def _load(self, lanes: list[Writing]) -> None:
        """Have these lanes as the rows of the cache."""
        if self.rows == lanes:
            return
        for number, lane in enumerate(self.rows):
            if lane in lanes:
                lane.kept = take(self.cache, number)
        self.cache = stack([lane.kept for lane in lanes], self.net.head.weight.device)
        self.rows = list(lanes)

    def _read(self) -> Float[Tensor, "b v"]:
        """Have the network read what waits in each row, and return the logits behind the last token of each."""
        device, cache = self.net.head.weight.device, self.cache
        assert isinstance(cache, KVCache)
        counts = [len(lane.waiting) for lane in self.rows]
        b, n = len(counts), max(counts)
        tokens = torch.zeros(b, n, dtype=torch.int64)
        positions = torch.zeros(b, n, dtype=torch.int64)
        seen = torch.ones(n, n, dtype=torch.bool).tril().repeat(b, 1, 1)
        for row, (lane, count) in enumerate(zip(self.rows, counts, strict=True)):
            tokens[row, :count] = torch.tensor(self.facts.encode([token.piece for token in lane.waiting]))
            positions[row, :count] = torch.tensor([token.position for token in lane.waiting])
            if lane.view is not None:
                seen[row, :count, :count] = lane.view
                lane.view = None
        seen = cache.mask(seen.to(device))
        sight = Masked.at(positions.to(device), self.net.sizes.head_dim, seen, cache)
        logits = self.net(tokens.to(device), sight)
        length = cache.length + torch.tensor(counts, device=device)
        cache.advance(n)
        cache.truncate(length)
        self.evaluations += 1
        self.places += b * n
        for row, (lane, count) in enumerate(zip(self.rows, counts, strict=True)):
            if self.watch is not None:
                self.watch(lane.waiting, logits[row, :count])
            lane.waiting = []
        return logits[torch.arange(b, device=device), torch.tensor(counts, device=device) - 1]

    def _draw(self, rows: list[tuple[Task, Writing]], logits: Float[Tensor, "b v"]) -> None:
        """Have each lane go on: by a token, by its paths, or back to the lane whose path it was."""
        writing: list[int] = []
        for row, (task, lane) in enumerate(rows):
            if lane.grammar.closed:
                lane.kept = take(self.cache, row)
                assert lane.parent is not None
                self._replace(task, lane, lane.parent.follow(lane, task.steps - 1))
            elif lane.grammar.state == "paths":
                lane.kept = take(self.cache, row)
                self._replace(task, lane, lane.fork(task.steps - 1))
            else:
                writing.append(row)
        if not writing:
            return
        allowed = torch.stack([rows[row][1].allowed(self.facts) for row in writing])
        chosen = logits[writing].float().cpu().masked_fill(~allowed, -torch.inf)
        seeds = torch.tensor([rows[row][1].seed for row in writing])
        places = torch.tensor([rows[row][1].position for row in writing])
        temperatures = torch.tensor([rows[row][0].request.temperature for row in writing])
        tokens = torch.zeros_like(places)
        for temperature in temperatures.unique().tolist():
            own = temperatures == temperature
            draw = Draw(temperature)
            tokens[own] = draw(chosen[own][:, None], seeds[own], places[own][:, None])[:, 0]
        for row, token in zip(writing, tokens.tolist(), strict=True):
            task, lane = rows[row]
            lane.choose(self.facts.vocabulary[token], task.steps - 1)
            if lane.grammar.closed and lane.parent is None:  # nothing follows, so that nobody sees the end mark
                lane.waiting = []
                task.live.remove(lane)

    @staticmethod
    def _replace(task: Task, lane: Writing, by: list[Writing]) -> None:
        at = task.live.index(lane)
        task.live[at : at + 1] = by
