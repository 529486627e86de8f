"""MaskedModel: what models that fill a canvas of tokens share, from requests to media.

A subclass says what is its own::

    task(request, seed, streaming)     what is to be filled: a `Task`, which yields windows       (given tokens)
    layout(num_positions, request)     what each place of a canvas is                             (layout)
    denoiser(windows, canvas)          the network under the windows' conditions                  (condition, network)
    strategy(request, canvas, network) how it is decoded: a preset with the request's knobs       (presets)

and a task turns its filled tokens into a medium (`Task.whole`, `Task.pieces`). The core does the rest: windows of all
requests go in step, those of one kind (`settings`) in one decoding of at most ``rows_at_once`` rows; given tokens are
frozen; every row has its window's seed, so that a request alone is the request in a batch; evaluations are counted;
``on_step``, streams and live views follow the windows.

Shapes: b batch, n positions, q streams of tokens, l = n · q places of a canvas, v vocabulary. Masks: True = known.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unisono.batching import Progress
from unisono.masked.canvas import Canvas, Layout
from unisono.masked.run.decode import decode, steps
from unisono.masked.run.handle import Handle, at_sites
from unisono.masked.run.windows import in_step
from unisono.masked.strategy import Strategy
from unisono.masked.training.corrupt import Corrupted
from unisono.masked.training.losses import masked_cross_entropy
from unisono.model import Model, OnStep


class Window(Protocol):
    """Positions that are filled at once: ``tokens`` where ``known``, the rest by the row's ``seed``.

    ``kind`` says what can be decoded together (`MaskedModel.settings`); ``request`` is whose it is.
    """

    @property
    def start(self) -> int: ...

    @property
    def stop(self) -> int: ...

    @property
    def kind(self) -> tuple[Any, ...]: ...

    @property
    def request(self) -> Any: ...

    @property
    def seed(self) -> int: ...

    @property
    def tokens(self) -> Int[Tensor, "n q"]: ...

    @property
    def known(self) -> Bool[Tensor, "n q"]: ...


@dataclass(frozen=True)
class TaskWindow:
    """A window of a task that keeps its tokens in one place: positions [start, stop) of ``task.tokens`` [n, q].

    ``task`` has ``tokens``, ``known`` and ``request`` as well; what was filled is to be written to the first two.
    """

    task: Any
    start: int
    stop: int
    seed: int
    kind: tuple[Any, ...]

    @property
    def request(self) -> Any:
        """Whose it is."""
        return self.task.request

    @property
    def tokens(self) -> Int[Tensor, "n q"]:
        """The task's tokens here; where they are not known they are not read."""
        return self.task.tokens[self.start : self.stop]

    @property
    def known(self) -> Bool[Tensor, "n q"]:
        """Where they are given, or filled by a window before this one."""
        return self.task.known[self.start : self.stop]


W = TypeVar("W", bound=Window)


class Task(Protocol):
    """A request under way.

    ``total`` and ``done`` count for the progress, in what is known beforehand (positions, characters).
    """

    @property
    def total(self) -> int: ...

    @property
    def done(self) -> int: ...

    def runs(self) -> Sequence[Generator[Any, Int[Tensor, "n q"], None]]:
        """Return what can be filled side by side: each yields its windows one after the other, and is sent the filled
        tokens of each."""
        ...

    def pieces(self) -> Iterator[Any]:
        """Yield the media of what is final and was not yielded before: for streams."""
        ...

    def whole(self) -> Any:
        """Return the medium of the filled task."""
        ...

    def view(self, canvas: Canvas, row: int) -> Any | None:
        """Return how it looks under way, by the row of a canvas; None where there is nothing to show yet."""
        ...


class Filling(Generic[W]):
    """Windows that are decoded together: their canvas, the network under their conditions, and the strategy."""

    def __init__(self, model: "MaskedModel", windows: Sequence[W]):
        self.model, self.windows = model, list(windows)
        self.canvas = model.canvas_of(self.windows)
        network = model.denoiser(self.windows, self.canvas)
        self.strategy = model.strategy_for(self.windows, self.canvas, network)
        self.handle = Handle(network)

    def run(self, on_canvas: Callable[[Canvas], None] | None = None, executor: Any = None) -> Canvas:
        """Fill the canvas; ``on_canvas`` is called after each step."""
        done = decode(self.handle, self.canvas, self.strategy, on_canvas, executor=executor)
        self.model.count_evaluations(self.handle, done.canvas)
        return done.canvas

    def steps(self) -> Iterator[Canvas]:
        """Fill the canvas, and yield it after each step."""
        canvas = self.canvas
        for canvas in steps(self.handle, self.canvas, self.strategy):
            yield canvas
        self.model.count_evaluations(self.handle, canvas)

    def rows(self, canvas: Canvas) -> list[Int[Tensor, "n q"]]:
        """Return each window's tokens of a filled canvas."""
        filled = rearrange(canvas.tokens, "b (n q) -> b n q", q=self.windows[0].tokens.shape[1]).cpu()
        return [row[: window.stop - window.start] for row, window in zip(filled, self.windows, strict=True)]


class MaskedModel(Model):
    """The base of generators that fill canvases of tokens; see this module for what a subclass defines.

    Attributes:
        evaluations: of the network so far, each of a whole batch.
        rows_at_once: rows of one decoding at most.
        decoding_fields: the request's fields that must agree for two windows to be decoded together.
    """

    rows_at_once: ClassVar[int] = 32
    decoding_fields: ClassVar[tuple[str, ...]] = ()
    evaluations: int

    def __init__(self):
        super().__init__()
        self.evaluations = 0

    # ---- what a model defines ------------------------------------------------------------------

    def task(self, request: Any, seed: int, streaming: bool = False) -> Task:
        """Return what is to be filled for a request; raises ``RequestError`` for what this model cannot do.

        ``streaming``: the first piece is wanted early, so that a model may cut its windows otherwise.
        """
        raise TypeError(f"{type(self).__name__} defines no task()")

    def layout(self, num_positions: int, request: Any = None) -> Layout:
        """Return what each place of a canvas of so many positions is."""
        raise TypeError(f"{type(self).__name__} defines no layout()")

    def denoiser(self, windows: Sequence[Any], canvas: Canvas) -> Any:
        """Return the network under the windows' conditions, as `unisono.masked.Handle` takes it (`StreamNetwork`)."""
        raise TypeError(f"{type(self).__name__} defines no denoiser()")

    def strategy(self, request: Any, canvas: Canvas, network: Any) -> Strategy:
        """Return how a request's windows are decoded: `unisono.masked.make_strategy` with the request's knobs."""
        raise TypeError(f"{type(self).__name__} defines no strategy()")

    def strategy_for(self, windows: Sequence[Any], canvas: Canvas, network: Any) -> Strategy:
        """Return how windows of one kind are decoded, where that depends on more than their request: on the network
        that guidance leads away from, on a critic, on orders of their own. By default as the first one's request says.
        """
        return self.strategy(windows[0].request, canvas, network)

    def filling(self, windows: Sequence[Any]) -> Filling[Any]:
        """Return windows of one kind as one decoding."""
        return Filling(self, windows)

    def rows_that_fit(self, windows: Sequence[Any]) -> int:
        """Return how many of these windows of one kind, short ones first, are decoded at once."""
        return self.rows_at_once

    def watch(self, tasks: Sequence[Task], progress: Progress) -> Callable[[Canvas], None] | None:
        """Return what is told of the canvas after each step of the decoding that begins; None: nothing."""
        return None

    # ---- what the core does --------------------------------------------------------------------

    @classmethod
    def settings(cls, request: Any) -> tuple[Any, ...]:
        """Return what must agree for two windows to be decoded together."""
        values = (getattr(request, name) for name in cls.decoding_fields)
        return tuple(tuple(value) if isinstance(value, list) else value for value in values)

    def canvas_of(self, windows: Sequence[Window]) -> Canvas:
        """Return the canvas of some windows: their given tokens frozen, padding behind, a row's seed its window's."""
        sizes = [window.stop - window.start for window in windows]
        tokens, known = (
            rearrange(nn.utils.rnn.pad_sequence(parts, batch_first=True), "b n q -> b (n q)").to(self.device)
            for parts in ([w.tokens for w in windows], [w.known for w in windows])
        )
        layout = self.layout(max(sizes), windows[0].request)
        streams = windows[0].tokens.shape[1]
        lengths = torch.tensor(sizes, device=self.device) * streams
        return Canvas.blank(layout, [w.seed for w in windows], lengths, self.device).freeze(tokens, known)

    def hidden_losses(
        self, logits: Float[Tensor, "b l v"], corrupted: Corrupted, label_smoothing: float = 0.0
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Return the mean cross-entropy of what a corruption hid, and the share that is likeliest already, over all
        ranks (`Model.global_mean`). What weighs 0 does not count; other weights multiply a place's cross-entropy."""
        logits, wanted = logits.float(), corrupted.weights > 0
        loss = masked_cross_entropy(logits, corrupted, label_smoothing, "none")
        right = (logits.argmax(-1) == corrupted.targets).float()
        return self.global_mean(loss, wanted), self.global_mean(right, wanted).detach()

    def count_evaluations(self, handle: Handle, canvas: Canvas) -> None:
        """Put a decoding on the model's bill."""
        self.evaluations += handle.nfe

    @torch.no_grad()
    def fill(self, windows: Sequence[Any], on_canvas: Callable[[Canvas], None] | None = None) -> list[Tensor]:
        """Fill windows of one kind in one decoding and return their tokens, [n, q] each."""
        filling = self.filling(windows)
        return filling.rows(filling.run(on_canvas))

    def read_all(self, requests: Sequence[Any], generator: torch.Generator | None = None) -> Sequence[Task]:
        """Return the tasks of requests, each with its seed."""
        return [self.task(request, self.seed_of(request, generator)) for request in requests]

    def fill_all(self, tasks: Sequence[Task], progress: Progress | None = None) -> Iterator[None]:
        """Fill all tasks in step; yields after each round of windows, so that what is final can be used."""
        progress = progress or Progress(None, sum(task.total for task in tasks))

        def fill(windows: list[Any]) -> list[Tensor]:
            progress.to(sum(task.done for task in tasks))  # of the decodings before this one
            return self.fill(windows, self.watch(tasks, progress))

        for _ in in_step([run for task in tasks for run in task.runs()], fill, self.rows_that_fit):
            progress.to(sum(task.done for task in tasks))
            yield
        progress.finish()

    def synthesize(
        self,
        requests: Sequence[Any],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Any]:
        tasks = self.read_all(requests, generator)
        if not tasks:
            return []
        for _ in self.fill_all(tasks, Progress(on_step, sum(task.total for task in tasks))):
            pass
        return [task.whole() for task in tasks]

    def stream(self, request: Any, generator: torch.Generator | None = None) -> Iterator[Any]:
        """Yield the medium piece by piece, as soon as its windows are filled."""
        task = self.task(request, self.seed_of(request, generator), streaming=True)
        for _ in self.fill_all([task]):
            yield from task.pieces()
        yield from task.pieces()

    def snapshots(self, request: Any, generator: torch.Generator | None = None) -> Iterator[Any]:
        """Yield views of the canvas after each step, where the task has them, and the output last."""
        (task,) = self.read_all([request], generator)
        for run in task.runs():
            window = next(run, None)
            while window is not None:
                filling = self.filling([window])
                canvas = filling.canvas
                for canvas in filling.steps():
                    view = task.view(canvas, 0)
                    if view is not None:
                        yield view
                try:
                    window = run.send(filling.rows(canvas)[0])
                except StopIteration:
                    window = None
        yield task.whole()


class StreamNetwork:
    """A network over positions and streams under a condition, as `decode` calls it.

    ``predict(tokens [b, n, q], known [b, n, q], *condition)`` returns logits [b, n, q, v]. Each part of the condition
    is a tensor with the batch first, or has ``rows(index)``, so that rows can be selected.
    """

    def __init__(self, predict: Callable[..., Float[Tensor, "b n q v"]], num_streams: int, *condition: Any):
        self.predict, self.num_streams, self.condition = predict, num_streams, condition

    def __call__(
        self, tokens: Int[Tensor, "b l"], known: Bool[Tensor, "b l"], query: Int[Tensor, "b k"] | None
    ) -> Float[Tensor, "b k v"]:
        tokens, known = (rearrange(x, "b (n q) -> b n q", q=self.num_streams) for x in (tokens, known))
        logits = self.predict(tokens, known, *self.condition)
        return at_sites(rearrange(logits, "b n q v -> b (n q) v"), query)

    def rows(self, index: Int[Tensor, " k"]) -> "StreamNetwork":
        """The same network under some rows' conditions."""
        parts = (part[index] if isinstance(part, Tensor) else part.rows(index) for part in self.condition)
        return StreamNetwork(self.predict, self.num_streams, *parts)
