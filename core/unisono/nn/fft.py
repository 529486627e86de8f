"""The feed-forward transformer of FastSpeech: self-attention and a convolutional feed-forward, for any length.

Ren et al., "FastSpeech" (arXiv:1905.09263), §3.1 and Figure 1b; FastPitch (arXiv:2006.06873) uses the same
with one head. Differences: heads are computed by PyTorch's scaled dot-product attention; padding is zeroed
before every convolution, so that an item alone and in a batch agree.

Shapes: b batch, t time, d channels. Masks are True where a position is kept.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unisono.nn.attention import attend, split_parts


@dataclass(frozen=True, kw_only=True)
class FFTSizes:
    """Sizes of a block, FastSpeech's as published; ``norm_first`` as in ``FFTBlock``."""

    dim: int = 384
    num_heads: int = 2
    head_dim: int = 192
    filter_dim: int = 1536
    kernel_size: int = 3
    dropout: float = 0.1
    norm_first: bool = False


class FFTBlock(nn.Module):
    """One block: self-attention and convolutions, each added to what went in.

    ::

        x ─┬─ self-attention ─ (+) ─ LayerNorm ─┬─ conv k ─ ReLU ─ conv k ─ (+) ─ LayerNorm ─
           └────────────────────┘               └─────────────────────────────┘

    ``norm_first`` puts each LayerNorm before its branch instead of behind the sum (not as published): such a
    stack takes a high learning rate from the start, where the published one needs a long warm-up or collapses.
    """

    def __init__(self, sizes: FFTSizes):
        super().__init__()
        dim, filter_dim, kernel_size = sizes.dim, sizes.filter_dim, sizes.kernel_size
        self.norm_first = sizes.norm_first
        self.num_heads = sizes.num_heads
        self.qkv = nn.Linear(dim, 3 * sizes.num_heads * sizes.head_dim)
        self.out = nn.Linear(sizes.num_heads * sizes.head_dim, dim, bias=False)
        self.attention_norm = nn.LayerNorm(dim)
        self.conv_in = nn.Conv1d(dim, filter_dim, kernel_size, padding=kernel_size // 2)
        self.conv_out = nn.Conv1d(filter_dim, dim, kernel_size, padding=kernel_size // 2)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b t d"]:
        y = self.attention_norm(x) if self.norm_first else x
        q, k, v = split_parts(self.qkv(y), self.num_heads)
        seen = None if mask is None else mask[:, None, None]
        attended = attend(q, k, v, seen, dropout=self.dropout.p if self.training else 0.0)
        x = x + self.dropout(self.out(attended))
        if not self.norm_first:
            x = self.attention_norm(x)
        y = self.feed_forward_norm(x) if self.norm_first else x
        hidden = F.relu(self.conv_in(keep(y, mask).mT)).mT
        x = x + self.dropout(self.conv_out(keep(hidden, mask).mT).mT)
        return keep(x if self.norm_first else self.feed_forward_norm(x), mask)


class FFTStack(nn.Module):
    """Sinusoidal positions, then a number of blocks, and a LayerNorm behind them where they are ``norm_first``."""

    def __init__(self, num_layers: int, sizes: FFTSizes):
        super().__init__()
        self.blocks = nn.ModuleList(FFTBlock(sizes) for _ in range(num_layers))
        self.norm = nn.LayerNorm(sizes.dim) if sizes.norm_first else nn.Identity()
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b t d"]:
        """``mask`` is None where nothing is padding."""
        x = keep(self.dropout(x + sinusoids(x.shape[1], x.shape[2], x.device).to(x.dtype)), mask)
        for block in self.blocks:
            x = block(x, mask)
        return keep(self.norm(x), mask)


def keep(x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b t d"]:
    """Return zeros where a mask does not keep; all of ``x`` without one."""
    return x if mask is None else x * mask[..., None]


def sinusoids(length: int, dim: int, device: torch.device | None = None) -> Float[Tensor, "t d"]:
    """Return the position code of Vaswani et al. 2017, §3.5: sines in the first half, cosines in the second."""
    return position_code(torch.arange(length, device=device), dim)


def position_code(positions: Int[Tensor, " t"], dim: int) -> Float[Tensor, "t d"]:
    """Return the rows of ``sinusoids`` at some positions."""
    half = dim // 2
    rates = torch.exp(torch.arange(half, device=positions.device) * (-math.log(10000.0) / half))
    angles = positions[:, None] * rates
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, dim % 2))
