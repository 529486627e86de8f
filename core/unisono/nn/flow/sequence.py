"""Flow sequence: layers one behind the other, their log-determinants added up.

Shapes: b batch, t time, c channels, g of the condition, u 1 or t. Masks are True at valid places.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unisono.nn.flow.layer import FlowLayer, Moved
from unisono.nn.modules import Modules
from unisono.nn.wide import wide

__all__ = ["FlowSequence"]


class FlowSequence(FlowLayer):
    """Invertible layers in order; what stands in padding has no influence.

    Takes any floating type, and works in at least 32 bits.
    """

    def __init__(self, layers: Iterable[FlowLayer]):
        super().__init__()
        self.layers = Modules(layers)

    def forward(
        self, x: Float[Tensor, "b t c"], mask: Bool[Tensor, "b t"], condition: Float[Tensor, "b u g"] | None = None
    ) -> Moved:
        z = torch.where(mask[..., None], wide(x), 0.0)
        total = z.new_zeros(len(z))
        for layer in self.layers:
            z, log_det = layer(z, mask, condition)
            total = total + log_det
        return z, total

    def inverse(
        self, z: Float[Tensor, "b t c"], mask: Bool[Tensor, "b t"], condition: Float[Tensor, "b u g"] | None = None
    ) -> Float[Tensor, "b t c"]:
        x = torch.where(mask[..., None], wide(z), 0.0)
        for layer in reversed(list(self.layers)):
            x = layer.inverse(x, mask, condition)
        return x
