"""Long canvases, filled window by window, and many of them in step.

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
    rows_at_once: int,
) -> Iterator[None]:
    """Fill the windows of all runs; yields after each round, so that what is finished can be used.

    ``fill`` is handed windows of one kind, short ones first, no more than ``rows_at_once``.
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
        kinds: dict[tuple[Any, ...], list[int]] = {}
        for i in sorted(waiting, key=lambda i: (waiting[i].stop - waiting[i].start, i)):
            kinds.setdefault(waiting[i].kind, []).append(i)
        for rows in kinds.values():
            for first in range(0, len(rows), rows_at_once):
                chosen = rows[first : first + rows_at_once]
                for i, filled in zip(chosen, fill([waiting[i] for i in chosen]), strict=True):
                    advance(i, filled)
        yield
