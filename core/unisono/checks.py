"""Checks: single numbers, whose kind must be known before they meet a comparison."""

import math
from numbers import Integral, Real
from typing import Any

from unisono.errors import Code


def is_whole(value: Any, least: int | None = None, most: int | None = None) -> bool:
    """Whether ``value`` is a whole number (no bool, no 2.0) from ``least`` to ``most``."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        return False
    number = int(value)
    return (least is None or number >= least) and (most is None or number <= most)


def is_real(value: Any, least: float = -math.inf, most: float = math.inf) -> bool:
    """Whether ``value`` is a finite number from ``least`` to ``most``."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    number = float(value)
    return math.isfinite(number) and least <= number <= most


def fault_of(value: Any, whole: bool = False) -> Code:
    """Return the code of an unfit number: ``range`` where it is one (whole, if that is asked), else ``type``."""
    fits = Integral if whole else Real
    return "range" if isinstance(value, fits) and not isinstance(value, bool) else "type"
