"""Norm: instance normalisation whose statistics are those of the valid places only, and its adaptive form.

Instance normalisation (Ulyanov et al., arXiv:1607.08022) takes mean and variance of each channel over an item's own
places. Over padding too, an item's result depends on who shares its batch; here it does not. The adaptive form (Huang
and Belongie, arXiv:1703.06868, as StyleTTS and StarGANv2 have it) takes scale and shift of each channel from a style.

Shapes: b batch, c channels, t frames, f other places (frequencies, width), s style.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

__all__ = ["AdaptiveInstanceNorm", "MaskedInstanceNorm"]


class MaskedInstanceNorm(nn.Module):
    """Normalise each channel of an item over its valid places; elsewhere the result is 0.

    Args:
        channels: c.
        eps: added to the variance, which is the biased one.
        affine: whether each channel has a learnt scale (1 at first) and shift (0 at first).

    Statistics are taken in float32 whatever comes in. An item without any valid place gives zeros.
    """

    def __init__(self, channels: int, eps: float = 1e-5, affine: bool = True):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(
        self, x: Float[Tensor, "b c t *f"], mask: Bool[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b c t *f"]:
        """``mask`` is True at valid frames; None where all are. Further axes are valid throughout."""
        x, inside = standardised(x, mask, self.eps)
        if self.weight is not None and self.bias is not None:
            shape = (-1, *(1,) * (x.ndim - 2))
            x = x * self.weight.view(shape) + self.bias.view(shape)
        return x if inside is None else x * inside


class AdaptiveInstanceNorm(nn.Module):
    """``(1 + γ(s)) · norm(x) + β(s)``: scale and shift of each channel from a style, both linear in it.

    Args:
        channels: c.
        style_dim: s.
        eps: as in ``MaskedInstanceNorm``.
        zero: whether γ and β are 0 for every style at first, so that this begins as plain normalisation.
    """

    def __init__(self, channels: int, style_dim: int, eps: float = 1e-5, zero: bool = False):
        super().__init__()
        self.eps = eps
        self.affine = nn.Linear(style_dim, 2 * channels)
        if zero:
            nn.init.zeros_(self.affine.weight)
            nn.init.zeros_(self.affine.bias)

    def forward(
        self, x: Float[Tensor, "b c t *f"], style: Float[Tensor, "b s"], mask: Bool[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b c t *f"]:
        """``mask`` is True at valid frames; None where all are. The result is 0 elsewhere."""
        x, inside = standardised(x, mask, self.eps)
        scale, shift = self.affine(style).reshape(len(style), -1, *(1,) * (x.ndim - 2)).chunk(2, dim=1)
        x = x * (1 + scale) + shift
        return x if inside is None else x * inside


def standardised(
    x: Float[Tensor, "b c t *f"], mask: Bool[Tensor, "b t"] | None, eps: float
) -> tuple[Float[Tensor, "b c t *f"], Float[Tensor, "b 1 t *one"] | None]:
    """Return ``x`` with mean 0 and variance 1 over each item's valid places, and the mask in the shape of ``x``."""
    kind, places = x.dtype, tuple(range(2, x.ndim))
    with torch.autocast(x.device.type, enabled=False):
        wide = x.float() if kind in (torch.float16, torch.bfloat16) else x
        if mask is None:
            variance, mean = torch.var_mean(wide, places, correction=0, keepdim=True)
            return ((wide - mean) * (variance + eps).rsqrt()).to(kind), None
        inside = mask.reshape(len(mask), 1, -1, *(1,) * (x.ndim - 3)).to(wide.dtype)
        count = (inside.sum(places, keepdim=True) * (x[0, 0, 0].numel())).clamp(min=1)
        mean = (wide * inside).sum(places, keepdim=True) / count
        centred = (wide - mean) * inside
        variance = centred.square().sum(places, keepdim=True) / count
        return (centred * (variance + eps).rsqrt()).to(kind), inside.to(kind)
