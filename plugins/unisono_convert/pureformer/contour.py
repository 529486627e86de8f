"""Contour: how the pitch of a recording moves, its level left out, for a decoder that is told of it.

Shapes: b batch, t frames.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from unisono_sound.signal import fill_gaps

__all__ = ["contour_of"]

SPREAD = 0.2
"""Of log hertz: what 1 stands for, some three and a half semitones."""


def contour_of(hertz: Float[Tensor, "b t"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t 2"]:
    """Return log pitch about the mean of each recording's voiced frames, interpolated where there is no voice, and 1
    where there is one; zeros where nothing is voiced, and on padding. ``hertz`` is 0 where unvoiced.
    """
    voiced = (hertz > 0) & mask
    logs = hertz.clamp(min=1.0).log()
    mean = (logs * voiced).sum(1, keepdim=True) / voiced.sum(1, keepdim=True).clamp(min=1)
    moved = fill_gaps((logs - mean) / SPREAD, voiced) * mask
    return torch.stack([moved, voiced.to(moved.dtype)], -1)
