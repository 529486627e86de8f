"""Squeeze: neighbouring places become channels of one (Real NVP, arXiv:1605.08803, section 3.6).

A length that is no multiple of the factor is filled up, and cut again behind the inverse. What it is filled with is
modelled like all else; ``completed`` fills it with noise around the last place. A constant there would let a flow grow
without bound by stretching what it knows; of noise that is drawn anew, likelihood is a bound on that of the places
which are real (augmented flows, arXiv:2002.07101).

Shapes: b batch, t time, c channels, u = ⌈t / factor⌉. Masks are True at valid places, which come first.
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from unisono.errors import UnisonoError

__all__ = ["completed", "squeeze", "unsqueeze"]


def squeeze(
    x: Float[Tensor, "b t c"], mask: Bool[Tensor, "b t"], factor: int = 2
) -> tuple[Float[Tensor, "b u fc"], Bool[Tensor, "b u"]]:
    """Return places of ``factor`` times as many channels, the first ones' first; one is valid if any in it is.

    Raises ``UnisonoError`` for a factor below 1.
    """
    if factor < 1:
        raise UnisonoError(f"factor={factor} must be at least 1", code="range", path="factor", value=factor)
    rest = -x.shape[1] % factor
    inside = rearrange(F.pad(mask, (0, rest)), "b (u f) -> b u f", f=factor).any(-1)
    return rearrange(F.pad(x, (0, 0, 0, rest)), "b (u f) c -> b u (f c)", f=factor), inside


def unsqueeze(x: Float[Tensor, "b u fc"], length: int, factor: int = 2) -> Float[Tensor, "b t c"]:
    """Return the ``length`` (t) places that were squeezed."""
    return rearrange(x, "b u (f c) -> b (u f) c", f=factor)[:, :length]


def completed(
    x: Float[Tensor, "b t c"], lengths: Int[Tensor, " b"], noise: Float[Tensor, "b f1 c"]
) -> tuple[Float[Tensor, "b t2 c"], Int[Tensor, " b"]]:
    """Fill each item up to a multiple of f: with its last place, and ``noise`` [b, f - 1, c] added.

    Returns it, 0 beyond, and the filled lengths. An item of no length stays one.
    """
    factor = noise.shape[1] + 1
    whole = lengths + (-lengths) % factor
    x = F.pad(x, (0, 0, 0, -x.shape[1] % factor))
    place = torch.arange(x.shape[1], device=x.device)
    if factor == 1 or not x.shape[1]:
        return x * (place < lengths[:, None])[..., None], whole
    beyond = (place - lengths[:, None]).clamp(0, factor - 2)
    last = x.gather(1, (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, x.shape[2]))
    fill = last + noise.gather(1, beyond[..., None].expand_as(x))
    x = torch.where((place < lengths[:, None])[..., None], x, fill)
    return x * (place < whole[:, None])[..., None], whole
