"""Decoder: names all tokens of a transcript at once, of acoustic embeddings, tokens that are known, and the encoder's
steps (Paraformer, arXiv:2206.08317, §2.1).

Where a token is known, its embedding stands in the place of the acoustic one: so the glancing sampler shows true
tokens in training, and so refinement goes on from those that were settled. What differs: sinusoidal positions are
added, where FunASR's decoder has a convolutional memory.

Shapes: b batch, n tokens, t steps, d channels, v units with the blank, which is never named.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from unisono.errors import RecipeError
from unisono.masked import at_sites
from unisono.nn.fft import sinusoids
from unisono.nn.modules import Modules
from unisono.nn.transformer import Block

from unisono_asr.networks.predictors import Acoustic


@dataclass(frozen=True, kw_only=True)
class DecoderSizes:
    """Sizes of the decoder, as published; its channels are the encoder's."""

    num_blocks: int = 6
    num_heads: int = 4
    expansion: int = 8
    dropout: float = 0.1

    def __post_init__(self):
        for name in ("num_blocks", "num_heads", "expansion"):
            if getattr(self, name) < 1:
                path = f"model.decoder.{name}"
                message = f"{path}={getattr(self, name)} must be at least 1"
                raise RecipeError(message, code="range", path=path, value=getattr(self, name))


class Decoder(nn.Module):
    """``where known: embedding, else acoustic ─ + position ─ block × num_blocks ─ LayerNorm ─ Linear``, bidirectional;
    each block attends to the encoder's steps."""

    def __init__(self, dim: int, num_units: int, sizes: DecoderSizes):
        super().__init__()
        self.embedding = nn.Embedding(num_units, dim)
        self.blocks: Modules[Block] = Modules(
            Block(dim, sizes.num_heads, sizes.dropout, cross=True, expansion=sizes.expansion)
            for _ in range(sizes.num_blocks)
        )
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, num_units)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(
        self,
        tokens: Int[Tensor, "b n"],
        known: Bool[Tensor, "b n"],
        acoustic: Acoustic,
        memory: Float[Tensor, "b t d"],
        lengths: Int[Tensor, " b"],
    ) -> Float[Tensor, "b n v"]:
        """Return logits of every token."""
        steps = torch.arange(memory.shape[1], device=memory.device) < lengths[:, None]
        x = torch.where(known[..., None], self.embedding(tokens), acoustic.embeddings)
        x = self.dropout(x + sinusoids(x.shape[1], x.shape[2], x.device).to(x.dtype))
        for block in self.blocks:
            x = block(x, acoustic.mask, memory, steps)
        return self.out(self.norm(x))


class Reader:
    """The decoder on a batch of recordings, as ``unisono.masked.decode`` calls it; it keeps its last ``logits``."""

    def __init__(
        self, decoder: Decoder, acoustic: Acoustic, memory: Float[Tensor, "b t d"], lengths: Int[Tensor, " b"]
    ):
        self.decoder, self.acoustic, self.memory, self.lengths = decoder, acoustic, memory, lengths
        self.logits: Tensor | None = None

    def __call__(
        self, tokens: Int[Tensor, "b n"], known: Bool[Tensor, "b n"], query: Int[Tensor, "b k"] | None = None
    ) -> Float[Tensor, "b k v"]:
        logits = self.decoder(tokens, known, self.acoustic, self.memory, self.lengths)
        self.logits = logits
        return at_sites(logits, query)
