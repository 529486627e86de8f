"""Residual quantiser: levels of codebooks, each of which codes the rest of those before; quantiser dropout.

Zeghidour et al., "SoundStream" (arXiv:2107.03312), MoMask (arXiv:2312.00063); with factorised codes, DAC
(arXiv:2306.06546).

Shapes: b batch, t positions, d channels, q codebooks. Masks are True where a position is kept.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unisono.errors import UnisonoError
from unisono.nn.modules import Modules
from unisono.nn.quantize.base import Quantised, Quantizer, everything
from unisono.nn.quantize.factorised import FactorisedQuantizer
from unisono.nn.quantize.vector import VectorQuantizer
from unisono.nn.wide import wide


class ResidualLevels(Quantizer):
    """Any quantisers of one level, one after another.

    Args:
        levels: quantisers of equal ``dim`` and ``codebook_size``.
        dropout: the share of training items that use fewer levels, evenly drawn (MoMask: 0.2, DAC: 0.5).
        through: levels hand the gradient on through maps of their own (factorised codes); else the result has the
            straight-through gradient of the whole.
    """

    def __init__(self, levels: Sequence[Quantizer], dropout: float, through: bool):
        super().__init__()
        if not 0 <= dropout <= 1:
            raise UnisonoError(f"dropout={dropout} must be from 0 to 1", code="range", path="dropout", value=dropout)
        self.levels = Modules(levels)
        self.num_codebooks = len(self.levels)
        self.dim = levels[0].dim
        self.codebook_size = levels[0].codebook_size
        self.dropout = dropout
        self.through = through

    def forward(
        self,
        z: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"] | None = None,
        rows: Int[Tensor, "b"] | None = None,
    ) -> Quantised:
        """Quantise level by level; a level that an item does without gets token 0 and adds nothing."""
        mask = everything(z) if mask is None else mask
        depth = self._depth(z, rows)
        left = wide(z) * mask[..., None]
        total = torch.zeros_like(left)
        nothing = z.new_zeros(mask.shape, dtype=torch.float32)
        tokens, usage, commitment, codebook, dtype = [], [], nothing, nothing, left.dtype
        for level, quantizer in enumerate(self.levels):
            used = mask & (depth > level)[:, None]
            made = quantizer(left, used, rows)
            vectors = made.vectors if self.through else made.vectors.detach()
            total, dtype = total + vectors, vectors.dtype
            left = left - vectors
            commitment = commitment + made.commitment * used
            codebook = codebook + made.codebook * used
            tokens.append(made.tokens)
            usage.append(made.usage)
        if not self.through:
            z = wide(z) * mask[..., None]
            total = z + (total - z).detach()
        return Quantised(total.to(dtype), torch.cat(tokens, -1), commitment, codebook, torch.cat(usage))

    @torch.no_grad()
    def tokens(
        self, z: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None = None, levels: int | None = None
    ) -> Int[Tensor, "b t q"]:
        """Return tokens and nothing else, of the first ``levels`` levels."""
        mask = everything(z) if mask is None else mask
        left, tokens = wide(z) * mask[..., None], []
        for quantizer in self.levels[: levels or self.num_codebooks]:
            tokens.append(quantizer.tokens(left, mask))
            left = left - quantizer.decode(tokens[-1]) * mask[..., None]
        return torch.cat(tokens, -1)

    def decode(self, tokens: Int[Tensor, "b t q"]) -> Float[Tensor, "b t d"]:
        """Return the sum of the levels' vectors; fewer levels than there are give a coarser one."""
        vectors = [self.levels[i].decode(tokens[..., i : i + 1]) for i in range(tokens.shape[-1])]
        return torch.stack(vectors).sum(0)

    def _depth(self, z: Float[Tensor, "b t d"], rows: Int[Tensor, "b"] | None) -> Int[Tensor, "b"]:
        depth = torch.full((len(z),), self.num_codebooks, dtype=torch.int64)
        if self.training and self.dropout > 0 and self.num_codebooks > 1:
            updates = int(self.levels[0].updates)
            for index, row in enumerate(range(len(z)) if rows is None else rows.tolist()):
                generator = torch.Generator().manual_seed((row * 2_000_003 + updates) % 2**63)
                if float(torch.rand((), generator=generator)) < self.dropout:
                    depth[index] = int(torch.randint(1, self.num_codebooks + 1, (), generator=generator))
        return depth.to(z.device)


class ResidualQuantizer(ResidualLevels):
    """Levels of codebooks that follow by moving averages.

    Args:
        dim: channels of a vector.
        codebook_size: codes of each level.
        num_levels: codebooks; 1 is the plain quantiser.
        dropout: the share of training items that use fewer levels, evenly drawn (MoMask: 0.2).
        decay, dead_below: as of ``VectorQuantizer``.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        num_levels: int = 1,
        dropout: float = 0.0,
        decay: float = 0.99,
        dead_below: float = 0.1,
    ):
        if num_levels < 1:
            raise UnisonoError(
                f"num_levels={num_levels} must be at least 1", code="range", path="num_levels", value=num_levels
            )
        levels = [VectorQuantizer(dim, codebook_size, decay, dead_below) for _ in range(num_levels)]
        super().__init__(levels, dropout, through=False)


class FactorisedResidualQuantizer(ResidualLevels):
    """Levels of factorised codes, learnt by gradient.

    Args:
        dim, codebook_size, num_levels, dropout: as of ``ResidualQuantizer`` (DAC: dropout 0.5).
        code_dim, decay, dead_below: as of ``FactorisedQuantizer``.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        num_levels: int = 1,
        code_dim: int = 8,
        dropout: float = 0.0,
        decay: float = 0.99,
        dead_below: float = 0.1,
    ):
        if num_levels < 1:
            raise UnisonoError(
                f"num_levels={num_levels} must be at least 1", code="range", path="num_levels", value=num_levels
            )
        levels = [FactorisedQuantizer(dim, codebook_size, code_dim, decay, dead_below) for _ in range(num_levels)]
        super().__init__(levels, dropout, through=True)
