"""The transformer of every model here: tokens to logits; what a token sees is an object that the caller gives.

Vaswani et al. 2017 (arXiv:1706.03762) with RMSNorm in front (arXiv:1910.07467), SwiGLU (arXiv:2002.05202) and rotary
positions (arXiv:2104.09864), as in Llama. Difference: layers turn and join nothing themselves. They hand queries, keys
and values to a `Sight`, which knows positions, masks and what is kept: one network then serves branches, workers and
streams.

Shapes: b batch, t tokens, h heads, c channels of a head, d channels, v vocabulary.
"""

import math
from typing import ClassVar, Protocol

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.attention import split_parts
from unisono.nn.modules import Modules
from unisono.nn.tensor_plan import TensorPlan

from unisono_branches.network.sizes import NetworkSizes


class Sight(Protocol):
    """What each token sees, in every layer."""

    def __call__(
        self,
        layer: int,
        queries: Float[Tensor, "b h t c"],
        keys: Float[Tensor, "b h t c"],
        values: Float[Tensor, "b h t c"],
    ) -> Float[Tensor, "b t d"]:
        """Return what each query sees, heads joined; nothing is turned to its position yet."""
        ...


class Layer(nn.Module):
    """Attention and a gated feed-forward, each added to what went in.

    ::

        x ─┬─ norm ─ sight ─ linear ─(+)─┬─ norm ─ SiLU(a)·b ─ linear ─(+)─
           └─────────────────────────┘   └───────────────────────────┘
    """

    tensor_plan: ClassVar[TensorPlan] = TensorPlan(columns={"qkv": 3, "feed_in": 2}, rows=("attention_out", "feed_out"))

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

    def forward(self, x: Float[Tensor, "b t d"], sight: Sight, number: int) -> Float[Tensor, "b t d"]:
        """``number`` is the layer's, by which a sight knows it."""
        q, k, v = split_parts(self.qkv(self.attention_norm(x)), self.num_heads)
        x = x + self.dropout(self.attention_out(sight(number, q, k, v)))
        gate, value = self.feed_in(self.feed_norm(x)).chunk(2, dim=-1)
        return x + self.dropout(self.feed_out(F.silu(gate) * value))


class Transformer(nn.Module):
    """Embedding, layers, a norm, and a head.

    Args:
        vocabulary: tokens that are read and predicted.
        sizes: of the layers.
    """

    def __init__(self, vocabulary: int, sizes: NetworkSizes):
        super().__init__()
        self.sizes = sizes
        self.embedding = nn.Embedding(vocabulary, sizes.dim)
        self.layers = Modules(Layer(sizes) for _ in range(sizes.num_layers))
        self.norm = nn.RMSNorm(sizes.dim)
        self.head = nn.Linear(sizes.dim, vocabulary, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for layer in self.layers:  # so that the sum over layers begins as large as one of them (GPT-2)
            for linear in (layer.attention_out, layer.feed_out):
                nn.init.normal_(linear.weight, std=0.02 / math.sqrt(2 * sizes.num_layers))

    def forward(self, tokens: Int[Tensor, "b t"], sight: Sight) -> Float[Tensor, "b t v"]:
        """Return the logits of what follows each token."""
        return self.head(self.hidden(tokens, sight))

    def hidden(self, tokens: Int[Tensor, "b t"], sight: Sight) -> Float[Tensor, "b t d"]:
        """Return the normalised states that the head reads."""
        x = self.embedding(tokens)
        for number, layer in enumerate(self.layers):
            x = layer(x, sight, number)
        return self.norm(x)
