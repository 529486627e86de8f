"""The encoder of Glow-TTS: what symbols mean in their context (Kim et al., arXiv:2005.11129, appendix A.1).

That of Transformer TTS with relative positions; Grad-TTS, VITS and Matcha-TTS read texts with it, or with one like it.
Difference: padding is zeroed before every convolution, so that an item alone and in a batch agree.

Shapes: b batch, s symbols, d channels. Masks are True where a symbol is kept.
"""

import math
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.fft import keep
from unisono.nn.modules import Modules
from unisono.nn.relative import RelativeBlock, RelativeSizes

__all__ = ["EncoderSizes", "Prenet", "TextEncoder"]


@dataclass(frozen=True, kw_only=True)
class EncoderSizes(RelativeSizes):
    """Sizes of the text encoder, as published: blocks of relative attention, behind convolutions.

    num_layers: blocks; 0 for convolutions alone.
    prenet_layers, prenet_kernel_size, prenet_dropout: of the convolutions; 0 layers for none.
    """

    num_layers: int = 6
    prenet_layers: int = 3
    prenet_kernel_size: int = 5
    prenet_dropout: float = 0.5


class Prenet(nn.Module):
    """``num_layers`` × (conv ─ LayerNorm ─ ReLU ─ dropout) ─ Linear, 0 at first, added to what went in."""

    def __init__(self, dim: int, kernel_size: int, num_layers: int, dropout: float):
        super().__init__()
        self.convs = Modules(nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2) for _ in range(num_layers))
        self.norms = Modules(nn.LayerNorm(dim) for _ in range(num_layers))
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(dim, dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Float[Tensor, "b s d"], mask: Bool[Tensor, "b s"] | None) -> Float[Tensor, "b s d"]:
        """``mask`` is None where nothing is padding; padding comes out as 0."""
        hidden = x
        for conv, norm in zip(self.convs, self.norms, strict=True):
            hidden = self.dropout(F.relu(norm(conv(keep(hidden, mask).mT).mT)))
        return keep(x + self.out(hidden), mask)


class TextEncoder(nn.Module):
    """Symbols to vectors.

    ::

        symbols ─ embedding · √d ─ convolutions ─ relative attention block × num_layers ─ vectors

    ``embed`` and ``blocks`` are its two halves, for a model that adds a speaker between them.

    Args:
        num_symbols: how many symbols there are.
    """

    def __init__(self, num_symbols: int, sizes: EncoderSizes):
        super().__init__()
        self.dim = sizes.dim
        self.embedding = nn.Embedding(num_symbols, sizes.dim)
        nn.init.normal_(self.embedding.weight, 0.0, sizes.dim**-0.5)
        prenet = (sizes.dim, sizes.prenet_kernel_size, sizes.prenet_layers, sizes.prenet_dropout)
        self.prenet = Prenet(*prenet) if sizes.prenet_layers else None
        self.layers = Modules(RelativeBlock(sizes) for _ in range(sizes.num_layers))

    def forward(self, symbols: Int[Tensor, "b s"], mask: Bool[Tensor, "b s"] | None) -> Float[Tensor, "b s d"]:
        """``mask`` is None where nothing is padding; padding comes out as 0."""
        return self.blocks(self.embed(symbols, mask), mask)

    def embed(self, symbols: Int[Tensor, "b s"], mask: Bool[Tensor, "b s"] | None) -> Float[Tensor, "b s d"]:
        """Return the symbols' vectors with what their neighbours tell of them."""
        x = self.embedding(symbols) * math.sqrt(self.dim)
        return keep(x, mask) if self.prenet is None else self.prenet(x, mask)

    def blocks(self, x: Float[Tensor, "b s d"], mask: Bool[Tensor, "b s"] | None) -> Float[Tensor, "b s d"]:
        """Return the vectors behind the blocks of attention."""
        for layer in self.layers:
            x = layer(x, mask)
        return x
