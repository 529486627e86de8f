"""Blocks: parts of Matcha's U-Net (arXiv:2309.03199, §3.2): residual convolutions, transformer blocks with snake-β.

Differences from the published code, which reads padding: group normalisation takes its statistics over valid frames
only, and attention leaves padding out, where the code adds 1 to the scores of all other frames.

Shapes: b batch, c channels, t frames, k channels of the time embedding. Masks are True where a frame is kept.
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.attention import attend, split_parts
from unisono.nn.norm import MaskedInstanceNorm


class MaskedGroupNorm(nn.Module):
    """Group normalisation (Wu and He, arXiv:1803.08494) over an item's valid frames; elsewhere the result is 0."""

    def __init__(self, groups: int, channels: int):
        super().__init__()
        self.groups = groups
        self.norm = MaskedInstanceNorm(groups, affine=False)
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "b c t"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b c t"]:
        x = self.norm(rearrange(x, "b (g n) t -> b g t n", g=self.groups), mask)
        x = rearrange(x, "b g t n -> b (g n) t")
        return (x * self.weight[:, None] + self.bias[:, None]) * mask[:, None]


class ConvBlock(nn.Module):
    """conv 3 ─ group normalisation ─ Mish."""

    def __init__(self, dim: int, dim_out: int, groups: int):
        super().__init__()
        self.conv = nn.Conv1d(dim, dim_out, 3, padding=1)
        self.norm = MaskedGroupNorm(groups, dim_out)

    def forward(self, x: Float[Tensor, "b c t"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b d t"]:
        return F.mish(self.norm(self.conv(x * mask[:, None]), mask)) * mask[:, None]


class ResidualBlock(nn.Module):
    """Two ``ConvBlock``s with the time between them, and a convolution of width 1 around them."""

    def __init__(self, dim: int, dim_out: int, time_dim: int, groups: int):
        super().__init__()
        self.time = nn.Linear(time_dim, dim_out)
        self.first = ConvBlock(dim, dim_out, groups)
        self.second = ConvBlock(dim_out, dim_out, groups)
        self.around = nn.Conv1d(dim, dim_out, 1)

    def forward(
        self, x: Float[Tensor, "b c t"], mask: Bool[Tensor, "b t"], time: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b d t"]:
        hidden = self.first(x, mask) + self.time(F.mish(time))[..., None]
        return self.second(hidden, mask) + self.around(x) * mask[:, None]


class SnakeBeta(nn.Module):
    """x + sin²(α·x) / β, α and β learnt for each channel by their logarithms (Ziyin et al., arXiv:2006.08195)."""

    def __init__(self, channels: int):
        super().__init__()
        self.log_alpha = nn.Parameter(torch.zeros(channels))
        self.log_beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "b t c"]:
        return x + (x * self.log_alpha.exp()).sin().square() * (-self.log_beta).exp()


class TransformerBlock(nn.Module):
    """LayerNorm ─ attention, LayerNorm ─ linear ─ snake-β ─ linear, each added to what went in. No positions: the
    convolutions around it tell them."""

    def __init__(self, dim: int, num_heads: int, head_dim: int, dropout: float):
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * num_heads * head_dim, bias=False)
        self.out = nn.Linear(num_heads * head_dim, dim)
        self.feed_norm = nn.LayerNorm(dim)
        self.feed_in = nn.Linear(dim, 4 * dim)
        self.snake = SnakeBeta(4 * dim)
        self.feed_out = nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b t c"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t c"]:
        q, k, v = split_parts(self.qkv(self.attention_norm(x)), self.num_heads)
        x = x + self.dropout(self.out(attend(q, k, v, mask[:, None, None])))
        return x + self.feed_out(self.dropout(self.snake(self.feed_in(self.feed_norm(x)))))
