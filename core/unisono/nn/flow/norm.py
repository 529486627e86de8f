"""ActNorm: a scale and a shift of each channel that begin by standardising the first batch (Glow, arXiv:1807.03039).

Difference: the first batch's scale and shift are kept beside the learnt ones, which begin at 0, instead of being
written into them. The map is the same, and so are its gradients; but weights that are sharded, averaged or frozen need
no special care, and weight decay pulls towards the data's own scale.

Shapes: b batch, t time, c channels. Masks are True at valid places.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unisono.nn.flow.layer import FlowLayer, Moved
from unisono.nn.wide import wide
from unisono.peers import add_up

__all__ = ["ActNorm"]

LEAST_VARIANCE = 1e-6


class ActNorm(FlowLayer):
    """``z = exp(log_scale) · x + shift``, for each channel.

    The first batch of training, over all processes and without its padding, comes out with mean 0 and variance 1.
    That it was seen is part of the state, so that a resumed or fine-tuned model keeps what it has; validation before
    it passes through unchanged.

    Args:
        channels: c.
    """

    seen: Tensor
    first_log_scale: Tensor
    first_shift: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        # One flag for each channel: a state of other sizes brings neither flags nor values.
        self.register_buffer("seen", torch.zeros(channels, dtype=torch.bool))
        self.register_buffer("first_log_scale", torch.zeros(channels))
        self.register_buffer("first_shift", torch.zeros(channels))

    def forward(
        self, x: Float[Tensor, "b t c"], mask: Bool[Tensor, "b t"], condition: Float[Tensor, "b u g"] | None = None
    ) -> Moved:
        if self.training and not self.seen.all():
            self._standardise(x, mask)
        log_scale, shift = self._both()
        z = (log_scale.exp() * x + shift) * mask[..., None]
        return z, log_scale.sum() * mask.sum(1)

    def inverse(
        self, z: Float[Tensor, "b t c"], mask: Bool[Tensor, "b t"], condition: Float[Tensor, "b u g"] | None = None
    ) -> Float[Tensor, "b t c"]:
        log_scale, shift = self._both()
        return (z - shift) * (-log_scale).exp() * mask[..., None]

    def _both(self) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
        return (
            wide(self.first_log_scale) + wide(self.log_scale),
            wide(self.first_shift) + wide(self.shift),
        )

    @torch.no_grad()
    def _standardise(self, x: Float[Tensor, "b t c"], mask: Bool[Tensor, "b t"]) -> None:
        inside = torch.where(mask[..., None], x.detach().double(), 0.0)
        sums = torch.stack([inside.sum((0, 1)), inside.square().sum((0, 1)), mask.sum().double().expand(x.shape[2])])
        first, second, count = add_up(sums)
        mean = first / count.clamp(min=1)
        variance = (second / count.clamp(min=1) - mean.square()).clamp(min=LEAST_VARIANCE)
        log_scale = -0.5 * variance.log()
        self.first_log_scale.copy_(log_scale - self.log_scale)
        self.first_shift.copy_(-mean * log_scale.exp() - self.shift)
        self.seen.fill_(True)
