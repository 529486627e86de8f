"""Styled layers: a linear layer whose weights a style scales, and attention of which several layers use the weights.

The style multiplies the input of a layer, channel by channel, and the output is divided by the length that the scaled
row of weights has (Styleformer, arXiv:2106.07023, after StyleGAN2's demodulation, arXiv:1912.04958)::

    y_o = Σ_i W_oi s_i x_i / √(Σ_i (W_oi s_i)² + ε) + b_o

So a style decides which channels count, and not how loud the result is; and it is not a vector that is added.

Shapes: b batch, t frames, i, o channels in and out, e style, h heads, c channels of a head, d = h c.
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from unisono.nn.attention import split_heads
from unisono.nn.rotary import rotate, rotation

__all__ = ["AttentionWeights", "NonlinearAttention", "SharedAttention", "StyledLinear"]

EPS = 1e-8


class StyledLinear(nn.Module):
    """A linear layer under a style. At first every style scales by about 1, so that it begins as a plain one, of rows
    of length 1."""

    def __init__(self, dim: int, out_dim: int, style_dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_dim, dim) / dim**0.5)
        self.bias = nn.Parameter(torch.zeros(out_dim))
        self.scale = nn.Linear(style_dim, dim)
        nn.init.ones_(self.scale.bias)

    def forward(self, x: Float[Tensor, "b t i"], style: Float[Tensor, "b e"]) -> Float[Tensor, "b t o"]:
        scale = self.scale(style)
        lengths = (scale.square() @ self.weight.square().mT + EPS).rsqrt()
        return (x * scale[:, None]) @ self.weight.mT * lengths[:, None] + self.bias


class AttentionWeights(nn.Module):
    """Which frames each frame looks at: computed once for all layers of a block that share it (Zipformer,
    arXiv:2310.11230); queries and keys are styled."""

    def __init__(self, dim: int, num_heads: int, head_dim: int, style_dim: int):
        super().__init__()
        self.num_heads = num_heads
        self.queries_keys = StyledLinear(dim, 2 * num_heads * head_dim, style_dim)

    def forward(
        self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"], style: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b h t t"]:
        q, k = (split_heads(part, self.num_heads) for part in self.queries_keys(x, style).chunk(2, -1))
        places = rotation(torch.arange(x.shape[1]), q.shape[-1], device=x.device)
        scores = rotate(q, places) @ rotate(k, places).mT * q.shape[-1] ** -0.5
        return scores.masked_fill(~mask[:, None, None], torch.finfo(scores.dtype).min).softmax(-1)


class SharedAttention(nn.Module):
    """Attention by given weights, values and output styled."""

    def __init__(self, dim: int, num_heads: int, head_dim: int, style_dim: int):
        super().__init__()
        self.num_heads = num_heads
        self.value = StyledLinear(dim, num_heads * head_dim, style_dim)
        self.out = StyledLinear(num_heads * head_dim, dim, style_dim)

    def forward(
        self, x: Float[Tensor, "b t d"], weights: Float[Tensor, "b h t t"], style: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b t d"]:
        seen = weights @ split_heads(self.value(x, style), self.num_heads)
        return self.out(rearrange(seen, "b h t c -> b t (h c)"), style)


class NonlinearAttention(nn.Module):
    """Zipformer's non-linear attention: ``out(a ⊙ A₀ (tanh(b) ⊙ c))`` with the weights A₀ of the first head."""

    def __init__(self, dim: int, hidden_dim: int, style_dim: int):
        super().__init__()
        self.inside = StyledLinear(dim, 3 * hidden_dim, style_dim)
        self.out = StyledLinear(hidden_dim, dim, style_dim)

    def forward(
        self, x: Float[Tensor, "b t d"], weights: Float[Tensor, "b h t t"], style: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b t d"]:
        a, b, c = self.inside(x, style).chunk(3, -1)
        return self.out(a * (weights[:, 0] @ (b.tanh() * c)), style)
