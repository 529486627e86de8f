"""Checks of single numbers, which must not meet a comparison before their kind is known."""

import math
from numbers import Integral, Real
from typing import Any


def is_whole(value: Any, least: int | None = None, most: int | None = None) -> bool:
    """Whether ``value`` is a whole number (no bool, no 2.0) from ``least`` to ``most``."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        return False
    return (least is None or value >= least) and (most is None or value <= most)


def is_real(value: Any, least: float = -math.inf, most: float = math.inf) -> bool:
    """Whether ``value`` is a finite number from ``least`` to ``most``."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value) and least <= value <= most
