"""Conformer: attention for what is far, convolution for what is near, between two halves of a feed-forward.

Gulati et al., arXiv:2005.08100. Differences: rotary positions (Su et al., arXiv:2104.09864) in place of relative ones;
LayerNorm in place of BatchNorm inside the convolution module, so that an item does not depend on its batch; padding is
zeroed before the convolution; attention itself has no dropout.

Shapes: b batch, t time, d channels. Masks are True where a position is kept.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from unisono.nn.attention import attend, split_parts
from unisono.nn.rotary import Rotation, rotate, rotation

__all__ = ["ConformerBlock", "ConformerParts", "FeedForward", "GatedConvolution"]


class FeedForward(nn.Module):
    """LayerNorm ─ Linear ─ SiLU ─ dropout ─ Linear ─ dropout."""

    def __init__(self, dim: int, filter_dim: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.inside = nn.Linear(dim, filter_dim)
        self.out = nn.Linear(filter_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return self.dropout(self.out(self.dropout(F.silu(self.inside(self.norm(x))))))


class GatedConvolution(nn.Module):
    """LayerNorm ─ Linear ─ GLU ─ depthwise conv k ─ LayerNorm ─ SiLU ─ Linear ─ dropout; ``kernel_size`` is odd."""

    def __init__(self, dim: int, kernel_size: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.inside = nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.depthwise_norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        near = F.glu(self.inside(self.norm(x)), -1) * mask[..., None]
        return self.dropout(self.out(F.silu(self.depthwise_norm(self.depthwise(near.mT).mT))))


class ConformerParts(nn.Module):
    """The parts of a block, for blocks that end otherwise than `ConformerBlock`; ``mixed`` is what all begin with.

    Args:
        dim: channels, a multiple of twice ``num_heads``.
        num_heads: of the attention.
        filter_dim: of the feed-forward.
        kernel_size: of the depthwise convolution, odd.
        dropout: in [0, 1).
    """

    def __init__(self, *, dim: int, num_heads: int, filter_dim: int, kernel_size: int, dropout: float):
        super().__init__()
        self.num_heads = num_heads
        self.before = FeedForward(dim, filter_dim, dropout)
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.make_convolution(dim, kernel_size, dropout)
        self.after = FeedForward(dim, filter_dim, dropout)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def make_convolution(self, dim: int, kernel_size: int, dropout: float) -> None:
        """Make the convolution module: a subclass may give its weights other names, and then defines `convolve`."""
        self.convolution = GatedConvolution(dim, kernel_size, dropout)

    def mixed(
        self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"], places: Rotation | None = None
    ) -> Float[Tensor, "b t d"]:
        """Return ``x`` up to the convolution module and with it; ``places`` are 0, 1, 2 … unless given."""
        return self.convolve(self.attend(x + 0.5 * self.before(x), mask, places), mask)

    def attend(
        self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"], places: Rotation | None = None
    ) -> Float[Tensor, "b t d"]:
        """Add what attention sees."""
        q, k, v = split_parts(self.qkv(self.attention_norm(x)), self.num_heads)
        if places is None:
            places = rotation(torch.arange(x.shape[1]), q.shape[-1], device=x.device)
        # no dropout here: with it, a CPU has no fast kernel, and a training step takes half as long again
        seen = attend(rotate(q, places), rotate(k, places), v, mask[:, None, None])
        return x + self.dropout(self.attention_out(seen))

    def convolve(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        """Add what the convolution makes of the positions nearby."""
        return x + self.convolution(x, mask)


class ConformerBlock(ConformerParts):
    """One block.

    ::

        x ─ + ½ feed-forward ─ + attention ─ + convolution ─ + ½ feed-forward ─ LayerNorm ─

        attention      LayerNorm ─ q, k, v ─ rotate q and k ─ softmax ─ Linear
    """

    def forward(
        self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"], places: Rotation | None = None
    ) -> Float[Tensor, "b t d"]:
        """Return what the block makes of vectors; ``places`` are 0, 1, 2 … unless given."""
        x = self.mixed(x, mask, places)
        return self.norm(x + 0.5 * self.after(x))
