"""Continuation: the autoregressive models' ``synthesize``, requests in, texts out.

::

    requests ─ prompts ─ of equal settings and equal limit together ─ unisono.verify ─ texts

A draft's last proposals depend on the room that is left, so that requests of different limits are never one batch: a
request alone and in a batch give the same text.

Shapes: b batch, n tokens, v vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from unisono import Text
from unisono.batching import Progress, chunks, grouped
from unisono.errors import RequestError, raised_as
from unisono.masked import at_sites
from unisono.model import OnStep
from unisono.verify import KVCache, Prefix, Verified, rounds

from unisono_text.lossless.catalogue import CATALOGUE, method_of
from unisono_text.lossless.decoding import warp_of
from unisono_text.lossless.entry import Means, fill
from unisono_text.lossless.request import ContinueRequest, read_prompt

ROWS_AT_ONCE = 32


@dataclass(frozen=True)
class Continuation:
    """One request, read: the prompt's tokens and how it reads, how many may follow, and the seed of its row."""

    number: int
    request: ContinueRequest
    prompt: list[int]
    shown: str
    room: int
    seed: int

    @property
    def kind(self) -> tuple[Any, ...]:
        """What requests must share to be one batch."""
        settings = self.request.model_dump(exclude={"seed", "text", "length", "beam"})
        return (*settings.values(), len(self.prompt) + self.room)


def continue_texts(
    model: Any,
    requests: Sequence[ContinueRequest],
    generator: torch.Generator | None = None,
    on_step: OnStep | None = None,
) -> list[Text]:
    """Return a text per request: the prompt and what follows, cut where it ended.

    ``order`` says in which round each token was committed, −1 for the prompt's. ``facts`` has ``prompt_tokens``,
    ``steps`` (rounds), ``ended``, ``proposed`` and ``accepted`` tokens, the method's ``exactness``, and, where a draft
    process was lost, ``lost``: why the rest was decoded plainly. Raises ``RequestError`` for a prompt that does not
    fit, and for a component that is missing or of another tokenizer.
    """
    tasks = []
    for number, request in enumerate(requests):
        tasks.append(Continuation(number, request, *read_prompt(model, request), _row_seed(model, request, generator)))
    texts: dict[int, Text] = {}
    progress, finished = Progress(on_step, sum(task.room for task in tasks)), 0
    for members in grouped(tasks, attrgetter("kind")):
        for batch in chunks(members, _rows_at_once(members[0].request)):
            making = Batch(model, batch)
            for made in making.run():
                if finished + made < progress.total:  # the end is told when the texts are ready
                    progress.to(finished + made)
            texts |= {task.number: text for task, text in zip(batch, making.texts(), strict=True)}
            finished += sum(task.room for task in batch)
    progress.finish()
    return [texts[number] for number in range(len(requests))]


def stream_text(model: Any, request: ContinueRequest, generator: torch.Generator | None = None) -> Iterator[Text]:
    """Yield what each round adds, the first with the prompt; joined, they read as what `continue_texts` returns."""
    seed = _row_seed(model, request, generator)
    batch = Batch(model, [Continuation(0, request, *read_prompt(model, request), seed)])
    told = ""
    for _ in batch.run():
        so_far = batch.tasks[0].shown + model.tokenizer.decode(batch.made(0))
        if len(so_far) > len(told) and not so_far.endswith("\N{REPLACEMENT CHARACTER}"):  # half of a character
            yield Text(so_far[len(told) :])
            told = so_far
    whole = batch.texts()[0]
    if whole.text != told or not told:
        yield Text(whole.text[len(told) :])


def means_of(model: Any, request: ContinueRequest, on_loss: Callable[[str], None] | None = None) -> Means:
    """Return what the request's method draws on; raises ``RequestError`` where a component is missing or unfit."""
    role = CATALOGUE[request.decoding].role
    component: Any = None if role is None else _fit(model, role)
    return Means(
        draft=component.causal if role == "draft" else None,
        drafter=Masked(component) if role == "drafter" else None,
        vocab_size=model.vocabulary,
        skip=1,
        heads=getattr(model, "extra_heads", 0),
        look_ahead=getattr(model, "look_ahead", ()),
        model=model,
        component=component,
        target=model.target_network(request.decoding),
        on_loss=on_loss,
    )


class Masked:
    """A diffusion language model as a drafter: logits of the queried positions, from what is known before them."""

    def __init__(self, model: Any):
        self.model = model

    def __call__(
        self, tokens: Int[Tensor, "b l"], known: Bool[Tensor, "b l"], query: Int[Tensor, "b k"] | None
    ) -> Float[Tensor, "b k v"]:
        return at_sites(self.model.predict(torch.where(known, tokens, self.model.mask_id)), query)


def _rows_at_once(request: ContinueRequest) -> int:
    entry = CATALOGUE[request.decoding]
    if entry.most_rows is None:
        return ROWS_AT_ONCE
    return min(ROWS_AT_ONCE, entry.most_rows(fill(entry, request.options)))


def _fit(model: Any, role: str) -> Any:
    component = model.component(role)
    if component.tokenizer.digest != model.tokenizer.digest:
        raise RequestError(
            f"the {role} has another tokenizer ({component.vocabulary} tokens) than this model ({model.vocabulary}): "
            "their tokens mean different things; give one that was trained on the same tokens",
            code="conflict",
            path=f"components.{role}",
        )
    return component


def _row_seed(model: Any, request: ContinueRequest, generator: torch.Generator | None) -> int:
    seed = model.seed_of(request, generator)
    # Samples of one lattice have neighbouring seeds.
    beams = request.beams or 1
    return seed % (2**62 // beams) * beams + request.beam if request.decoding == "arithmetic" else seed


class Batch:
    """Continuations of one kind, made together."""

    def __init__(self, model: Any, tasks: list[Continuation]):
        self.model, self.tasks = model, tasks
        self.limit = 1 + len(tasks[0].prompt) + tasks[0].room
        self.lengths = torch.tensor([1 + len(task.prompt) for task in tasks])
        self.marks = [[0] for _ in tasks]  # how many tokens of each row there were after each of its rounds
        self.prefix: Prefix | None = None
        self.out: Verified | None = None
        self.lost: list[str] = []  # why the rest was decoded plainly

    def run(self) -> Iterator[int]:
        """Decode; yields how many tokens there are after each round, over all rows."""
        model, tasks, request = self.model, self.tasks, self.tasks[0].request
        device = model.device
        tokens = torch.zeros(len(tasks), int(self.lengths.max()), dtype=torch.int64)
        for row, task in enumerate(tasks):
            tokens[row, : 1 + len(task.prompt)] = torch.tensor([model.start_id, *task.prompt])

        def memory(rows: int) -> KVCache:
            return KVCache(rows, device)

        with raised_as(RequestError):
            means = means_of(model, request, self.lost.append)
            going = rounds(
                means.target,
                tokens.to(device),
                method_of(request.decoding, means, cache=memory, **request.options),
                self.limit,
                seeds=[task.seed for task in tasks],
                lengths=self.lengths.to(device),
                temperature=request.temperature,
                warp=warp_of(request.top_k, request.top_p),
                end=model.special["eos"],
                cache=memory,
            )
        while self.out is None:
            try:
                with raised_as(RequestError):
                    self.prefix = next(going)
            except StopIteration as done:
                self.out = done.value
            else:
                yield self._take(self.prefix)
        model.evaluations += self.out.nfe + self.out.draft_nfe
        model.rounds += int(self.out.rounds.max())
        model.token_forwards += self.out.positions + self.out.draft_positions

    def made(self, row: int) -> list[int]:
        """A row's tokens behind its prompt so far; an end token among them reads as nothing."""
        assert self.prefix is not None
        return self.prefix.tokens[row, self.lengths[row] : self.prefix.length[row]].tolist()

    def texts(self) -> list[Text]:
        """The texts, when all rounds are over."""
        return [self._text(row, task) for row, task in enumerate(self.tasks)]

    def _take(self, prefix: Prefix) -> int:
        counts = (prefix.length.cpu() - self.lengths).tolist()
        for row, count in enumerate(counts):
            if count > self.marks[row][-1]:
                self._tell(row, self.marks[row][-1])
                self.marks[row].append(count)
        return sum(counts)

    def _tell(self, row: int, before: int) -> None:
        """Tell the model's watchers of what a round has committed."""
        heard = [watcher.on_block for watcher in self.model.watchers if watcher.on_block is not None]
        if not heard:
            return
        from unisono_text.filling.generate import Block

        task, made, read = self.tasks[row], self.made(row), self.model.tokenizer.decode
        given, fresh = len(task.prompt), made[before:]
        block = Block(
            task.number, given + before, given + len(made), tuple(fresh), read(fresh), task.shown + read(made)
        )
        for hear in heard:
            hear(block)

    def _text(self, row: int, task: Continuation) -> Text:
        assert self.out is not None
        ids = self.out.tokens[row, 1 : int(self.out.length[row])].tolist()
        given = len(task.prompt)
        ended = len(ids) > given and ids[-1] == self.model.special["eos"]
        ids = ids[:-1] if ended else ids
        order = [-1] * given
        for number, (before, count) in enumerate(zip(self.marks[row], self.marks[row][1:], strict=False)):
            order += [number] * (count - before)
        facts = {
            "prompt_tokens": given,
            "steps": int(self.out.rounds[row]),
            "ended": ended,
            "proposed": int(self.out.proposed[row]),
            "accepted": int(self.out.accepted[row]),
            "exactness": CATALOGUE[task.request.decoding].exactness,
            **({"lost": f"{self.lost[0]}; what follows was decoded plainly"} if self.lost else {}),
        }
        tokenizer = self.model.tokenizer
        text = task.shown + tokenizer.decode(ids[given:])
        return Text(text, tuple(ids), tuple(tokenizer.pieces(ids)), tuple(order[: len(ids)]), facts)
