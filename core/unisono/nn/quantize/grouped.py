"""Parts of the channels with a quantiser each: upper and lower body, or the groups of grouped residual quantisation
(Yang et al., "HiFi-Codec", arXiv:2305.02765).

Shapes: b batch, t positions, d channels, q codebooks. Masks are True where a position is kept.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unisono.errors import UnisonoError
from unisono.nn.modules import Modules
from unisono.nn.quantize.base import Quantised, Quantizer


class GroupedQuantizer(Quantizer):
    """Quantisers side by side, each for its own stretch of the channels.

    All must have codebooks of one size, so that one vocabulary serves. Their tokens stand group by group, or
    (``by_level``, for groups of equally many levels) level by level: then fewer tokens are a coarser whole.
    """

    def __init__(self, quantizers: Sequence[Quantizer], by_level: bool = False):
        super().__init__()
        sizes = {q.codebook_size for q in quantizers}
        if len(sizes) != 1:
            raise UnisonoError(
                f"grouped quantisers need codebooks of one size, got {sorted(sizes)}",
                code="conflict",
                path="quantizers",
                value=sorted(sizes),
            )
        self.groups = Modules(quantizers)
        self.dims = [q.dim for q in quantizers]
        self.dim = sum(self.dims)
        self.codebook_size = sizes.pop()
        self.counts = [q.num_codebooks for q in quantizers]
        self.num_codebooks = sum(self.counts)
        self.by_level = by_level
        if by_level and len(set(self.counts)) != 1:
            raise UnisonoError(
                f"by_level needs groups of equally many levels, got {self.counts}",
                code="conflict",
                path="by_level",
                value=self.counts,
            )

    def forward(
        self,
        z: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"] | None = None,
        rows: Int[Tensor, "b"] | None = None,
    ) -> Quantised:
        """Quantise each group by itself."""
        made = [q(part, mask, rows) for q, part in zip(self.groups, z.split(self.dims, -1), strict=True)]
        return Quantised(
            torch.cat([m.vectors for m in made], -1),
            self._joined([m.tokens for m in made]),
            torch.stack([m.commitment for m in made]).sum(0),
            torch.stack([m.codebook for m in made]).sum(0),
            self._joined([m.usage.T for m in made]).T,
        )

    def tokens(
        self, z: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None = None, levels: int | None = None
    ) -> Int[Tensor, "b t q"]:
        """Return tokens and nothing else, of at most ``levels`` levels of each group."""
        parts = zip(self.groups, z.split(self.dims, -1), strict=True)
        return self._joined([q.tokens(part, mask, levels) for q, part in parts])

    def decode(self, tokens: Int[Tensor, "b t q"]) -> Float[Tensor, "b t d"]:
        """Return the groups' vectors, side by side; ``by_level``, fewer levels than there are give coarser ones."""
        if self.by_level:
            parts = [tokens[..., group :: len(self.groups)] for group in range(len(self.groups))]
        else:
            parts = list(tokens.split(self.counts, -1))
        return torch.cat([q.decode(part) for q, part in zip(self.groups, parts, strict=True)], -1)

    def _joined(self, parts: list[Tensor]) -> Tensor:
        """Put what each group has along the last axis into the tokens' order."""
        return torch.stack(parts, -1).flatten(-2) if self.by_level else torch.cat(parts, -1)
