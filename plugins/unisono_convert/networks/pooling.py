"""Pooling over time under a mask: cells of some frames, and their undoing.

Shapes: b batch, t frames, s cells, f frames of a cell, d channels. Masks are True where a frame is kept.
"""

from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["pooled", "unpooled"]


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
