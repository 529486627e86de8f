"""Prior: where the latents of each symbol lie, and the alignment that makes them likeliest (arXiv:2005.11129, §3.1).

Shapes: b batch, s tokens, t frames, m mel bins, d channels.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Prior", "gaussian_log_likelihood", "log_likelihoods"]

LOG_TWO_PI = math.log(2 * math.pi)


class Prior(nn.Module):
    """A Gaussian for each token: its mean, and deviation 1 as published, or learnt from 1 on.

    Args:
        dim: d.
        num_mels: m.
        learnt: whether the deviation is learnt.
    """

    def __init__(self, dim: int, num_mels: int, learnt: bool = False):
        super().__init__()
        self.mean = nn.Linear(dim, num_mels)
        self.log_std = nn.Linear(dim, num_mels) if learnt else None
        if self.log_std is not None:
            nn.init.zeros_(self.log_std.weight)
            nn.init.zeros_(self.log_std.bias)

    def forward(self, x: Float[Tensor, "b s d"]) -> tuple[Float[Tensor, "b s m"], Float[Tensor, "b s m"]]:
        """Return means, and logarithms of the deviations, in float32."""
        mean = self.mean(x).float()
        return mean, torch.zeros_like(mean) if self.log_std is None else self.log_std(x).float()


def log_likelihoods(
    z: Float[Tensor, "b t m"], mean: Float[Tensor, "b s m"], log_std: Float[Tensor, "b s m"]
) -> Float[Tensor, "b t s"]:
    """Return log N(z; mean, std) of each frame under each token, by products of matrices, in at least 32 bits."""
    with torch.autocast(z.device.type, enabled=False):
        precision = (-2 * log_std).exp()
        constant = -(0.5 * mean.square() * precision + log_std + 0.5 * LOG_TWO_PI).sum(-1)
        square = -0.5 * z.square() @ precision.mT
        return square + z @ (mean * precision).mT + constant[:, None]


def gaussian_log_likelihood(
    z: Float[Tensor, "b t m"], mean: Float[Tensor, "b t m"], log_std: Float[Tensor, "b t m"]
) -> Float[Tensor, "b t"]:
    """Return log N(z; mean, std) of each frame, summed over its channels."""
    return -(0.5 * ((z - mean) * (-log_std).exp()).square() + log_std + 0.5 * LOG_TWO_PI).sum(-1)
