"""Coupling: one half of the channels is scaled and shifted by what a network reads in the other (Real NVP,
arXiv:1605.08803, section 3.3).

Shapes: b batch, t time, c channels, g of the condition, u 1 or t. Masks are True at valid places.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unisono.nn.flow.layer import FlowLayer, Moved

__all__ = ["AffineCoupling"]


class AffineCoupling(FlowLayer):
    """``z = (x₁, exp(s(x₁)) · x₂ + m(x₁))`` for the two halves of the channels.

    Args:
        net: ``net(x₁, mask, condition)`` [b, t, c/2] is m and s, side by side [b, t, c]; where it says 0 at first, as a
            ``GatedNet`` does, the layer begins as the identity. Under autocast it works in 16 bits, and only it.
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(
        self, x: Float[Tensor, "b t c"], mask: Bool[Tensor, "b t"], condition: Float[Tensor, "b u g"] | None = None
    ) -> Moved:
        kept, changed = x.chunk(2, dim=-1)
        shift, log_scale = self._said(kept, mask, condition)
        moved = log_scale.exp() * changed + shift
        return torch.cat([kept, moved], -1) * mask[..., None], (log_scale * mask[..., None]).sum((1, 2))

    def inverse(
        self, z: Float[Tensor, "b t c"], mask: Bool[Tensor, "b t"], condition: Float[Tensor, "b u g"] | None = None
    ) -> Float[Tensor, "b t c"]:
        kept, moved = z.chunk(2, dim=-1)
        shift, log_scale = self._said(kept, mask, condition)
        return torch.cat([kept, (moved - shift) * (-log_scale).exp()], -1) * mask[..., None]

    def _said(
        self, kept: Float[Tensor, "b t half"], mask: Bool[Tensor, "b t"], condition: Float[Tensor, "b u g"] | None
    ) -> tuple[Float[Tensor, "b t half"], Float[Tensor, "b t half"]]:
        shift, log_scale = self.net(kept, mask, condition).to(kept.dtype).chunk(2, dim=-1)
        return shift, log_scale
