"""Rotary positions: pairs of channels turn with the position (Su et al., arXiv:2104.09864).

Products of turned queries and keys depend on distances alone. A pair is one channel of each half of a head, as in
Llama, and not two neighbours, as in the paper.

Shapes: b batch, h heads, t time, c channels of one head, a half as many.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Rotation(NamedTuple):
    """Cosines and sines by which pairs of channels turn at each position, broadcast over heads."""

    cosine: Float[Tensor, "*b t a"]
    sine: Float[Tensor, "*b t a"]

    def part(self, first: int, last: int) -> "Rotation":
        """Return the positions from ``first`` to before ``last``."""
        return Rotation(self.cosine[..., first:last, :], self.sine[..., first:last, :])


def rotation(
    positions: Int[Tensor, "*b t"], head_dim: int, base: float = 10000.0, device: torch.device | None = None
) -> Rotation:
    """Return how pairs turn at positions, in float32: position times rates from 1 down to almost 1 / ``base``."""
    rates = base ** (-torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim)
    angles = positions.to(device).float()[..., None] * rates
    if angles.dim() == 3:
        angles = angles[:, None]
    return Rotation(angles.cos(), angles.sin())


def rotate(x: Float[Tensor, "b h t c"], by: Rotation) -> Float[Tensor, "b h t c"]:
    """Turn each pair of channels (i, i + c/2); in float32, returned in x's own type."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat([first * by.cosine - second * by.sine, second * by.cosine + first * by.sine], -1).to(x.dtype)
