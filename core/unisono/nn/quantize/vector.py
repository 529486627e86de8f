"""Vector quantiser: one codebook that follows its vectors by exponential moving averages.

van den Oord et al., "Neural Discrete Representation Learning" (arXiv:1711.00937), appendix A.1; dead codes are reset
to vectors of the batch (Dhariwal et al., "Jukebox", arXiv:2005.00341).

Shapes: b batch, t positions, d channels, k codes. Masks are True where a position is kept.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unisono.errors import UnisonoError
from unisono.nn.quantize.base import Quantised, Quantizer, check_learns, counts, everything, replacements, total
from unisono.nn.wide import wide, wide_as

COUNT_FLOOR = 1e-5


class VectorQuantizer(Quantizer):
    """One learnt codebook, ``[k, d]``, followed by moving averages.

    Args:
        dim: channels of a vector.
        codebook_size: codes.
        decay: of the moving averages.
        dead_below: a code used less than this share of an even use is reset, at each step anew until it is used; 0
            never resets one.
    """

    num_codebooks = 1

    def __init__(self, dim: int, codebook_size: int, decay: float = 0.99, dead_below: float = 0.1):
        super().__init__()
        if codebook_size < 2:
            raise UnisonoError(
                f"codebook_size={codebook_size} must be at least 2",
                code="range",
                path="codebook_size",
                value=codebook_size,
            )
        if not 0 <= decay < 1:
            raise UnisonoError(
                f"decay={decay} must be from 0 up to, not including, 1", code="range", path="decay", value=decay
            )
        if not 0 <= dead_below < 1:
            raise UnisonoError(
                f"dead_below={dead_below} must be from 0 up to, not including, 1",
                code="range",
                path="dead_below",
                value=dead_below,
            )
        self.dim = dim
        self.codebook_size = codebook_size
        self.decay = decay
        self.dead_below = dead_below
        self.codebook: Tensor
        self.counts: Tensor
        self.updates: Tensor
        self.register_buffer("codebook", torch.randn(codebook_size, dim))
        self.register_buffer("counts", torch.zeros(codebook_size))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def forward(
        self,
        z: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"] | None = None,
        rows: Int[Tensor, "b"] | None = None,
    ) -> Quantised:
        """Quantise; in training, the codebook then moves towards what it was used for.

        ``rows`` numbers the items of the global batch (default: their places on this rank); only the choice of
        vectors for dead codes depends on it.
        """
        mask = everything(z) if mask is None else mask
        with torch.autocast(z.device.type, enabled=False):
            z = wide_as(z, self.codebook) * mask[..., None]
            tokens = self.encode(z, mask)
            vectors = self.decode(tokens[..., None]) * mask[..., None]
            commitment = (z - vectors.detach()).square().mean(-1)
            usage = counts(tokens, mask, self.codebook_size)
            if self.training:  # all ranks train in step, but they need not validate in step
                check_learns(self.codebook)
                usage = total(usage)
                self._follow(z.detach(), tokens, mask, usage, rows)
        vectors = (z + (vectors - z).detach()).to(self.codebook.dtype)
        return Quantised(vectors, tokens[..., None], commitment, torch.zeros_like(commitment), usage[None])

    def encode(self, z: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None = None) -> Int[Tensor, "b t"]:
        """Return the nearest code of each vector."""
        with torch.autocast(z.device.type, enabled=False):
            z, codebook = wide_as(z, self.codebook), wide(self.codebook)
            distance = codebook.square().sum(-1) - 2 * z @ codebook.T
            tokens = distance.argmin(-1)
        return tokens if mask is None else tokens.masked_fill(~mask, 0)

    def tokens(
        self, z: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None = None, levels: int | None = None
    ) -> Int[Tensor, "b t 1"]:
        """Return tokens and nothing else; there is one level."""
        return self.encode(z, mask)[..., None]

    def decode(self, tokens: Int[Tensor, "b t 1"]) -> Float[Tensor, "b t d"]:
        """Return the vectors of tokens."""
        return nn.functional.embedding(tokens[..., 0], self.codebook)

    @torch.no_grad()
    def _follow(
        self,
        z: Float[Tensor, "b t d"],
        tokens: Int[Tensor, "b t"],
        mask: Bool[Tensor, "b t"],
        usage: Float[Tensor, "k"],
        rows: Int[Tensor, "b"] | None,
    ) -> None:
        kept, code = z[mask], tokens[mask]
        new = total(torch.zeros_like(self.codebook).index_add_(0, code, kept))
        weight = 1 - self.decay if self.updates else 1.0
        # The published average of sums is codebook · counts: it need not be kept.
        sums = torch.lerp(self.codebook * self.counts[:, None], new, weight)
        self.counts.lerp_(usage.to(self.counts), weight)
        moved = sums / self.counts.clamp(min=COUNT_FLOOR)[:, None]
        self.codebook.copy_(torch.where((self.counts > COUNT_FLOOR)[:, None], moved, self.codebook))
        even = self.counts.sum() / self.codebook_size
        if not self.updates:  # what it was born with is of no use: every code comes from the first batch
            self._reset(torch.ones_like(self.counts, dtype=torch.bool), z, mask, rows, even)
        elif self.dead_below > 0:
            self._reset(self.counts < self.dead_below * even, z, mask, rows, even)
        self.updates += 1

    def _reset(
        self,
        dead: Bool[Tensor, "k"],
        z: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"],
        rows: Int[Tensor, "b"] | None,
        even: Tensor,
    ) -> None:
        """Replace dead codes by vectors of the global batch."""
        number = int(dead.sum())
        if number == 0:
            return
        fresh = replacements(z, mask, rows, number, int(self.updates))
        if fresh is None:
            return
        places = dead.nonzero()[:, 0]
        self.codebook[places] = fresh
        # On the brink: what is not used in the next batch is replaced again.
        count = even * (self.dead_below or 1.0)
        self.counts[places] = count
