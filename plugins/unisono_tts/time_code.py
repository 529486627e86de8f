"""Time code: the time of a flow as sines and cosines, for a network to read (Ho et al., arXiv:2006.11239)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

TIME_SCALE = 1000.0


def time_code(time: Float[Tensor, " b"], dim: int) -> Float[Tensor, "b k"]:
    """Return ``dim`` numbers (an even count) for each time in [0, 1], sines first, then cosines."""
    rates = torch.exp(torch.arange(dim // 2, device=time.device) * (-math.log(10000.0) / max(dim // 2 - 1, 1)))
    angles = TIME_SCALE * time.float()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1).to(time.dtype)
