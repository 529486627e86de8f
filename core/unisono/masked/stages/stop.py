"""Stop (stage 8): a row is done when all of it is known; a stop may fill in the rest early.

Letters: b batch, l positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from unisono.masked.canvas import Canvas


class Stop(Protocol):
    """From the canvas after a step to one in which rows that need no more evaluations are complete."""

    @property
    def static(self) -> bool: ...

    def __call__(self, canvas: Canvas) -> Canvas: ...


@dataclass(frozen=True)
class Complete:
    """When every position is known."""

    static = True

    def __call__(self, canvas: Canvas) -> Canvas:
        return canvas


@dataclass(frozen=True)
class EndOfSequence:
    """When everything up to an end token is known; what comes after it is filled with the end token."""

    token: int
    static = False

    def __call__(self, canvas: Canvas) -> Canvas:
        unbroken = canvas.known.long().cumprod(1).bool()
        ended = (unbroken & (canvas.tokens == self.token) & ~canvas.padding).any(1)
        return canvas.commit(canvas.masked & ended[:, None], canvas.tokens * 0 + self.token)
