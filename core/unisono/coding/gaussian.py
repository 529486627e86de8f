"""Gaussian tables: normal distributions over whole numbers, in whole numbers alone.

The mass of the symbol k under N(0, σ) is Φ((k + ½) / σ) − Φ((k − ½) / σ). Here it is worked out to 96 binary places
from two series of positive terms (Abramowitz & Stegun, 7.1.6 and 4.2.1)::

    erf x = 2 / √π · S / E,   S = Σ 2ⁿ x²ⁿ⁺¹ / (2n + 1)!!,   E = Σ x²ⁿ / n! = exp x²

so that no library's rounding has a say in a table.
"""

from decimal import Decimal, localcontext
from functools import lru_cache
from itertools import pairwise
from math import isqrt

from unisono.coding.tables import ONE, Tables

PLACES = 96
_ONE = 1 << PLACES
_PI = 314159265358979323846264338327950288419716939937510
MICRO = 1_000_000


@lru_cache(maxsize=16)
def scale_grid(low: str, high: str, count: int) -> tuple[int, ...]:
    """Return ``count`` deviations from ``low`` to ``high`` (decimal texts) in equal ratios, in millionths."""
    if count < 2 or not 0 < Decimal(low) < Decimal(high):
        raise ValueError(f"{count} scales from {low} to {high}: give two or more, from above 0 upwards")
    with localcontext() as context:
        context.prec = 40
        first, last = Decimal(low).ln(), Decimal(high).ln()
        scales = [(first + (last - first) * i / (count - 1)).exp() for i in range(count)]
        return tuple(int((scale * MICRO).to_integral_value()) for scale in scales)


@lru_cache(maxsize=16)
def gaussian_tables(scales: tuple[int, ...]) -> Tables:
    """Return a table for each deviation (in millionths of a step), with an escape for what is rarer than 2^-17."""
    weights, lows = [], []
    for scale in scales:
        if scale < 1:
            raise ValueError(f"a deviation of {scale} millionths: give at least 1")
        sides = [_erf(0, scale)]  # of |k| ≤ 0, 1, … in all
        while True:
            wider = _erf(len(sides), scale)
            if wider - sides[-1] < _ONE // ONE and len(sides) > 1:
                break
            sides.append(wider)
        one_sided = [(wider - inner) // 2 for inner, wider in pairwise(sides)]
        weights.append([*reversed(one_sided), sides[0], *one_sided, _ONE - sides[-1]])
        lows.append(-len(one_sided))
    return Tables.of_weights(weights, lows, escapes=True)


def _erf(k: int, scale: int) -> int:
    """The mass of −k … k, which is erf((k + ½) / σ√2), in 2^-96."""
    numerator, denominator = (2 * k + 1) ** 2 * MICRO**2, 8 * scale**2
    square = (numerator << PLACES) // denominator
    if square > 40 * _ONE:  # erfc of more is below 2^-57
        return _ONE
    term = total = isqrt(square << PLACES)
    power = exponential = _ONE
    n = 0
    while term or power:
        n += 1
        term = (2 * term * square // (2 * n + 1)) >> PLACES
        power = (power * square // n) >> PLACES
        total += term
        exponential += power
    root = isqrt(_PI * (1 << 2 * PLACES) // 10 ** (len(str(_PI)) - 1))
    return min((2 * total << (2 * PLACES)) // (root * exponential), _ONE)
