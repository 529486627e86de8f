"""Merges: how a Branchformer's two branches become one (Peng et al., arXiv:2207.02971, §3.3; arXiv:2210.00077, §3).

    concat     both beside one another, through a linear layer                                        as published
    learned    a weighted mean; the weights come from what each branch holds on average               §3.3.2
    fixed      a mean with constant weights                                                           ablation
    depthwise  concat, with a depthwise convolution added before the linear layer                     E-Branchformer

Shapes: b batch, t time, d channels.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unisono_asr.networks.convolution import Past, TimeConvolution


class Concat(nn.Module):
    """Both branches beside one another, through a linear layer."""

    def __init__(self, dim: int):
        super().__init__()
        self.out = nn.Linear(2 * dim, dim)

    def forward(
        self, near: Float[Tensor, "b t d"], far: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"], past: Past | None
    ) -> Float[Tensor, "b t d"]:
        """``far`` is the branch of attention, ``near`` that of the cgMLP."""
        return self.out(torch.cat([far, near], -1))


class Depthwise(nn.Module):
    """Concat, with a depthwise convolution of it added before the linear layer."""

    def __init__(self, dim: int, kernel_size: int, causal: bool):
        super().__init__()
        self.conv = TimeConvolution(2 * dim, kernel_size, causal)
        self.out = nn.Linear(2 * dim, dim)

    def forward(
        self, near: Float[Tensor, "b t d"], far: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"], past: Past | None
    ) -> Float[Tensor, "b t d"]:
        both = torch.cat([far, near], -1)
        return self.out(both + self.conv(both, mask, past, "merge"))


class Fixed(nn.Module):
    """A mean with constant weights: ``share`` of the cgMLP, the rest of attention."""

    def __init__(self, dim: int, share: float):
        super().__init__()
        self.share = share
        self.out = nn.Linear(dim, dim)

    def forward(
        self, near: Float[Tensor, "b t d"], far: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"], past: Past | None
    ) -> Float[Tensor, "b t d"]:
        return self.out(self.share * near + (1 - self.share) * far)


class Learned(nn.Module):
    """A weighted mean whose weights a recording's own branches give.

    Each branch is pooled over time by attention, projected to a number, and the two numbers go through a softmax. In
    training the branch of attention is left out of a block with probability ``dropout``, so that it can be cut away
    later (branch dropout).
    """

    def __init__(self, dim: int, dropout: float):
        super().__init__()
        self.dropout = dropout
        self.pool = nn.ModuleList(nn.Linear(dim, 1) for _ in range(2))
        self.weigh = nn.ModuleList(nn.Linear(dim, 1) for _ in range(2))
        self.out = nn.Linear(dim, dim)

    def forward(
        self, near: Float[Tensor, "b t d"], far: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"], past: Past | None
    ) -> Float[Tensor, "b t d"]:
        if self.training and self.dropout and float(torch.rand(())) < self.dropout:
            return self.out(near)
        weights = []
        for branch, pool, weigh in zip((far, near), self.pool, self.weigh, strict=True):
            score = (pool(branch)[..., 0] / branch.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
            weights.append(weigh((score.softmax(-1)[..., None] * branch).sum(1)))
        of_far, of_near = torch.stack(weights).softmax(0)[..., None]
        return self.out(of_far * far + of_near * near)
