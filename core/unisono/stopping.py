"""Stopping: whoever waits for an output may end its making between two steps, whatever makes it.

::

    with stopped_by(check): …  next(pieces)         who waits, in the thread that makes: a server
        └─ a loop ─ may_stop() ─ a step ─ may_stop() ─ a step …

``on_step`` tells how much is done, so that it is not called where nothing is known of that: while a stream's piece is
made, or a canvas of several windows. The loops of the core (masked decoding, rounds of `unisono.verify`, solvers of
`unisono.diffusion`, `unisono.batching.Progress`) ask here at each step. A model with a loop of its own calls
``may_stop()`` in it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_CHECK: ContextVar[Callable[[], None] | None] = ContextVar("stopping", default=None)


@contextmanager
def stopped_by(check: Callable[[], None]) -> Iterator[None]:
    """Have ``check`` called between the steps of what is made in this thread while this holds.

    What it raises ends the making, and reaches whoever asked for it. It should raise a ``BaseException`` that is no
    ``Exception``, so that no model takes it for a fault of its own.
    """
    before = _CHECK.set(check)
    try:
        yield
    finally:
        _CHECK.reset(before)


def may_stop() -> None:
    """Raise what whoever waits wants raised where nobody waits any more; does nothing where nobody asked for that."""
    check = _CHECK.get()
    if check is not None:
        check()
