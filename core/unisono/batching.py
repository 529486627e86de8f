"""Batching: items of one kind side by side, as many as fit, and progress over all of them.

::

    requests ─ grouped ─ items of one kind, short ones first ─ chunks ─ batches ─ Progress ─ on_step(done, total)
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

from unisono.stopping import may_stop

OnStep = Callable[[int, int], None]
T = TypeVar("T")


def grouped(items: Iterable[T], kind: Callable[[T], Hashable], size: Callable[[T], int] | None = None) -> list[list[T]]:
    """Return the items of each kind, kinds by their first item; with ``size`` short ones first, equals as they came."""
    kinds: dict[Hashable, list[T]] = {}
    for item in items if size is None else sorted(items, key=size):
        kinds.setdefault(kind(item), []).append(item)
    return list(kinds.values())


def chunks(items: Sequence[T], at_once: int | Callable[[Sequence[T]], int]) -> Iterator[list[T]]:
    """Yield the items in their order, at most so many at once; a function is asked how many of these items fit."""
    most = max(1, at_once(items) if callable(at_once) else at_once)
    for first in range(0, len(items), most):
        yield list(items[first : first + most])


class Progress:
    """Tells ``on_step(done, total)`` as the contract of `unisono.model.OnStep` has it.

    ``total`` is the same at each call, ``done`` only grows, and the last call has ``done == total``.
    """

    def __init__(self, on_step: OnStep | None, total: int):
        self.on_step, self.total, self.done = on_step, total, 0
        self._finished = False

    def to(self, done: int) -> None:
        """So much is done; nothing is told where that is no more than before."""
        may_stop()
        done = min(done, self.total)
        if done > self.done:
            self.done = done
            self._finished = done == self.total
            if self.on_step is not None:
                self.on_step(done, self.total)

    def advance(self, amount: int = 1) -> None:
        """So much more is done."""
        self.to(self.done + amount)

    def finish(self) -> None:
        """All of it is done; told once."""
        if not self._finished:
            self.done, self._finished = self.total, True
            if self.on_step is not None:
                self.on_step(self.total, self.total)
