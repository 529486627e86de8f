"""Attention of a Zipformer: weights that are computed once and read by three modules (arXiv:2310.11230, §3.1, §3.2).

A score is query · key + p · code(distance), with p a third, small projection of the query's vector, and a code of
distances that tells near ones apart and far ones hardly.

Shapes: b batch, h heads, t q k frames, d channels, n distances from −(t − 1) to t − 1.
"""

import math

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unisono_tts.zipvoice.parts import scaled_linear
from unisono_tts.zipvoice.sizes import LayerSizes


def distance_code(frames: int, dim: int, device: torch.device | None = None) -> Float[Tensor, "n d"]:
    """Return the code of each distance between two of ``frames`` frames, from the farthest before to behind.

    Distances are compressed by a logarithm and an arc tangent to (−π/2, π/2), and sines and cosines of 1 to ``dim`` / 2
    times that are taken; the last sine's place holds 1, for a bias.
    """
    distances = torch.arange(1 - frames, frames, device=device, dtype=torch.float32)
    soft = math.sqrt(dim)
    compressed = soft * distances.sign() * ((distances.abs() + soft).log() - math.log(soft))
    angles = (compressed * 2 * math.pi / dim).atan()[:, None] * torch.arange(1, dim // 2 + 1, device=device)
    code = rearrange(torch.stack([angles.cos(), angles.sin()], -1), "n k two -> n (k two)")
    return torch.cat([code[:, :-1], torch.ones_like(code[:, :1])], 1)


def by_distance(p: Float[Tensor, "b h t c"], code: Float[Tensor, "n h c"]) -> Float[Tensor, "b h t t"]:
    """Return p · code of the distance of each key behind each query."""
    frames = p.shape[2]
    windows = code.unfold(0, frames, 1).flip(0)  # [t, h, c, t]: of each query, the codes of all keys
    return torch.einsum("bhtc,thck->bhtk", p, windows)


class AttentionWeights(nn.Module):
    """Weights by which frames see each other, for each head."""

    def __init__(self, sizes: LayerSizes):
        super().__init__()
        self.heads, self.query_dim, self.position_dim = sizes.num_heads, sizes.query_dim, sizes.position_dim
        self.code_dim = sizes.code_dim
        self.project = nn.Linear(sizes.dim, sizes.num_heads * (2 * sizes.query_dim + sizes.position_dim))
        self.positions = scaled_linear(sizes.code_dim, sizes.num_heads * sizes.position_dim, 0.05, bias=False)

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b h t t"]:
        q, k, p = rearrange(self.project(x), "b t (h c) -> b h t c", h=self.heads).split(
            [self.query_dim, self.query_dim, self.position_dim], -1
        )
        code = self.positions(distance_code(x.shape[1], self.code_dim, x.device).to(x.dtype))
        scores = (q * self.query_dim**-0.5) @ k.mT
        scores = scores + by_distance(p, rearrange(code, "n (h c) -> n h c", h=self.heads))
        scores += torch.where(mask, 0.0, -1000.0).to(scores.dtype)[:, None, None]
        return scores.float().softmax(-1).to(scores.dtype)


class WeightedSum(nn.Module):
    """Values summed by given weights."""

    def __init__(self, sizes: LayerSizes):
        super().__init__()
        self.heads = sizes.num_heads
        self.values = nn.Linear(sizes.dim, sizes.num_heads * sizes.value_dim)
        self.out = scaled_linear(sizes.num_heads * sizes.value_dim, sizes.dim, 0.05)

    def forward(self, x: Float[Tensor, "b t d"], weights: Float[Tensor, "b h t t"]) -> Float[Tensor, "b t d"]:
        seen = weights @ rearrange(self.values(x), "b t (h c) -> b h t c", h=self.heads)
        return self.out(rearrange(seen, "b h t c -> b t (h c)"))


class NonlinearSum(nn.Module):
    """gate · sum of (value · tanh) by the first head's weights."""

    def __init__(self, sizes: LayerSizes):
        super().__init__()
        hidden = 3 * sizes.dim // 4
        self.project = nn.Linear(sizes.dim, 3 * hidden)
        self.out = scaled_linear(hidden, sizes.dim, 0.05)

    def forward(self, x: Float[Tensor, "b t d"], weights: Float[Tensor, "b h t t"]) -> Float[Tensor, "b t d"]:
        squashed, value, gate = self.project(x).chunk(3, -1)
        return self.out(weights[:, 0] @ (value * squashed.tanh()) * gate)
