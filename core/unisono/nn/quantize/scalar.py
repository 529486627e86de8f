"""Scalar quantiser: finite scalar quantisation, no codebook to learn (Mentzer et al., arXiv:2309.15505).

Shapes: b batch, t positions, d channels, c channels of the code. Masks are True where a position is kept.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unisono.errors import UnisonoError
from unisono.nn.quantize.base import Quantised, Quantizer, counts, everything, total, widened
from unisono.nn.wide import wide


class ScalarQuantizer(Quantizer):
    """Finite scalar quantisation: few channels, each rounded to a few levels; the product is the codebook.

    A channel with L levels is squashed to an interval that holds exactly L whole numbers, and rounded. Even
    L are shifted by a half, as in the paper's appendix A.1, but for two levels, which lie on both sides of 0. Two
    learnt maps go from ``dim`` channels to ``len(levels)`` and back; vectors are normalised before the first (not in
    the paper), so that from the first step on there is something to round and all codes are within reach.

    Args:
        dim: channels of a vector.
        levels: levels of each channel; the paper's [8, 5, 5, 5] make 1,000 codes, [8, 6, 5] make 240.
    """

    num_codebooks = 1

    def __init__(self, dim: int, levels: Sequence[int]):
        super().__init__()
        if not levels or min(levels) < 2:
            raise UnisonoError(
                f"levels={list(levels)} must be whole numbers of at least 2, one or more",
                code="range",
                path="levels",
                value=list(levels),
            )
        self.dim = dim
        self.codebook_size = math.prod(levels)
        self.down = nn.Linear(dim, len(levels))
        nn.init.normal_(self.down.weight, std=1 / math.sqrt(dim))
        self.up = nn.Linear(len(levels), dim)
        self.sizes: Tensor
        self.strides: Tensor
        sizes = torch.tensor(levels, dtype=torch.int64)
        self.register_buffer("sizes", sizes, persistent=False)
        strides = torch.cat([torch.ones(1, dtype=torch.int64), sizes.cumprod(0)[:-1]])
        self.register_buffer("strides", strides, persistent=False)

    def forward(
        self,
        z: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"] | None = None,
        rows: Int[Tensor, "b"] | None = None,
    ) -> Quantised:
        """Quantise; there is no commitment to pay for, and nothing that follows."""
        mask = everything(z) if mask is None else mask
        with torch.autocast(z.device.type, enabled=False):
            bounded = self._bounded(z)
            rounded = bounded + (bounded.round() - bounded).detach()
            tokens = self._numbered(rounded.detach(), mask)
            vectors = widened(self.up, rounded / (self.sizes // 2)) * mask[..., None]
            usage = counts(tokens, mask, self.codebook_size)
            if self.training:  # all ranks train in step, but they need not validate in step
                usage = total(usage)
        nothing = torch.zeros_like(vectors[..., 0])
        vectors = vectors.to(self.up.weight.dtype)
        return Quantised(vectors, tokens[..., None], nothing, nothing, usage[None])

    def tokens(
        self, z: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None = None, levels: int | None = None
    ) -> Int[Tensor, "b t 1"]:
        """Return tokens and nothing else; there is one level."""
        with torch.autocast(z.device.type, enabled=False):
            return self._numbered(self._bounded(z).round(), everything(z) if mask is None else mask)[..., None]

    def decode(self, tokens: Int[Tensor, "b t 1"]) -> Float[Tensor, "b t d"]:
        """Return the vectors of tokens."""
        digits = tokens // self.strides % self.sizes - self.sizes // 2
        return widened(self.up, digits.float() / (self.sizes // 2)).to(self.up.weight.dtype)

    def _numbered(self, rounded: Float[Tensor, "b t c"], mask: Bool[Tensor, "b t"]) -> Int[Tensor, "b t"]:
        return ((rounded.long() + self.sizes // 2) * self.strides).sum(-1).masked_fill(~mask, 0)

    def _bounded(self, z: Float[Tensor, "b t d"]) -> Float[Tensor, "b t c"]:
        return self._bound(widened(self.down, nn.functional.layer_norm(wide(z), (self.dim,))))

    def _bound(self, z: Float[Tensor, "b t c"]) -> Float[Tensor, "b t c"]:
        half = (self.sizes - 1) * (1 + 1e-3) / 2  # a hair more, so that the outermost numbers can be reached
        offset = torch.where(self.sizes % 2 == 0, 0.5, 0.0)
        # Two levels would be shifted to where the slope ends, and one of them out of reach.
        shift = torch.where(self.sizes == 2, 0.0, offset / half).atanh()
        return (z + shift).tanh() * half - offset
