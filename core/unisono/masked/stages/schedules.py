"""Schedules: γ(r, n), the share of n positions that is still masked after the share r of the steps.

From MaskGIT (arXiv:2202.04200) except `arccos` (Halton-MaskGIT and ARPG). Each falls from 1 to 0; the
concave ones (cosine, square, cubic) commit few tokens at first, the convex ones many.

A schedule is any function (r, n) of float64 tensors of one shape. The same function serves training:
with r uniform on (0, 1), γ(r, n) is the share to mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from unisono.checks import fault_of, is_real
from unisono.errors import UnisonoError

Schedule = Callable[[Float[Tensor, " b"], Float[Tensor, " b"]], Float[Tensor, " b"]]


def linear(r: Float[Tensor, " b"], n: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """1 − r."""
    return 1 - r


def cosine(r: Float[Tensor, " b"], n: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """cos(πr/2), MaskGIT's own."""
    return torch.cos(r * (math.pi / 2))


def square(r: Float[Tensor, " b"], n: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """1 − r²."""
    return 1 - r**2


def cubic(r: Float[Tensor, " b"], n: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """1 − r³."""
    return 1 - r**3


def square_root(r: Float[Tensor, " b"], n: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """1 − √r, the convex one: most tokens in the first steps."""
    return 1 - r.sqrt()


def arccos(r: Float[Tensor, " b"], n: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """2·arccos(r)/π."""
    return torch.acos(r) * (2 / math.pi)


def logarithmic(r: Float[Tensor, " b"], n: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """−log r / log n."""
    return (-r.log() / n.clamp_min(2).log()).clamp(0, 1)


def exponential(r: Float[Tensor, " b"], n: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """1 − n^(r − 1)."""
    return 1 - n.clamp_min(2) ** (r - 1)


def power(exponent: float) -> Schedule:
    """1 − r^exponent.

    Raises:
        UnisonoError: for an exponent that is not above 0.
    """
    if not (is_real(exponent) and exponent > 0):
        raise UnisonoError(
            f"schedule 1 − r^{exponent!r}: the exponent must be above 0, or nothing is ever committed",
            code=fault_of(exponent),
            path="exponent",
            value=exponent,
        )
    return lambda r, n: 1 - r**exponent


SCHEDULES: dict[str, Schedule] = {
    schedule.__name__: schedule
    for schedule in (linear, cosine, square, cubic, square_root, arccos, logarithmic, exponential)
}


def check_schedule(schedule: Schedule, n: int = 64) -> Schedule:
    """Return the schedule if it falls, without rising in between, from at most 1 to 0.

    Raises:
        UnisonoError: for one that rises, leaves 0 … 1, or does not end at 0 and so commits nothing.
    """
    r = torch.linspace(1 / 256, 1, 256, dtype=torch.float64)
    gamma = schedule(r, torch.full_like(r, n))
    name = getattr(schedule, "__name__", "schedule")
    if not bool(((gamma > -1e-9) & (gamma < 1 + 1e-9)).all()):
        raise UnisonoError(
            f"{name} has values from {gamma.min():.3g} to {gamma.max():.3g}: shares lie in 0 to 1",
            code="range",
            path="schedule",
            value=(float(gamma.min()), float(gamma.max())),
        )
    if float(gamma[-1]) > 1e-6:
        raise UnisonoError(
            f"{name} ends at γ(1) = {float(gamma[-1]):.3g}: it must end at 0, or tokens stay masked",
            code="value",
            path="schedule",
            value=float(gamma[-1]),
        )
    if bool((gamma.diff() > 1e-9).any()):
        at = float(r[1:][gamma.diff() > 1e-9][0])
        raise UnisonoError(
            f"{name} rises at r = {at:.3g}: the share of masked positions must never grow",
            code="value",
            path="schedule",
            value=at,
        )
    return schedule
