"""Parts of the channels with a quantiser each: upper and lower body, or the groups of grouped residual quantisation
(Yang et al., "HiFi-Codec", arXiv:2305.02765).

Shapes: b batch, t positions, d channels, q codebooks. Masks are True where a position is kept.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unisono.nn.quantize.base import Quantised


class GroupedQuantizer(nn.Module):
    """Quantisers side by side, each for its own stretch of the channels; their tokens stand in this order.

    All must have codebooks of one size, so that one vocabulary serves.
    """

    def __init__(self, quantizers: Sequence[nn.Module]):
        super().__init__()
        sizes = {int(q.codebook_size) for q in quantizers}  # type: ignore[arg-type]
        if len(sizes) != 1:
            raise ValueError(f"grouped quantisers need codebooks of one size, got {sorted(sizes)}")
        self.groups = nn.ModuleList(quantizers)
        self.dims = [int(q.dim) for q in quantizers]  # type: ignore[arg-type]
        self.dim = sum(self.dims)
        self.codebook_size = sizes.pop()
        self.counts = [int(q.num_codebooks) for q in quantizers]  # type: ignore[arg-type]
        self.num_codebooks = sum(self.counts)

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
            torch.cat([m.tokens for m in made], -1),
            torch.stack([m.commitment for m in made]).sum(0),
            torch.stack([m.codebook for m in made]).sum(0),
            torch.cat([m.usage for m in made]),
        )

    def tokens(
        self, z: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None = None, levels: int | None = None
    ) -> Int[Tensor, "b t q"]:
        """Return tokens and nothing else, of at most ``levels`` levels of each group."""
        parts = zip(self.groups, z.split(self.dims, -1), strict=True)
        return torch.cat([q.tokens(part, mask, levels) for q, part in parts], -1)  # type: ignore[operator]

    def decode(self, tokens: Int[Tensor, "b t q"]) -> Float[Tensor, "b t d"]:
        """Return the groups' vectors, side by side; fewer tokens than there are make as many fewer of each group."""
        given, groups = tokens.shape[-1], len(self.groups)
        if given == self.num_codebooks:
            counts = self.counts
        elif given % groups == 0 and 0 < given // groups <= min(self.counts):
            counts = [given // groups] * groups
        else:
            raise ValueError(f"{given} tokens a position do not part evenly into {groups} groups")
        parts = tokens.split(counts, -1)
        return torch.cat([q.decode(part) for q, part in zip(self.groups, parts, strict=True)], -1)  # type: ignore
