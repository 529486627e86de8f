"""Lightweight convolution: depthwise, its taps shared by the channels of a head and a softmax over time (LConv).

Wu et al., "Pay Less Attention with Lightweight and Dynamic Convolutions" (arXiv:1901.10430), §3; the block is that of
Parallel Tacotron (arXiv:2010.11439). Difference: positions outside a mask are zeroed before the convolution, so
that an item alone and in a batch agree.

Shapes: b batch, t time, d channels, h heads, k taps. Masks are True where a position is kept.
"""

from dataclasses import dataclass

import torch
from einops import repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from unisono.errors import UnisonoError
from unisono.nn.fft import keep
from unisono.nn.modules import Modules


@dataclass(frozen=True, kw_only=True)
class LConvSizes:
    """Sizes of a block.

    dim: channels.
    num_heads: heads, each with taps of its own; they divide ``dim``.
    kernel_size: taps, an odd number.
    filter_factor: how many times more channels there are between the two linear layers behind the convolution.
    dropout: of both branches.
    norm_first: as in ``LConvBlock``.
    """

    dim: int = 256
    num_heads: int = 8
    kernel_size: int = 17
    filter_factor: int = 4
    dropout: float = 0.1
    norm_first: bool = False


class LightweightConv(nn.Module):
    """Each position is a mean of its neighbours, by weights that a head's channels share, the same at all times.

        y[t, c] = Σ_i softmax(w_h)[i] · x[t + i − ⌊k / 2⌋, c],   h = ⌊c · h / d⌋

    Beyond both ends there are zeros. Raises ``UnisonoError`` where heads do not divide channels, or taps are even.
    """

    def __init__(self, dim: int, num_heads: int, kernel_size: int):
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            message = f"num_heads={num_heads} must divide dim={dim}: take a divisor"
            raise UnisonoError(message, code="value", path="num_heads", value=num_heads)
        if kernel_size % 2 == 0 or kernel_size < 1:
            message = f"kernel_size={kernel_size} must be odd, so that a position is in the middle of its neighbours"
            raise UnisonoError(message, code="value", path="kernel_size", value=kernel_size)
        self.dim = dim
        self.taps = nn.Parameter(torch.empty(num_heads, kernel_size))
        nn.init.xavier_uniform_(self.taps)

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None = None) -> Float[Tensor, "b t d"]:
        """``mask`` is None where nothing is padding; positions outside it are zeros for their neighbours."""
        num_heads, kernel_size = self.taps.shape
        weight = repeat(self.taps.softmax(-1), "h k -> (h n) 1 k", n=self.dim // num_heads)
        return F.conv1d(keep(x, mask).mT, weight, padding=kernel_size // 2, groups=self.dim).mT


class LConvBlock(nn.Module):
    """A gated lightweight convolution and a feed-forward layer, each added to what went in.

    ::

        x ─┬─ Linear ─ GLU ─ LConv ─ Linear ─ (+) ─ LayerNorm ─┬─ Linear ─ ReLU ─ Linear ─ (+) ─ LayerNorm ─
           └───────────────────────────────────┘               └────────────────────────────┘

    ``norm_first`` puts each LayerNorm before its branch instead of behind the sum (not as published): such a stack
    takes a high learning rate from the start.
    """

    def __init__(self, sizes: LConvSizes):
        super().__init__()
        dim = sizes.dim
        self.norm_first = sizes.norm_first
        self.gate = nn.Linear(dim, 2 * dim)
        self.conv = LightweightConv(dim, sizes.num_heads, sizes.kernel_size)
        self.conv_out = nn.Linear(dim, dim)
        self.conv_norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, sizes.filter_factor * dim)
        self.project = nn.Linear(sizes.filter_factor * dim, dim)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None = None) -> Float[Tensor, "b t d"]:
        """``mask`` is None where nothing is padding; the output is 0 there."""
        y = self.conv_norm(x) if self.norm_first else x
        x = x + self.dropout(self.conv_out(self.conv(F.glu(self.gate(y), -1), mask)))
        if not self.norm_first:
            x = self.conv_norm(x)
        y = self.feed_forward_norm(x) if self.norm_first else x
        x = x + self.dropout(self.project(F.relu(self.expand(y))))
        return keep(x if self.norm_first else self.feed_forward_norm(x), mask)


class LConvStack(nn.Module):
    """A number of blocks, and a LayerNorm behind them where they are ``norm_first``; it knows no absolute positions."""

    def __init__(self, num_layers: int, sizes: LConvSizes):
        super().__init__()
        self.blocks = Modules(LConvBlock(sizes) for _ in range(num_layers))
        self.norm = nn.LayerNorm(sizes.dim) if sizes.norm_first else nn.Identity()

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None = None) -> Float[Tensor, "b t d"]:
        """``mask`` is None where nothing is padding."""
        x = keep(x, mask)
        for block in self.blocks:
            x = block(x, mask)
        return keep(self.norm(x), mask)
