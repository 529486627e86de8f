"""DiT blocks: patches as tokens, and a transformer block modulated by a condition (Peebles and Xie, arXiv:2212.09748).

§3.2, adaLN-Zero. Difference: queries and keys are normalised (arXiv:2302.05442), so that a high learning rate is safe
in bfloat16.

Shapes: n rows, c channels, h w height and width, p patch size, t tokens, d channels, e channels of the condition.
Masks are True where kept.
"""

import math
from typing import ClassVar

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from unisono.nn.attention import attend, split_heads
from unisono.nn.tensor_plan import TensorPlan


class Attention(nn.Module):
    """Self-attention with normalised queries and keys."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.to_q = nn.Linear(dim, dim)
        self.to_k = nn.Linear(dim, dim)
        self.to_v = nn.Linear(dim, dim)
        self.q_scale = nn.Parameter(torch.ones(dim // num_heads))
        self.k_scale = nn.Parameter(torch.ones(dim // num_heads))
        self.to_out = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "n t d"], mask: Bool[Tensor, "n t"] | None = None) -> Float[Tensor, "n t d"]:
        q, k, v = (split_heads(to(x), self.num_heads) for to in (self.to_q, self.to_k, self.to_v))
        q, k = (
            F.rms_norm(part, part.shape[-1:], scale.to(part.dtype), eps=1e-6).to(v.dtype)
            for part, scale in ((q, self.q_scale), (k, self.k_scale))
        )
        return self.to_out(attend(q, k, v, None if mask is None else mask[:, None, None]))


class PatchEmbedding(nn.Module):
    """Patches of a picture as tokens, row by row, with the codes of their places."""

    def __init__(self, channels: int, patch_size: int, dim: int):
        super().__init__()
        self.patch_size, self.dim = patch_size, dim
        self.linear = nn.Linear(channels * patch_size**2, dim)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n t d"]:
        p, rows, columns = self.patch_size, x.shape[2] // self.patch_size, x.shape[3] // self.patch_size
        tokens = self.linear(rearrange(x, "n c (h p) (w r) -> n (h w) (c p r)", p=p, r=p))
        return tokens + positions(rows, columns, self.dim, x.device).to(tokens.dtype)


class DiTBlock(nn.Module):
    """Attention and feed-forward, each shifted, scaled and gated by the condition; at the start it changes nothing.

    ::

        e ─ SiLU ─ linear ─ shift₁ scale₁ gate₁ shift₂ scale₂ gate₂

        x ─┬─ norm ·(1 + scale₁) + shift₁ ─ attention ─ ·gate₁ ─(+)─┬─ norm ·(1 + scale₂) + shift₂ ─ GELU ─ ·gate₂ ─(+)─
           └────────────────────────────────────────────────────────┘  └────────────────────────────────────────────┘
    """

    tensor_plan: ClassVar[TensorPlan] = TensorPlan(
        columns=dict.fromkeys(("attend.to_q", "attend.to_k", "attend.to_v", "feed_in"), 1),
        rows=("attend.to_out", "feed_out"),
        heads=("attend.num_heads",),
        shared=("attend.q_scale", "attend.k_scale"),
    )

    def __init__(self, dim: int, num_heads: int, condition_dim: int, expansion: int = 4):
        super().__init__()
        self.attend_norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.attend = Attention(dim, num_heads)
        self.feed_norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.feed_in = nn.Linear(dim, expansion * dim)
        self.feed_out = nn.Linear(expansion * dim, dim)
        self.modulate = zeroed(nn.Linear(condition_dim, 6 * dim))

    def forward(
        self, x: Float[Tensor, "n t d"], e: Float[Tensor, "n e"], mask: Bool[Tensor, "n t"] | None = None
    ) -> Float[Tensor, "n t d"]:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulate(F.silu(e))[:, None].chunk(6, dim=-1)
        x = x + gate1 * self.attend(self.attend_norm(x) * (1 + scale1) + shift1, mask)
        y = self.feed_norm(x) * (1 + scale2) + shift2
        return x + gate2 * self.feed_out(F.gelu(self.feed_in(y), approximate="tanh"))


def time_code(time: Float[Tensor, " n"], dim: int, slowest: float = 10000.0) -> Float[Tensor, "n d"]:
    """Return cosines and sines of times, at rates from 1 to 1/``slowest`` (Ho et al., arXiv:2006.11239, appendix B)."""
    half = dim // 2
    rates = torch.exp(torch.arange(half, device=time.device) * (-math.log(slowest) / half))
    angles = time.float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def positions(rows: int, columns: int, dim: int, device: torch.device | None = None) -> Float[Tensor, "t d"]:
    """Return codes of a grid's places, row by row: half of the channels for the row, half for the column."""
    down, right = (time_code(torch.arange(n, device=device).float(), dim // 2) for n in (rows, columns))
    both = [down[:, None].expand(-1, columns, -1), right[None].expand(rows, -1, -1)]
    return torch.cat(both, dim=-1).flatten(0, 1)


def zeroed(linear: nn.Linear) -> nn.Linear:
    """Return a layer that answers 0 at the start."""
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
