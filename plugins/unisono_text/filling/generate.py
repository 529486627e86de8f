"""From requests to texts: canvases filled together, caches, guidance, and who is told of it.

::

    requests ─ read_request ─ tasks ─ of equal settings and similar length together ─ canvas
    canvas ─ denoiser or cached network ─ restricted to what blanks may hold ─ unisono.masked ─ texts

=============  ================================  =========================================================
cache          what is kept                      is that exact?
=============  ================================  =========================================================
none           nothing                           —
unchanged      the last answer                   yes (a step that changes nothing is answered from memory)
prefix         blocks that are finished          yes; for networks that are causal between blocks
prefill        what is given at the beginning    with the prompt sealed, yes; that is an approximation of a
                                                 network whose prompt sees the answer
frozen         all but the open block and what   no (Fast-dLLM)
               follows, for each block
frozen_dual    all but the open block            no (Fast-dLLM)
delayed        tokens, one step after their      no (dKV-Cache)
               commit, for ``refresh`` steps
free           the given, and finished blocks    no (FlashDLM)
=============  ================================  =========================================================

Blocks begin at multiples of their size, also where a prompt ends between them (LLaDA's begin behind the prompt).
With ``drift`` a request is filled by itself, and its cache is held to the network without one in every evaluation.

Shapes: b batch, l positions.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from unisono import Text, masked
from unisono.errors import RequestError
from unisono.masked import Canvas, Handle, Layout
from unisono.model import OnStep

from unisono_text.filling.blanks import EndOfBlank, OneChoiceAtOnce, rules_of
from unisono_text.filling.denoise import CausalPrediction, Denoiser, Prefill, Remembering, Unprompted
from unisono_text.filling.guided import agreement
from unisono_text.filling.reading import Reading
from unisono_text.filling.request import TextRequest, read_request
from unisono_text.filling.sampling import strategy_of

ROWS_AT_ONCE = 32
LOGITS_AT_ONCE = 2**28
REFRESH = 8
BLOCKWISE = ("prefix", "frozen", "frozen_dual")


@dataclass(frozen=True)
class Block:
    """Tokens ``start`` to ``stop`` of a request's canvas that are committed: what they read, and all up to there."""

    request: int
    start: int
    stop: int
    tokens: tuple[int, ...]
    text: str
    so_far: str


@dataclass(frozen=True)
class Watcher:
    """Who is told: of canvases after each step, as the text so far with ░ in it, and of blocks that are committed."""

    on_canvas: Callable[[int, Text], None] | None = None
    on_block: Callable[[Block], None] | None = None


@contextmanager
def watched(
    model: Any,
    on_canvas: Callable[[int, Text], None] | None = None,
    on_block: Callable[[Block], None] | None = None,
) -> Iterator[None]:
    """Have functions told of what a model makes while this holds.

    ``on_canvas(request, text)`` is called after each step for each request (by its place in the list) with the
    text so far. ``on_block(block)`` is called once for each block, in order, as soon as all of it is committed and
    before anything of the next one is; where a sampler revises (``remask``, ``edit``), at the end. An exception that
    either raises ends the decoding and reaches whoever asked for it: so a service can stop what it will not say.
    """
    watcher = Watcher(on_canvas, on_block)
    model.watchers.append(watcher)
    try:
        yield
    finally:
        model.watchers.remove(watcher)


def synthesize(
    model: Any,
    requests: Sequence[TextRequest],
    generator: torch.Generator | None = None,
    on_step: OnStep | None = None,
) -> list[Text]:
    """Return a text per request: what was given and what was made, cut where it ended.

    ``order`` says at which step each token was committed. ``facts`` has ``prompt_tokens``, ``steps`` (of the request's
    own canvas), ``ended`` (whether it has an end), for templates ``blanks`` by name, for schemas the value as ``json``,
    and ``drift`` where that was asked for: the largest total variation from the network without a cache in each
    evaluation. Raises ``RequestError``; see `read_request`.
    """
    readings = read_all(model, requests, generator)
    texts: dict[int, Text] = {}
    total = sum(reading.open for reading in readings)
    told = finished = 0

    def tell(filling: Filling, canvas: Canvas) -> None:
        nonlocal told
        filling.tell(canvas)
        made = finished + int((canvas.known & ~canvas.frozen).sum())
        if on_step is not None and told < made < total:  # remasking makes it fall
            told = made
            on_step(made, total)

    for batch in batches(model, readings):
        filling = Filling(model, batch)
        canvas = filling.run(partial(tell, filling) if on_step is not None or model.watchers else None)
        finished += int((~canvas.frozen).sum())
        texts |= filling.texts(canvas)
    if on_step is not None:
        on_step(total, total)
    return [texts[number] for number in range(len(requests))]


def snapshots(model: Any, request: TextRequest, generator: torch.Generator | None = None) -> Iterator[Text]:
    """Yield the text so far after each step, ░ where nothing is known, and at last what `synthesize` returns."""
    filling = Filling(model, read_all(model, [request], generator))
    canvas = filling.canvas
    for canvas in filling.steps():
        yield filling.readings[0].view(canvas.tokens[0], canvas.known[0], canvas.age[0])
    yield filling.texts(canvas)[0]


def stream(model: Any, request: TextRequest, generator: torch.Generator | None = None) -> Iterator[Text]:
    """Yield what is made block by block, the first with what was given; joined, they read as what `synthesize` returns.

    A blank that is normalised at the end (a number in JSON), and whatever a sampler may still revise, comes last, in
    one piece with all else.
    """
    filling = Filling(model, read_all(model, [request], generator))
    reading, told, canvas = filling.readings[0], "", filling.canvas
    for canvas in filling.steps():
        if filling.revises or request.template is not None or request.json_schema is not None:
            continue
        border = int(canvas.masked[0].long().argmax()) if canvas.masked[0].any() else len(reading.task)
        if size := request.block or model.block_size:
            border = border if border == len(reading.task) else border // size * size
        elif border < len(reading.task):
            continue
        if border <= reading.task.prompt:
            continue
        so_far = reading.so_far(canvas.tokens[0], border)
        if len(so_far) > len(told) and not so_far.endswith("\N{REPLACEMENT CHARACTER}"):
            yield Text(so_far[len(told) :])
            told = so_far
    whole = filling.texts(canvas)[0]
    if whole.text != told or not told:
        yield replace(whole, text=whole.text[len(told) :]) if not told else Text(whole.text[len(told) :])


def read_all(model: Any, requests: Sequence[TextRequest], generator: torch.Generator | None = None) -> list[Reading]:
    """Read requests, and refuse what the model cannot do."""
    readings = []
    for number, request in enumerate(requests):
        check_request(model, request)
        readings.append(Reading(model, read_request(model, number, request, model.seed_of(request, generator))))
    return readings


def check_request(model: Any, request: TextRequest) -> None:
    """Raise ``RequestError`` for blocks, caches and guides that this model does not have."""
    size, cache = model.block_size, request.cache
    if model.attention == "causal":
        raise RequestError("this model goes from left to right and fills nothing in: ask a diffusion model")
    if size and request.block not in (None, size):
        raise RequestError(f"block={request.block}: this model fills blocks of {size}; leave block out")
    if cache not in ("none", "unchanged") and not model.remembers:
        raise RequestError(f"cache={cache!r}: this model keeps no keys and values; leave cache out")
    if cache == "prefix" and not size:
        raise RequestError(
            "cache='prefix' is exact where blocks do not see what follows them, and in this model everything sees "
            "everything: take free, frozen or prefill, which are approximations, and drift to see how good"
        )
    if cache in BLOCKWISE and not (request.block or size):
        raise RequestError(f"cache={cache!r} keeps what lies outside of the open block: give block")
    if revises(request):
        remasks = request.remask or request.sampler == "remdm"
        if remasks and (request.block or size):
            raise RequestError("remasking opens the whole text at once: it goes with no blocks")
        if cache not in ("none", "unchanged"):
            raise RequestError(f"cache={cache!r} does not compute again what remask and edit read: leave one out")
    if request.guide_weight is not None or request.guide_top is not None:
        guide = model.component("guide")
        if guide.tokenizer.digest != model.tokenizer.digest:
            raise RequestError("the guide has another tokenizer than this model: their tokens mean different things")


def revises(request: TextRequest) -> bool:
    """Whether tokens may change once they are committed."""
    return bool(request.remask or request.edit or request.sampler == "remdm")


def batches(model: Any, readings: Sequence[Reading]) -> Iterator[list[Reading]]:
    """Yield readings of equal settings together, short ones first, no more than fit at once."""
    kinds: dict[tuple[Any, ...], list[Reading]] = {}
    for reading in sorted(readings, key=lambda reading: (len(reading.task), reading.task.number)):
        kinds.setdefault(_kind(reading), []).append(reading)
    for members in kinds.values():
        rows = max(1, min(ROWS_AT_ONCE, LOGITS_AT_ONCE // (len(members[-1].task) * model.vocabulary)))
        for first in range(0, len(members), rows):
            yield members[first : first + rows]


def _kind(reading: Reading) -> tuple[Any, ...]:
    task = reading.task
    settings = task.request.model_dump(
        exclude={"seed", "text", "suffix", "template", "json_schema", "length", "negative"}
    )
    return (*settings.values(), task.negative is None, task.number if task.request.drift else None)


class Filling:
    """The canvas of some readings of equal settings, and what fills it."""

    def __init__(self, model: Any, readings: list[Reading]):
        self.model, self.readings = model, readings
        self.request = request = readings[0].task.request
        tasks = [reading.task for reading in readings]
        sizes = [len(task) for task in tasks]
        longest, device = max(sizes), model.device
        block = request.block or model.block_size
        sequence = Layout.sequence(longest, model.vocabulary)
        layout = Layout.blocks(longest, block, model.vocabulary) if block else sequence
        tokens, given = (torch.zeros(len(tasks), longest, dtype=kind) for kind in (torch.int64, torch.bool))
        for row, task in enumerate(tasks):
            tokens[row, : sizes[row]], given[row, : sizes[row]] = task.tokens, task.given
        self.canvas = Canvas.blank(layout, [task.seed for task in tasks], sizes, device).freeze(
            tokens.to(device), given.to(device)
        )
        self.prompts = torch.tensor([task.prompt for task in tasks], device=device)
        self.rules = rules_of(model, tasks, longest)
        self.audit: masked.Audit | None = None
        self.handle = Handle(self.rules.restrict(model, self._network()))
        self.strategy = self._strategy()
        self.revises = revises(request)
        self._told = [0] * len(readings)

    def _network(self) -> Any:
        """The network as the cache that was asked for sees it."""
        request, model = self.request, self.model
        plain = Denoiser(model, self.canvas.length, self.canvas.layout.length)
        if request.cache == "none":
            return plain
        if request.cache == "unchanged":
            return masked.ReuseUnchanged(plain)
        policy: Any = {
            "prefix": masked.PrefixExact(),
            "prefill": Prefill(),
            "frozen": masked.FrozenPerBlock(),
            "frozen_dual": masked.FrozenPerBlock(dual=True),
            "delayed": masked.Delayed(request.refresh or REFRESH),
            "free": masked.FreeCache(),
        }[request.cache]
        sealed = self.canvas.frozen.long().cumprod(1).sum(1) if request.cache == "prefill" else None
        cached = masked.Cached(Remembering(model, sealed), policy)
        if not request.drift:
            return cached
        self.audit = masked.Audit(cached)
        self.audit.reference = masked.Cached(Remembering(model), masked.Recompute())
        return self.audit

    def _strategy(self) -> masked.Strategy:
        request, model, rules = self.request, self.model, self.rules
        guide = CausalPrediction(model.component("guide")) if request.guide_weight or request.guide_top else None
        if request.guide_top is not None:
            strategy = agreement(guide, request.guide_top)
            if any(rules.choices):
                raise RequestError("guide_top commits several tokens of a choice at once: leave it, or choices, out")
        else:
            strategy = strategy_of(request, self.canvas.layout)
        if any(rules.choices):
            strategy = replace(strategy, select=OneChoiceAtOnce(strategy.select, rules.choice))
        if not bool(rules.closed.all()):
            strategy = replace(strategy, stop=EndOfBlank(model.special["eos"], rules.first))
        if request.guide_weight is not None:
            if request.guidance_scale > 1:
                raise RequestError("guide_weight and guidance_scale are two guides of one draw: give one")
            return replace(strategy, guide=masked.Autoregressive(guide, request.guide_weight))
        if request.guidance_scale > 1:
            negative = [reading.task.negative for reading in self.readings]
            other = Unprompted(
                model, self.canvas.length, self.canvas.layout.length, self.prompts,
                None if negative[0] is None else [prompt or [] for prompt in negative],
            )  # fmt: skip
            by_guided = request.sampler is not None and masked.PRESETS[request.sampler].by_guided
            return masked.with_guidance(strategy, request.guidance_scale, other, scores=by_guided)
        return strategy

    def run(self, on_step: Callable[[Canvas], None] | None = None) -> Canvas:
        """Fill the canvas; rows that are done leave the batch."""
        many = len(self.readings) > 1 and not self.strategy.static
        done = masked.decode(
            self.handle, self.canvas, self.strategy, on_step, executor=masked.Compact() if many else None
        )
        self._count(done.canvas)
        self.tell(done.canvas, last=True)
        return done.canvas

    def steps(self) -> Iterator[Canvas]:
        """Fill the canvas, and yield it after each step."""
        canvas = self.canvas
        for canvas in masked.steps(self.handle, self.canvas, self.strategy):
            self.tell(canvas)
            yield canvas
        self._count(canvas)
        self.tell(canvas, last=True)

    def _count(self, canvas: Canvas) -> None:
        self.model.evaluations += self.handle.nfe
        self.model.rounds += int(canvas.step.max())
        self.model.token_forwards += self.handle.positions

    def tell(self, canvas: Canvas, last: bool = False) -> None:
        """Tell the model's watchers of a canvas, and of blocks that it completes."""
        for watcher in self.model.watchers:
            if watcher.on_canvas is not None and not last:
                for row, reading in enumerate(self.readings):
                    view = reading.view(canvas.tokens[row], canvas.known[row], canvas.age[row])
                    watcher.on_canvas(reading.task.number, view)
        watchers = [watcher for watcher in self.model.watchers if watcher.on_block is not None]
        if not watchers or (self.revises and not last):
            return
        for row, reading in enumerate(self.readings):
            for block in self._finished(row, reading, canvas):
                for watcher in watchers:
                    watcher.on_block(block)

    def _finished(self, row: int, reading: Reading, canvas: Canvas) -> Iterator[Block]:
        """The blocks of a row that are finished and not yet told."""
        group = canvas.layout.group[: len(reading.task)]
        masked_, tokens = canvas.masked[row, : len(reading.task)], canvas.tokens[row]
        while self._told[row] < int(group[-1]) + 1:
            here = (group == self._told[row]).nonzero()[:, 0]
            if bool(masked_[here].any()):
                return
            start, stop = int(here[0]), int(here[-1]) + 1
            self._told[row] += 1
            if bool(canvas.frozen[row, start:stop].all()):
                continue
            ids = tuple(tokens[start:stop].tolist())
            text = self.model.tokenizer.decode(ids)
            yield Block(reading.task.number, start, stop, ids, text, reading.so_far(tokens, stop))

    def texts(self, canvas: Canvas) -> dict[int, Text]:
        """The texts of a filled canvas, by the requests' numbers."""
        drift = {} if self.audit is None else {"drift": list(self.audit.drift)}
        return {
            reading.task.number: reading.text(
                canvas.tokens[row], canvas.age[row], {"steps": int(canvas.step[row]), **drift}
            )
            for row, reading in enumerate(self.readings)
        }
