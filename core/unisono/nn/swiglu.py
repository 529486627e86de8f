"""SwiGLU layer: what layers of Llama's kind are made of, whatever their tokens see of one another.

Vaswani et al. 2017 (arXiv:1706.03762) with norms in front (arXiv:2002.04745), RMSNorm (arXiv:1910.07467) and a
feed-forward with SwiGLU (arXiv:2002.05202): no biases anywhere, as in Llama (arXiv:2302.13971). Positions, masks and
what is kept of keys and values are the caller's.

Shapes: b batch, t time, h heads, c channels of one head, d channels.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unisono.errors import RecipeError
from unisono.nn.attention import split_parts
from unisono.nn.tensor_plan import TensorPlan

__all__ = ["LayerSizes", "SwiGLULayer", "filter_dim_for", "init_layers"]

STD = 0.02
"""Of weights at first, as in GPT-2."""


@dataclass(frozen=True, kw_only=True)
class LayerSizes:
    """Sizes of a transformer, the group ``network`` of a recipe's ``model:`` section; a subclass has its own defaults.

    ``filter_dim`` is of the feed-forward, 0: `filter_dim_for`'s. Each head has a multiple of ``head_multiple``
    channels: two in a subclass whose heads turn pairs of them. Raises ``RecipeError`` for what cannot be built.
    """

    head_multiple: ClassVar[int] = 1

    dim: int = 128
    num_layers: int = 4
    num_heads: int = 4
    filter_dim: int = 0
    dropout: float = 0.0

    def __post_init__(self):
        if not 0 <= self.dropout < 1:
            raise RecipeError(
                f"model.network.dropout={self.dropout} must be in [0, 1)",
                code="range",
                path="model.network.dropout",
                value=self.dropout,
            )
        for name, least in (("dim", 1), ("num_layers", 1), ("num_heads", 1), ("filter_dim", 0)):
            if getattr(self, name) < least:
                raise RecipeError(
                    f"model.network.{name}={getattr(self, name)} must be at least {least}",
                    code="range",
                    path=f"model.network.{name}",
                    value=getattr(self, name),
                )
        if self.dim % (self.head_multiple * self.num_heads):
            twice = "twice " if self.head_multiple == 2 else ""
            raise RecipeError(
                f"model.network.dim={self.dim} must be a multiple of {twice}num_heads={self.num_heads}",
                code="shape",
                path="model.network.dim",
                value=self.dim,
            )

    @property
    def head_dim(self) -> int:
        """Channels of one head."""
        return self.dim // self.num_heads


def filter_dim_for(dim: int, filter_dim: int = 0) -> int:
    """Return the width of a feed-forward: ``filter_dim``, or where that is 0, 8/3 of ``dim`` to the next multiple of
    32, which has as many weights as one of 4 · ``dim`` without a gate."""
    return filter_dim or 32 * math.ceil(dim * 8 / 3 / 32)


class SwiGLULayer(nn.Module):
    """The weights of a layer, and its two halves. A subclass attends, in its ``forward``.

    ::

        x ─┬─ norm ─ (subclass: attention) ─ linear ─(+)─┬─ norm ─ SiLU(a)·b ─ linear ─(+)─
           └─────────────────────────────────────────┘   └───────────────────────────┘

    Args:
        dim: channels, a multiple of ``num_heads``.
        num_heads: of the attention.
        filter_dim: of the feed-forward; 0 is `filter_dim_for`'s.
        dropout: of what the halves add, in [0, 1).
    """

    tensor_plan: ClassVar[TensorPlan] = TensorPlan(columns={"qkv": 3, "feed_in": 2}, rows=("attention_out", "feed_out"))

    def __init__(self, dim: int, num_heads: int, filter_dim: int = 0, dropout: float = 0.0):
        super().__init__()
        filter_dim = filter_dim_for(dim, filter_dim)
        self.num_heads = num_heads
        self.attention_norm = nn.RMSNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.attention_out = nn.Linear(dim, dim, bias=False)
        self.feed_norm = nn.RMSNorm(dim)
        self.feed_in = nn.Linear(dim, 2 * filter_dim, bias=False)
        self.feed_out = nn.Linear(filter_dim, dim, bias=False)
        self.dropout = nn.Dropout(dropout)

    @property
    def attention_dropout(self) -> float:
        """The share of what attention sees that is dropped: that of the layer in training, else none."""
        return self.dropout.p if self.training else 0.0

    def parts(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "3 b h t c"]:
        """Return queries, keys and values of vectors; nothing is turned to its position yet."""
        return split_parts(self.qkv(self.attention_norm(x)), self.num_heads)

    def feed_forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Return what the feed-forward adds to its input."""
        gate, value = self.feed_in(self.feed_norm(x)).chunk(2, dim=-1)
        return self.feed_out(F.silu(gate) * value)


def init_layers(network: nn.Module, layers: Iterable[SwiGLULayer]) -> None:
    """Draw the weights of a network's linear layers and embeddings as GPT-2 does.

    What each of its ``layers`` adds is drawn smaller, so that the sum over layers begins as large as one of them.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=STD)
    layers = list(layers)
    for layer in layers:
        for linear in (layer.attention_out, layer.feed_out):
            nn.init.normal_(linear.weight, std=STD / math.sqrt(2 * len(layers)))
