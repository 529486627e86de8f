"""Acceptance: how many steps of a window are done after a round.

Every solver gives the first new state of a window exactly, for the state before it is. The one after it is as good
as the guess at which the network was evaluated, and so on: a state counts as done while all guesses before it
moved by no more than a tolerance. A movement that is no number (NaN) is accepted by no rule. Local movement does not
bound the final error; docs/diffusion.md has the limits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from unisono.checks import fault_of
from unisono.diffusion.limits import is_positive, whole
from unisono.errors import UnisonoError


class Accept(Protocol):
    """A rule of acceptance; `per_sample` gives each sample a window of its own."""

    @property
    def per_sample(self) -> bool: ...

    def span(self, window: int, front: int) -> int:
        """How many steps to open at step `front`, of at most `window`."""
        ...

    def count(self, moved: Sequence[float]) -> int:
        """How many of the window's steps are done; `moved` says how far each guess after the first moved."""
        ...


@dataclass(frozen=True)
class Exact:
    """Accept a step when the guess did not move at all: the serial sample to the bit, and slow."""

    per_sample: bool = True

    def span(self, window: int, front: int) -> int:
        return window

    def count(self, moved: Sequence[float]) -> int:
        return _leading(moved, 0.0)


@dataclass(frozen=True)
class Tolerance:
    """Accept a step when the guess moved by at most `rtol` times its norm.

    `per_sample` False makes all samples of a batch wait for the slowest, with one schedule for all (less overhead).

    Raises:
        UnisonoError: if rtol is no finite number above 0.
    """

    rtol: float = 1e-2
    per_sample: bool = True

    def __post_init__(self):
        if not is_positive(self.rtol):
            raise UnisonoError(
                f"a tolerance of {self.rtol!r} accepts nothing: give one above 0 such as 1e-2, or accept=Exact()",
                code=fault_of(self.rtol),
                path="rtol",
                value=self.rtol,
            )

    def span(self, window: int, front: int) -> int:
        return window

    def count(self, moved: Sequence[float]) -> int:
        return _leading(moved, self.rtol)


@dataclass(frozen=True)
class FixedSteps:
    """ParaStep (arXiv:2505.14741): accept all steps of a window after one evaluation, whatever their guesses moved by.

    The first `warmup` steps are serial. Rounds = warmup + ⌈(T − warmup)/steps⌉, whatever the error: nothing says how
    far the sample is from the serial one. Differs from the paper in that guesses are made from the newest output
    instead of each device's own last one.

    Raises:
        UnisonoError: if steps or warmup is no whole number, or below 1.
    """

    steps: int
    warmup: int = 1
    per_sample: bool = False

    def __post_init__(self):
        for name, value in (("steps", self.steps), ("warmup", self.warmup)):
            whole(f"FixedSteps.{name}", value)

    def span(self, window: int, front: int) -> int:
        return 1 if front < self.warmup else self.steps

    def count(self, moved: Sequence[float]) -> int:
        return _leading(moved, math.inf)


def _leading(moved: Sequence[float], limit: float) -> int:
    """How many steps are done: the first in any case, then as many as have guesses that moved by at most `limit`."""
    for n, value in enumerate(moved):
        if not value <= limit:  # NaN is above every limit
            return n + 1
    return len(moved) + 1
