"""Relative positions: self-attention with learnt vectors for near distances (Shaw et al., arXiv:1803.02155).

Distances up to ``window`` each have a vector that is added to the keys and one that is added to the values, the same
for all heads. Farther keys have none, as in Glow-TTS (arXiv:2005.11129, after Music Transformer, arXiv:1809.04281);
the paper gives them the vectors of the farthest distance that it knows. So attention is the same wherever in a text
the symbols stand, and a text may be longer than those of training.

Shapes: b batch, t time, h heads, q queries, k keys (as many), c channels of one head, d channels, n distances from
-window to window. Masks are True where a position is kept.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unisono.errors import UnisonoError
from unisono.nn.attention import split_parts
from unisono.nn.fft import keep

__all__ = ["RelativeAttention", "RelativeBlock", "RelativeSizes", "attend_relative"]


@dataclass(frozen=True, kw_only=True)
class RelativeSizes:
    """Sizes of a block, those of Glow-TTS' text encoder as published.

    window: the farthest distance that has vectors of its own.
    """

    dim: int = 192
    num_heads: int = 2
    filter_dim: int = 768
    kernel_size: int = 3
    window: int = 4
    dropout: float = 0.1

    def __post_init__(self):
        if self.num_heads < 1 or self.dim % self.num_heads:
            message = f"num_heads={self.num_heads} must divide dim={self.dim}"
            raise UnisonoError(message, code="range", path="num_heads", value=self.num_heads)
        if self.window < 0:
            message = f"window={self.window} must be at least 0"
            raise UnisonoError(message, code="range", path="window", value=self.window)
        if self.kernel_size % 2 == 0:
            message = f"kernel_size={self.kernel_size} must be odd, so that times stay"
            raise UnisonoError(message, code="value", path="kernel_size", value=self.kernel_size)


class RelativeAttention(nn.Module):
    """Self-attention that hears distances up to a window.

    Args:
        dim: d, divisible by ``num_heads``.
        window: the farthest distance that has vectors of its own.
        dropout: of the weights of attention.
    """

    def __init__(self, dim: int, num_heads: int, window: int = 4, dropout: float = 0.0):
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        size = dim // num_heads
        self.key_table = nn.Parameter(torch.randn(2 * window + 1, size) * size**-0.5)
        self.value_table = nn.Parameter(torch.randn(2 * window + 1, size) * size**-0.5)
        for part in self.qkv.weight.chunk(3):
            nn.init.xavier_uniform_(part)

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b t d"]:
        """``mask`` is None where nothing is padding."""
        q, k, v = split_parts(self.qkv(x), self.num_heads)
        dropout = self.dropout if self.training else 0.0
        return self.out(attend_relative(q, k, v, self.key_table, self.value_table, mask, dropout=dropout))


class RelativeBlock(nn.Module):
    """Relative self-attention and convolutions, each added to what went in.

    ::

        x ─┬─ relative attention ─ (+) ─ LayerNorm ─┬─ conv k ─ ReLU ─ conv k ─ (+) ─ LayerNorm ─
           └────────────────────────┘               └─────────────────────────────┘
    """

    def __init__(self, sizes: RelativeSizes):
        super().__init__()
        dim, filter_dim, kernel_size = sizes.dim, sizes.filter_dim, sizes.kernel_size
        self.attention = RelativeAttention(dim, sizes.num_heads, sizes.window, sizes.dropout)
        self.attention_norm = nn.LayerNorm(dim)
        self.conv_in = nn.Conv1d(dim, filter_dim, kernel_size, padding=kernel_size // 2)
        self.conv_out = nn.Conv1d(filter_dim, dim, kernel_size, padding=kernel_size // 2)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b t d"]:
        """``mask`` is None where nothing is padding; padding comes out as 0."""
        x = self.attention_norm(x + self.dropout(self.attention(x, mask)))
        hidden = self.dropout(F.relu(self.conv_in(keep(x, mask).mT)).mT)
        x = self.feed_forward_norm(x + self.dropout(self.conv_out(keep(hidden, mask).mT).mT))
        return keep(x, mask)


def attend_relative(
    queries: Float[Tensor, "b h q c"],
    keys: Float[Tensor, "b h k c"],
    values: Float[Tensor, "b h k c"],
    key_table: Float[Tensor, "n c"],
    value_table: Float[Tensor, "n c"],
    mask: Bool[Tensor, "b k"] | None = None,
    *,
    dropout: float = 0.0,
) -> Float[Tensor, "b q hc"]:
    """Return what each query sees, the heads joined again.

    A key ``distance`` places behind the query has row ``window + distance`` of both tables. The result at padding
    means nothing.
    """
    window, time = len(key_table) // 2, queries.shape[2]
    queries = queries * queries.shape[-1] ** -0.5
    places = torch.arange(time, device=queries.device)
    row = places - places[:, None] + window  # [q, k]
    near = (row >= 0) & (row <= 2 * window)
    by_distance = queries @ key_table.mT.to(queries.dtype)
    scores = queries @ keys.mT + _taken(by_distance, row.clamp(0, 2 * window), near)
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None], torch.finfo(scores.dtype).min)
    weights = F.dropout(scores.softmax(-1), dropout, training=dropout > 0)
    key = places[:, None] + torch.arange(-window, window + 1, device=queries.device)  # [q, n]
    inside = (key >= 0) & (key < time)
    weights_by_distance = _taken(weights, key.clamp(0, time - 1), inside)
    seen = weights @ values.to(weights.dtype) + weights_by_distance @ value_table.to(weights.dtype)
    return rearrange(seen, "b h q c -> b q (h c)")


def _taken(
    x: Float[Tensor, "b h q m"], index: Int[Tensor, "q r"], where: Bool[Tensor, "q r"]
) -> Float[Tensor, "b h q r"]:
    """Return for each query the entries of its row by number, and 0 where there is none."""
    return x.gather(-1, index.expand(*x.shape[:2], -1, -1)) * where
