"""Quantisers: vectors to tokens and back, while the model that makes the vectors learns.

- ``VectorQuantizer``: one codebook that follows the vectors by moving averages, with dead codes reset to vectors of
  the batch (T2M-GPT, MMM, EnCodec).
- ``FactorisedQuantizer``: one codebook of few channels, looked up by angle, learnt by gradient (DAC).
  ``SphericalQuantizer``: the same with vectors and codes of length 1 (ViT-VQGAN, LlamaGen).
- ``ResidualQuantizer``, ``FactorisedResidualQuantizer``: levels of either, each of which codes what the levels before
  left over, and quantiser dropout (SoundStream, MoMask; DAC). ``ResidualLevels`` takes levels of any kind.
- ``ScalarQuantizer``: finite scalar quantisation, no codebook to learn. ``BinaryQuantizer``: signs, as many codes as
  there are of them (LFQ: MAGVIT-v2).
- ``IndexQuantizer``: one codebook whose codes all learn at each step (IBQ).
- ``GroupedQuantizer``: parts of the channels with a quantiser each (upper and lower body; HiFi-Codec's groups).

All have one contract::

    quantised = quantizer(z, mask)         # Quantised: vectors, tokens, losses, statistics
    tokens = quantizer.tokens(z, mask)     # tokens alone; nothing moves, even while training
    z = quantizer.decode(tokens)           # the vectors of tokens

Differences from the papers: distances and averages are taken in float32, whatever the autocast and the type of the
weights (codes in half precision quantise and decode, and refuse to learn); counts and sums are those of all ranks, so
that N processes hold the codebook of one; a codebook is dead before its first batch, hence the reset fills it; codes
are dead relative to an even use (``dead_below``), whatever the batch size; and which vectors replace them is drawn by
each item's own number (``rows``), never from a global seed.

Shapes: b batch, t positions, d channels, q codebooks, k codes. Masks are True where a position is kept: others
get token 0 and vector 0, and count nowhere.
"""

from unisono.nn.quantize.base import Quantised, Quantizer
from unisono.nn.quantize.binary import BinaryQuantizer
from unisono.nn.quantize.factorised import FactorisedQuantizer, SphericalQuantizer
from unisono.nn.quantize.grouped import GroupedQuantizer
from unisono.nn.quantize.index import IndexQuantizer
from unisono.nn.quantize.residual import FactorisedResidualQuantizer, ResidualLevels, ResidualQuantizer
from unisono.nn.quantize.scalar import ScalarQuantizer
from unisono.nn.quantize.vector import VectorQuantizer

__all__ = [
    "BinaryQuantizer",
    "FactorisedQuantizer",
    "FactorisedResidualQuantizer",
    "GroupedQuantizer",
    "IndexQuantizer",
    "Quantised",
    "Quantizer",
    "ResidualLevels",
    "ResidualQuantizer",
    "ScalarQuantizer",
    "SphericalQuantizer",
    "VectorQuantizer",
]
