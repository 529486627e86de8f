"""Pooling over time under a mask: cells of some frames, their undoing, and one vector of a whole recording.

Shapes: b batch, t frames, s cells, f frames of a cell, d channels. Masks are True where a frame is kept.
"""

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["AttentiveStatistics", "pooled", "unpooled"]


def pooled(
    x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"], factor: int
) -> tuple[Float[Tensor, "b s d"], Bool[Tensor, "b s"]]:
    """Average cells of ``factor`` frames, of the last one as many as there are; also return which cells hold any.

    There are ``⌈t / factor⌉`` cells. What stands on padding is not read.
    """
    short = -x.shape[1] % factor
    inside = F.pad(mask, (0, short))
    held = F.pad(x * mask[..., None], (0, 0, 0, short))
    total = rearrange(held, "b (s f) d -> b s f d", f=factor).sum(2)
    count = rearrange(inside, "b (s f) -> b s f", f=factor).sum(2)
    return total / count.clamp(min=1)[..., None].to(x.dtype), count > 0


def unpooled(cells: Float[Tensor, "b s d"], factor: int, num_frames: int) -> Float[Tensor, "b t d"]:
    """Give each frame the vector of the cell that it was pooled into: frame i that of cell ``⌊i / factor⌋``."""
    return repeat(cells, "b s d -> b (s f) d", f=factor)[:, :num_frames]


class AttentiveStatistics(nn.Module):
    """Weighted mean and standard deviation over time, the weights learnt (Okabe et al., arXiv:1803.10963):
    [b, t, d] to [b, 2 d]."""

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
