"""Pooling: one vector of a whole sequence, by attention under a mask (Okabe et al., arXiv:1803.10963).

Shapes: b batch, t time, d channels, c = 2 d. Masks are True where a position is kept.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

__all__ = ["AttentiveStatistics"]


class AttentiveStatistics(nn.Module):
    """Weighted mean and standard deviation over time, the weights learnt: [b, t, d] to [b, 2 d]."""

    def __init__(self, dim: int):
        super().__init__()
        self.inside = nn.Linear(dim, dim // 2)
        self.weight = nn.Linear(dim // 2, dim)

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b c"]:
        score = self.weight(self.inside(x).tanh()).float().masked_fill(~mask[..., None], -torch.inf)
        share, x = score.softmax(1), x.float()
        mean = (share * x).sum(1)
        spread = (share * (x - mean[:, None]).square()).sum(1)
        return torch.cat([mean, (spread + 1e-6).sqrt()], -1)
