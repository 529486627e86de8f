"""The transformer of the policies: vectors in, vectors out; what sees what is said by a mask.

Vaswani et al. 2017 (arXiv:1706.03762) with RMSNorm in front (arXiv:1910.07467) and SwiGLU (arXiv:2002.05202), as in
the Llama that OpenVLA is built on. Difference: places are learned vectors that come with the input, since a policy
reads a few dozen places of fixed meaning.

Shapes: b batch, t places, k keys (kept ones and new ones), d channels. Masks: True = keep.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.attention import attend, split_parts
from unisono.nn.modules import Modules
from unisono.nn.tensor_plan import TensorPlan
from unisono.verify import KVCache

from unisono_control.models.sizes import NetworkSizes


class Layer(nn.Module):
    """Self-attention and a gated feed-forward, each added to what went in.

    ::

        x ─┬─ norm ─ self-attention ─(+)─┬─ norm ─ SiLU(a)·b ─ linear ─(+)─
           └─────────────────────────┘   └───────────────────────────┘
    """

    tensor_plan = TensorPlan(columns={"qkv": 3, "feed_in": 2}, rows=("attention_out", "feed_out"))

    def __init__(self, sizes: NetworkSizes):
        super().__init__()
        dim, filter_dim = sizes.dim, sizes.filter_dim or 32 * math.ceil(sizes.dim * 8 / 3 / 32)
        self.num_heads = sizes.num_heads
        self.attention_norm = nn.RMSNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.attention_out = nn.Linear(dim, dim, bias=False)
        self.feed_norm = nn.RMSNorm(dim)
        self.feed_in = nn.Linear(dim, 2 * filter_dim, bias=False)
        self.feed_out = nn.Linear(filter_dim, dim, bias=False)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(
        self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b 1 t k"] | None, cache: KVCache | None, number: int
    ) -> Float[Tensor, "b t d"]:
        """``number`` is the layer's, by which a cache knows it."""
        q, k, v = split_parts(self.qkv(self.attention_norm(x)), self.num_heads)
        if cache is not None:
            k, v = cache.append(number, k, v)
        dropped = self.dropout.p if self.training else 0.0
        x = x + self.dropout(self.attention_out(attend(q, k, v, mask, dropout=dropped)))
        gate, value = self.feed_in(self.feed_norm(x)).chunk(2, dim=-1)
        return x + self.dropout(self.feed_out(F.silu(gate) * value))


class Transformer(nn.Module):
    """Layers one after the other, and a norm."""

    def __init__(self, sizes: NetworkSizes):
        super().__init__()
        self.layers = Modules(Layer(sizes) for _ in range(sizes.num_layers))
        self.norm = nn.RMSNorm(sizes.dim)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
        for layer in self.layers:  # so that the sum over layers begins as large as one of them (GPT-2)
            for linear in (layer.attention_out, layer.feed_out):
                nn.init.normal_(linear.weight, std=0.02 / math.sqrt(2 * sizes.num_layers))

    def forward(
        self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t k"] | None = None, cache: KVCache | None = None
    ) -> Float[Tensor, "b t d"]:
        """Return the normalised states; ``mask`` says what each place sees, None: everything."""
        seen = None if mask is None else mask[:, None]
        for number, layer in enumerate(self.layers):
            x = layer(x, seen, cache, number)
        return self.norm(x)


def prefix_mask(count: int, total: int, device: torch.device | None = None) -> Bool[Tensor, "t t"]:
    """Return what places see: the first ``count`` each other, the others these and what is not behind them."""
    mask = torch.ones(total, total, dtype=torch.bool, device=device).tril()
    mask[:count, :count] = True
    return mask
