"""Wide: numbers in at least 32 bits, for what 16 bits do not bear.

``x.float()`` would round what is float64 already, and then meet weights of float64 (``trainer.precision=64-true``).
"""

import torch
from jaxtyping import Float
from torch import Tensor


def wide(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return ``x`` in float32, or as it is where it has more bits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def wide_as(x: Float[Tensor, "*shape"], other: Tensor) -> Float[Tensor, "*shape"]:
    """Return ``x`` in the precision of ``other`` (weights, a window), and in at least 32 bits."""
    return x.to(torch.promote_types(other.dtype, torch.float32))
