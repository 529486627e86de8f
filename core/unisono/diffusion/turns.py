"""Turns: one run at a time over objects that a run changes, whatever thread it is in.

A chain carries a scheduler's state while it is solved, and a pipeline's networks answer from memory while it runs in
parallel. Two runs over one of them would mix; the second waits for the first, and so gives what it gives in series.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from unisono.errors import UnisonoError

_CHANGED = threading.Condition()
_TAKEN: dict[int, int] = {}  # the identity of an object in use, and of the thread that uses it


@contextmanager
def turn(objects: Iterable[Any], what: str) -> Iterator[None]:
    """Wait until no other thread uses any of the objects, and use them.

    Raises:
        UnisonoError: if this thread uses one already, as in a callback: it would wait for itself.
    """
    wanted = {id(one) for one in objects}
    me = threading.get_ident()
    held = False
    try:
        with _CHANGED:
            if any(_TAKEN.get(one) == me for one in wanted):
                raise UnisonoError(
                    f"{what} is running already in this thread: finish that call before the next",
                    code="state",
                    path=what.removeprefix("this "),
                )
            _CHANGED.wait_for(lambda: not wanted & _TAKEN.keys())
            held = True
            _TAKEN.update(dict.fromkeys(wanted, me))
        yield
    finally:
        if held:
            with _CHANGED:
                for one in wanted:
                    _TAKEN.pop(one, None)
                _CHANGED.notify_all()
