"""The diffusion transformer: patches of a noisy picture, modulated by time and condition.

Peebles and Xie, DiT (arXiv:2212.09748), §3.2, adaLN-Zero. Differences:
- Captions are read: their words stand in front of the patches, in the same attention (as in U-ViT, arXiv:2209.12152).
- Queries and keys are normalised (arXiv:2302.05442), so that a high learning rate is safe in bfloat16.
- The vector that modulates may be narrower than the blocks (``condition_dim``): published, modulation is a third of
  all weights.
- Positions are computed for any height and width; variances are not predicted.
- A convolution may follow the last layer (``smooth``, as in U-ViT), so that neighbouring patches can agree at their
  edges: large patches of a small network leave a grid else.

Neither of diffusers' transformers fits: its DiT knows classes alone, draws forgotten ones from the global seed, and
those for text bring encoders of their own.

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

from unisono_image.models.condition import Condition
from unisono_image.models.sizes import DiTSizes


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
        self.modulate = _zero(nn.Linear(condition_dim, 6 * dim))

    def forward(
        self, x: Float[Tensor, "n t d"], e: Float[Tensor, "n e"], mask: Bool[Tensor, "n t"] | None = None
    ) -> Float[Tensor, "n t d"]:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulate(F.silu(e))[:, None].chunk(6, dim=-1)
        x = x + gate1 * self.attend(self.attend_norm(x) * (1 + scale1) + shift1, mask)
        y = self.feed_norm(x) * (1 + scale2) + shift2
        return x + gate2 * self.feed_out(F.gelu(self.feed_in(y), approximate="tanh"))


class DiffusionTransformer(nn.Module):
    """Answers for noisy pictures, or latents, of any size that patches cover.

    ::

        time ─ sinusoids ─ MLP ─(+)─ e ─────────────────────────┬─────────────────┐
        condition ─┬─ vector ────┘                              │                 │
                   └─ words ─ linear ─┐ in front                │                 │
        x ─ patches ─ linear + position ─ DiTBlock × num_layers ┴─ norm, modulate ┴─ linear ─ (conv 3) ─ pictures

    Args:
        sizes: of the network; with ``smooth`` a 3 × 3 convolution follows, which changes nothing at the start.
        channels: of the pictures.
        condition_dim: channels of the condition and of time's code.
        with_words: False where no condition has words.
    """

    def __init__(self, sizes: DiTSizes, channels: int, condition_dim: int, with_words: bool = True):
        super().__init__()
        patch_size, dim = sizes.patch_size, sizes.dim
        self.channels, self.patch_size, self.dim = channels, patch_size, dim
        self.embed = PatchEmbedding(channels, patch_size, dim)
        self.words = nn.Linear(condition_dim, dim) if with_words else None
        self.time = nn.Sequential(nn.Linear(256, condition_dim), nn.SiLU(), nn.Linear(condition_dim, condition_dim))
        self.blocks = nn.ModuleList(DiTBlock(dim, sizes.num_heads, condition_dim) for _ in range(sizes.num_layers))
        self.norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.modulate = _zero(nn.Linear(condition_dim, 2 * dim))
        self.out = _zero(nn.Linear(dim, channels * patch_size**2))
        self.smooth = _dirac(nn.Conv2d(channels, channels, 3, padding=1)) if sizes.smooth else nn.Identity()

    def forward(
        self, x: Float[Tensor, "n c h w"], time: Float[Tensor, " n"], condition: Condition
    ) -> Float[Tensor, "n c h w"]:
        """Return what each row's objective asks for, at its ``time``."""
        p, rows, columns = self.patch_size, x.shape[2] // self.patch_size, x.shape[3] // self.patch_size
        e = self.time(time_code(time, 256).to(next(self.time.parameters()).dtype)) + condition.vector
        tokens = self.embed(x)
        mask, front = None, 0
        if self.words is not None:
            front = condition.words.shape[1]
            tokens = torch.cat([self.words(condition.words).to(tokens.dtype), tokens], dim=1)
            mask = F.pad(condition.mask, (0, rows * columns), value=True)
        for block in self.blocks:
            tokens = block(tokens, e, mask)
        shift, scale = self.modulate(F.silu(e))[:, None].chunk(2, dim=-1)
        tokens = self.out(self.norm(tokens[:, front:]) * (1 + scale) + shift)
        return self.smooth(rearrange(tokens, "b (r k) (c p q) -> b c (r p) (k q)", r=rows, p=p, q=p))


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


def _zero(linear: nn.Linear) -> nn.Linear:
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def _dirac(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.dirac_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv
