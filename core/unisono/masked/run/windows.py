"""Windows: long canvases filled part by part, and many of them in step.

A model fills so many positions at once. What is longer is cut into windows that overlap: a window begins with the end
of the one before, which is known by then, and goes on from it. Whoever fills something long is a generator that yields
its windows one after the other and is sent the tokens of each; several of them are advanced in step, so that windows of
different requests share a decoding.

Shapes: n positions of a window, q streams.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from jaxtyping import Int
from torch import Tensor

from unisono.batching import chunks, grouped


class Window(Protocol):
    """Positions ``start`` to ``stop`` of something; windows of one ``kind`` can be filled in one decoding."""

    @property
    def start(self) -> int: ...

    @property
    def stop(self) -> int: ...

    @property
    def kind(self) -> tuple[Any, ...]: ...


W = TypeVar("W", bound=Window)


def cut(start: int, stop: int, limit: int, overlap: int) -> list[tuple[int, int]]:
    """Return windows of at most ``limit`` positions over a range, of nearly one length, each with ``overlap`` of the
    one before."""
    length = stop - start
    if length <= limit:
        return [(start, stop)]
    count = -(-(length - overlap) // (limit - overlap))
    fresh = [round(start + overlap + (length - overlap) * i / count) for i in range(count + 1)]
    return [(fresh[i] - overlap, fresh[i + 1]) for i in range(count)]


def in_step(
    runs: Sequence[Generator[W, Int[Tensor, "n q"], None]],
    fill: Callable[[list[W]], list[Int[Tensor, "n q"]]],
    rows_at_once: int | Callable[[Sequence[W]], int],
) -> Iterator[None]:
    """Fill the windows of all runs; yields after each round, so that what is finished can be used.

    ``fill`` is handed windows of one kind, short ones first, no more than ``rows_at_once``: a number, or a function
    that says how many of the windows of one kind fit.
    """
    waiting: dict[int, W] = {}

    def advance(i: int, filled: Tensor | None) -> None:
        try:
            waiting[i] = next(runs[i]) if filled is None else runs[i].send(filled)
        except StopIteration:
            waiting.pop(i, None)

    for i in range(len(runs)):
        advance(i, None)
    while waiting:
        rows = [(i, waiting[i]) for i in sorted(waiting)]
        for same in grouped(rows, lambda row: row[1].kind, lambda row: row[1].stop - row[1].start):
            fit = rows_at_once([window for _, window in same]) if callable(rows_at_once) else rows_at_once
            for chosen in chunks(same, fit):
                for (i, _), filled in zip(chosen, fill([window for _, window in chosen]), strict=True):
                    advance(i, filled)
        yield
