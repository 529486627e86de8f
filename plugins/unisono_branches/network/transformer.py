"""The transformer of every model here: tokens to logits; what a token sees is an object that the caller gives.

Vaswani et al. 2017 (arXiv:1706.03762) with RMSNorm in front (arXiv:1910.07467), SwiGLU (arXiv:2002.05202) and rotary
positions (arXiv:2104.09864), as in Llama. Difference: layers turn and join nothing themselves. They hand queries, keys
and values to a `Sight`, which knows positions, masks and what is kept: one network then serves branches, workers and
streams.

Shapes: b batch, t tokens, h heads, c channels of a head, d channels, v vocabulary.
"""

from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor, nn
from unisono.nn.modules import Modules
from unisono.nn.swiglu import SwiGLULayer, init_layers

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


class Layer(SwiGLULayer):
    """Attention and a gated feed-forward, each added to what went in.

    ::

        x ─┬─ norm ─ sight ─ linear ─(+)─┬─ norm ─ SiLU(a)·b ─ linear ─(+)─
           └─────────────────────────┘   └───────────────────────────┘
    """

    def forward(self, x: Float[Tensor, "b t d"], sight: Sight, number: int) -> Float[Tensor, "b t d"]:
        """``number`` is the layer's, by which a sight knows it."""
        q, k, v = self.parts(x)
        x = x + self.dropout(self.attention_out(sight(number, q, k, v)))
        return x + self.dropout(self.feed_forward(x))


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
        self.layers = Modules(
            Layer(sizes.dim, sizes.num_heads, sizes.filter_dim, sizes.dropout) for _ in range(sizes.num_layers)
        )
        self.norm = nn.RMSNorm(sizes.dim)
        self.head = nn.Linear(sizes.dim, vocabulary, bias=False)
        init_layers(self, self.layers)

    def forward(self, tokens: Int[Tensor, "b t"], sight: Sight) -> Float[Tensor, "b t v"]:
        """Return the logits of what follows each token."""
        return self.head(self.hidden(tokens, sight))

    def hidden(self, tokens: Int[Tensor, "b t"], sight: Sight) -> Float[Tensor, "b t d"]:
        """Return the normalised states that the head reads."""
        x = self.embedding(tokens)
        for number, layer in enumerate(self.layers):
            x = layer(x, sight, number)
        return self.norm(x)
