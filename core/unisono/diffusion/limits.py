"""Limits: numbers that callers give, checked in one sentence before anything runs."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from unisono.checks import fault_of
from unisono.errors import UnisonoError


def whole(name: str, value: Any, least: int = 1, fix: str = "") -> int:
    """Return a whole number of at least `least`; True, 2.5 and "3" are none.

    Raises:
        UnisonoError: if it is not; `name` is what the caller calls it, such as "window".
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UnisonoError(
            f"{_said(name, value)} must be a whole number, at least {least}{fix}",
            code="type",
            path=name.rstrip("."),
            value=value,
        )
    if value < least:
        raise UnisonoError(
            f"{_said(name, value)} must be at least {least}{fix}", code="range", path=name.rstrip("."), value=value
        )
    return int(value)


def positive(name: str, value: Any, fix: str = "") -> float:
    """Return a finite number above 0.

    Raises:
        UnisonoError: if it is none.
    """
    if not is_positive(value):
        code = fault_of(value)
        kind = "" if code == "range" else "a number "
        raise UnisonoError(
            f"{_said(name, value)} must be {kind}above 0{fix}",
            code=code,
            path=name.rstrip("."),
            value=value,
        )
    return float(value)


def is_positive(value: Any) -> bool:
    """Whether a value is a finite number above 0; True is no number."""
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) < math.inf


def _said(name: str, value: Any) -> str:
    """`window=2.5`; for "Local.multiple" `Local(multiple=2.5)`, for "Stale." `Stale(2.5)`."""
    shown = repr(value) if len(repr(value)) <= 40 else f"{repr(value)[:40]}…"
    owner, dot, argument = name.rpartition(".")
    given = f"{argument}={shown}" if argument else shown
    return f"{owner}({given})" if dot else given
