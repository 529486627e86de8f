"""Mixing: an invertible matrix over groups of channels, the 1x1 convolution of Glow (arXiv:1807.03039, section 3.2).

As in Glow-TTS (arXiv:2005.11129, appendix A.2), one small matrix serves all groups, and a group has channels of both
halves, which a coupling layer behind it treats differently.

Shapes: b batch, t time, c channels, k groups, n channels of a group. Masks are True at valid places.
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unisono.errors import UnisonoError
from unisono.nn.flow.layer import FlowLayer, Moved
from unisono.nn.wide import wide

__all__ = ["InvertibleMixing"]


class InvertibleMixing(FlowLayer):
    """``z = W x`` in each group of channels; W begins as a random rotation.

    Args:
        channels: c, divisible by ``group_size``.
        group_size: n, even: a group has n/2 neighbours of the first half of the channels and the same of the second.

    Raises ``UnisonoError`` for sizes that do not fit.
    """

    def __init__(self, channels: int, group_size: int = 4):
        super().__init__()
        if group_size < 2 or group_size % 2 or channels % group_size:
            message = f"group_size={group_size} must be even and divide the {channels} channels"
            raise UnisonoError(message, code="range", path="group_size", value=group_size)
        rotation = torch.linalg.qr(torch.randn(group_size, group_size))[0]
        if torch.linalg.det(rotation) < 0:
            rotation[:, 0] *= -1
        self.weight = nn.Parameter(rotation.contiguous())
        self._known: tuple[Tensor, Tensor] | None = None  # a weight and its inverse

    def forward(
        self, x: Float[Tensor, "b t c"], mask: Bool[Tensor, "b t"], condition: Float[Tensor, "b u g"] | None = None
    ) -> Moved:
        weight = wide(self.weight)
        groups = x.shape[2] // len(weight)
        log_det = torch.linalg.slogdet(weight).logabsdet * groups
        return self._mixed(x, weight) * mask[..., None], log_det * mask.sum(1)

    def inverse(
        self, z: Float[Tensor, "b t c"], mask: Bool[Tensor, "b t"], condition: Float[Tensor, "b u g"] | None = None
    ) -> Float[Tensor, "b t c"]:
        return self._mixed(z, self.inverse_weight()) * mask[..., None]

    def inverse_weight(self) -> Float[Tensor, "n n"]:
        """Return the inverse of W; without gradients it is computed once for a weight."""
        weight = wide(self.weight)
        if torch.is_grad_enabled() and weight.requires_grad:
            return torch.linalg.inv(weight)
        known = self._known
        if known is None or known[0].device != weight.device or not torch.equal(known[0], weight):
            known = self._known = weight.detach().clone(), torch.linalg.inv(weight.detach())
        return known[1]

    @staticmethod
    def _mixed(x: Float[Tensor, "b t c"], weight: Float[Tensor, "n n"]) -> Float[Tensor, "b t c"]:
        near = len(weight) // 2
        with torch.autocast(x.device.type, enabled=False):
            parts = rearrange(x, "b t (h k j) -> b t k (h j)", h=2, j=near) @ weight.to(x.dtype).mT
        return rearrange(parts, "b t k (h j) -> b t (h k j)", h=2)
