"""Trial: what a restorer is measured on, and what it is measured against.

Shapes: n samples.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from unisono_restore.data import Spoil

__all__ = ["Baseline", "Condition"]


@dataclass(frozen=True)
class Condition:
    """A kind of damage: ``spoil`` does it to a clean recording at the model's rate.

    ``seen`` is whether the training data had it. ``whole`` is of sound that is left as it is, which no mean over
    damages counts.
    """

    name: str
    spoil: Spoil
    seen: bool = True
    whole: bool = False


@dataclass(frozen=True)
class Baseline:
    """What a user would do without the model: ``restore`` takes a damaged recording and its rate.

    It may raise ``MissingExtra``; the report then says what is not installed. ``needs`` raises it beforehand.
    """

    name: str
    restore: Callable[[Float[np.ndarray, "n"], int], Float[np.ndarray, "n"]]
    needs: Callable[[], object] | None = None
