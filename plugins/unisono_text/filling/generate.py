"""Generation: canvases filled together, caches, guidance, and progress callbacks.

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

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from unisono import Text, masked
from unisono.errors import RequestError
from unisono.masked import Canvas, Handle
from unisono.masked.model import Filling as MaskedFilling

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


class TextTask:
    """One request as a canvas of its own, which is filled at once: task and window of `unisono.masked.model`."""

    start = 0

    def __init__(self, model: Any, reading: Reading):
        self.model, self.reading = model, reading
        self.text: Text | None = None

    @property
    def stop(self) -> int:
        return len(self.reading.task)

    @property
    def request(self) -> TextRequest:
        return self.reading.task.request

    @property
    def seed(self) -> int:
        return self.reading.task.seed

    @property
    def tokens(self) -> Int[Tensor, "n 1"]:
        return self.reading.task.tokens[:, None]

    @property
    def known(self) -> Bool[Tensor, "n 1"]:
        return self.reading.task.given[:, None]

    @property
    def kind(self) -> tuple[Any, ...]:
        """Canvases of equal settings can be filled in one decoding; one whose drift is measured, by itself."""
        task, own = self.reading.task, {"seed", "text", "suffix", "template", "json_schema", "length", "negative"}
        settings = task.request.model_dump(exclude=own)
        return (*settings.values(), task.negative is None, task.number if task.request.drift else None)

    @property
    def total(self) -> int:
        """Positions to fill."""
        return self.reading.open

    @property
    def done(self) -> int:
        return 0 if self.text is None else self.total

    def runs(self) -> list[Generator["TextTask", Tensor, None]]:
        return [self._run()]

    def _run(self) -> Generator["TextTask", Tensor, None]:
        yield self

    def pieces(self) -> Iterator[Text]:
        """See `stream`, which a text has its own way of."""
        yield self.whole()

    def whole(self) -> Text:
        """Return the text: what was given and what was made, cut where it ended.

        ``order`` says at which step each token was committed. ``facts`` has ``prompt_tokens``, ``steps`` (of the
        request's own canvas), ``ended`` (whether it has an end), for templates ``blanks`` by name, for schemas the
        value as ``json``, and ``drift`` where that was asked for: the largest total variation from the network
        without a cache in each evaluation.
        """
        assert self.text is not None
        return self.text

    def view(self, canvas: Canvas, row: int) -> Text:
        """Return the text so far, ░ where nothing is known."""
        return self.reading.view(canvas.tokens[row], canvas.known[row], canvas.age[row])


def stream(model: Any, request: TextRequest, generator: torch.Generator | None = None) -> Iterator[Text]:
    """Yield what is made block by block, the first with what was given; joined, they read as what `synthesize` returns.

    A blank that is normalised at the end (a number in JSON), and whatever a sampler may still revise, comes last, in
    one piece with all else.
    """
    (task,) = read_all(model, [request], generator)
    filling = Filling(model, [task])
    reading, told, canvas = task.reading, "", filling.canvas
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
    filling.rows(canvas)
    whole = task.whole()
    if whole.text != told or not told:
        yield replace(whole, text=whole.text[len(told) :]) if not told else Text(whole.text[len(told) :])


def read_all(model: Any, requests: Sequence[TextRequest], generator: torch.Generator | None = None) -> list[TextTask]:
    """Read requests, and refuse what the model cannot do."""
    tasks = []
    for number, request in enumerate(requests):
        check_request(model, request)
        tasks.append(
            TextTask(model, Reading(model, read_request(model, number, request, model.seed_of(request, generator))))
        )
    return tasks


def check_request(model: Any, request: TextRequest) -> None:
    """Raise ``RequestError`` for blocks, caches and guides that this model does not have."""
    size, cache = model.block_size, request.cache
    if model.attention == "causal":
        raise RequestError(
            "this model goes from left to right and fills nothing in: ask a diffusion model",
            code="unsupported",
            path="text",
        )
    if size and request.block not in (None, size):
        raise RequestError(
            f"block={request.block}: this model fills blocks of {size}; leave block out",
            code="conflict",
            path="block",
            value=request.block,
        )
    if cache not in ("none", "unchanged") and not model.remembers:
        raise RequestError(
            f"cache={cache!r}: this model keeps no keys and values; leave cache out",
            code="unsupported",
            path="cache",
            value=cache,
        )
    if cache == "prefix" and not size:
        raise RequestError(
            "cache='prefix' is exact where blocks do not see what follows them, and in this model everything sees "
            "everything: take free, frozen or prefill, which are approximations, and drift to see how good",
            code="unsupported",
            path="cache",
            value=cache,
        )
    if cache in BLOCKWISE and not (request.block or size):
        raise RequestError(
            f"cache={cache!r} keeps what lies outside of the open block: give block",
            code="missing",
            path="block",
            value=cache,
        )
    if revises(request):
        remasks = request.remask or request.sampler == "remdm"
        if remasks and (request.block or size):
            raise RequestError(
                "remasking opens the whole text at once: it goes with no blocks",
                code="conflict",
                path="remask",
                value=request.remask,
            )
        if cache not in ("none", "unchanged"):
            raise RequestError(
                f"cache={cache!r} does not compute again what remask and edit read: leave one out",
                code="conflict",
                path="cache",
                value=cache,
            )
    if request.guide_weight is not None or request.guide_top is not None:
        guide = model.component("guide")
        if guide.tokenizer.digest != model.tokenizer.digest:
            raise RequestError(
                "the guide has another tokenizer than this model: their tokens mean different things",
                code="conflict",
                path="components.guide",
            )


def revises(request: TextRequest) -> bool:
    """Whether tokens may change once they are committed."""
    return bool(request.remask or request.edit or request.sampler == "remdm")


def rows_that_fit(model: Any, windows: Sequence[TextTask]) -> int:
    """Return how many canvases, short ones first, are filled at once, so that their logits fit."""
    return max(1, min(ROWS_AT_ONCE, LOGITS_AT_ONCE // (windows[-1].stop * model.vocabulary)))


class Filling(MaskedFilling[TextTask]):
    """The canvas of some requests of equal settings, and what fills it."""

    def __init__(self, model: Any, windows: Sequence[TextTask]):
        self.model, self.windows = model, list(windows)
        self.readings = [window.reading for window in windows]
        self.request = request = windows[0].request
        tasks = [reading.task for reading in self.readings]
        self.canvas = model.canvas_of(self.windows)
        self.prompts = torch.tensor([task.prompt for task in tasks], device=model.device)
        self.rules = rules_of(model, tasks, self.canvas.layout.length)
        self.audit: masked.Audit | None = None
        self.handle = Handle(self.rules.restrict(model, self._network()))
        self.strategy = self._strategy()
        self.revises = revises(request)
        self._told = [0] * len(self.readings)

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
                raise RequestError(
                    "guide_top commits several tokens of a choice at once: leave it, or choices, out",
                    code="conflict",
                    path="guide_top",
                    value=request.guide_top,
                )
        else:
            strategy = strategy_of(request, self.canvas.layout)
        if any(rules.choices):
            strategy = replace(strategy, select=OneChoiceAtOnce(strategy.select, rules.choice))
        if not bool(rules.closed.all()):
            strategy = replace(strategy, stop=EndOfBlank(model.special["eos"], rules.first))
        if request.guide_weight is not None:
            if request.guidance_scale > 1:
                raise RequestError(
                    "guide_weight and guidance_scale are two guides of one draw: give one",
                    code="conflict",
                    path="guide_weight",
                    value=request.guide_weight,
                )
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

    def run(self, on_canvas: Callable[[Canvas], None] | None = None, executor: Any = None) -> Canvas:
        """Fill the canvas; rows that are done leave the batch."""

        def tell(canvas: Canvas) -> None:
            self.tell(canvas)
            if on_canvas is not None:
                on_canvas(canvas)

        if executor is None and len(self.readings) > 1 and not self.strategy.static:
            executor = masked.Compact()
        canvas = super().run(tell if on_canvas is not None or self.model.watchers else None, executor)
        self.tell(canvas, last=True)
        return canvas

    def steps(self) -> Iterator[Canvas]:
        """Fill the canvas, and yield it after each step."""
        canvas = self.canvas
        for canvas in super().steps():
            self.tell(canvas)
            yield canvas
        self.tell(canvas, last=True)

    def rows(self, canvas: Canvas) -> list[Int[Tensor, "n 1"]]:
        """Give each request its text, and return their tokens."""
        drift = {} if self.audit is None else {"drift": list(self.audit.drift)}
        for row, window in enumerate(self.windows):
            facts = {"steps": int(canvas.step[row]), **drift}
            window.text = window.reading.text(canvas.tokens[row], canvas.age[row], facts)
        return super().rows(canvas)

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
