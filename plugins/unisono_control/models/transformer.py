"""The transformer of the policies: vectors in, vectors out; what sees what is said by a mask.

Vaswani et al. 2017 (arXiv:1706.03762) with RMSNorm in front (arXiv:1910.07467) and SwiGLU (arXiv:2002.05202), as in
the Llama that OpenVLA is built on. Difference: places are learned vectors that come with the input, since a policy
reads a few dozen places of fixed meaning.

Shapes: b batch, t places, k keys (kept ones and new ones), d channels. Masks: True = keep.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from unisono.nn.attention import attend
from unisono.nn.modules import Modules
from unisono.nn.swiglu import LayerSizes, SwiGLULayer, init_layers
from unisono.verify import KVCache


class Layer(SwiGLULayer):
    """Self-attention and a gated feed-forward, each added to what went in.

    ::

        x ─┬─ norm ─ self-attention ─(+)─┬─ norm ─ SiLU(a)·b ─ linear ─(+)─
           └─────────────────────────┘   └───────────────────────────┘
    """

    def forward(
        self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b 1 t k"] | None, cache: KVCache | None, number: int
    ) -> Float[Tensor, "b t d"]:
        """``number`` is the layer's, by which a cache knows it."""
        q, k, v = self.parts(x)
        if cache is not None:
            k, v = cache.append(number, k, v)
        x = x + self.dropout(self.attention_out(attend(q, k, v, mask, dropout=self.attention_dropout)))
        return x + self.dropout(self.feed_forward(x))


class Transformer(nn.Module):
    """Layers one after the other, and a norm."""

    def __init__(self, sizes: LayerSizes):
        super().__init__()
        self.layers = Modules(
            Layer(sizes.dim, sizes.num_heads, sizes.filter_dim, sizes.dropout) for _ in range(sizes.num_layers)
        )
        self.norm = nn.RMSNorm(sizes.dim)
        init_layers(self, self.layers)

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
