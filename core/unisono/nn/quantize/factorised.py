"""Factorised quantiser: one codebook of few channels, looked up by angle and learnt by gradient.

Yu et al., "Vector-quantized Image Modeling with Improved VQGAN" (arXiv:2110.04627), section 3.2: factorised,
L2-normalised codes; in audio Kumar et al., DAC (arXiv:2306.06546), section 3.2::

    e = W_in z       i = argmax_j cos(e, c_j)       commitment |e − sg(c_i)|²,  codebook |sg(e) − c_i|²
    out = W_out (e + sg(c_i − e))

Differences: the two maps begin as each other's transpose, orthonormal, so that a level takes something away from
what is left over from the first step on; the first batch fills the codebook, and codes that fall out of use are reset
to vectors of the batch, as those of ``VectorQuantizer`` (published: neither); a fresh code has ``PROBATION`` steps to
be used.

Shapes: b batch, t positions, d channels, c channels of a code, k codes. Masks are True where a position is kept.
"""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unisono.errors import UnisonoError
from unisono.nn.quantize.base import (
    Quantised,
    Quantizer,
    check_learns,
    counts,
    everything,
    replacements,
    total,
    widened,
)
from unisono.nn.wide import wide

PROBATION = 10
"""Steps after which a fresh code that nothing used is replaced again."""


class FactorisedQuantizer(Quantizer):
    """A codebook ``[k, c]`` between two linear maps.

    Args:
        dim: channels of a vector.
        codebook_size: codes.
        code_dim: channels of a code (published: 8).
        decay: of the average by which a code's use is judged.
        dead_below: a code used less than this share of an even use is reset; 0 resets none (published).
    """

    num_codebooks = 1

    kept_whole: ClassVar[tuple[str, ...]] = ("codes.",)  # dead ones are replaced while gradients are made

    def __init__(self, dim: int, codebook_size: int, code_dim: int = 8, decay: float = 0.99, dead_below: float = 0.1):
        super().__init__()
        if codebook_size < 2:
            raise UnisonoError(
                f"codebook_size={codebook_size} must be at least 2",
                code="range",
                path="codebook_size",
                value=codebook_size,
            )
        if not 1 <= code_dim <= dim:
            raise UnisonoError(
                f"code_dim={code_dim} must be from 1 to dim={dim}", code="range", path="code_dim", value=code_dim
            )
        if not 0 < decay < 1:
            raise UnisonoError(f"decay={decay} must be between 0 and 1", code="range", path="decay", value=decay)
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
        self.down = nn.Linear(dim, code_dim)
        self.up = nn.Linear(code_dim, dim)
        self.codes = nn.Embedding(codebook_size, code_dim)
        nn.init.orthogonal_(self.down.weight)
        with torch.no_grad():
            self.up.weight.copy_(self.down.weight.T)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.bias)
        self.counts: Tensor
        self.updates: Tensor
        self.register_buffer("counts", torch.zeros(codebook_size))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def forward(
        self,
        z: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"] | None = None,
        rows: Int[Tensor, "b"] | None = None,
    ) -> Quantised:
        """Quantise; ``rows`` numbers the items of the global batch (default: their places on this rank)."""
        mask = everything(z) if mask is None else mask
        with torch.autocast(z.device.type, enabled=False):
            e = self._code_of(z)
            tokens = self._nearest(e).masked_fill(~mask, 0)
            codes = self._code(tokens)
            vectors = widened(self.up, e + (codes - e).detach()) * mask[..., None]
            commitment = (e - codes.detach()).square().mean(-1) * mask
            codebook = (e.detach() - codes).square().mean(-1) * mask
            usage = counts(tokens, mask, self.codebook_size)
            if self.training:  # all ranks train in step, but they need not validate in step
                check_learns(self.codes.weight)
                usage = total(usage)
                if self.codes.weight.requires_grad:  # else they are frozen, and stay
                    self._judge(e.detach(), mask, usage, rows)
        vectors = vectors.to(self.up.weight.dtype)
        return Quantised(vectors, tokens[..., None], commitment, codebook, usage[None])

    def tokens(
        self, z: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None = None, levels: int | None = None
    ) -> Int[Tensor, "b t 1"]:
        """Return tokens and nothing else; there is one level."""
        with torch.autocast(z.device.type, enabled=False):
            tokens = self._nearest(self._code_of(z))
        return (tokens if mask is None else tokens.masked_fill(~mask, 0))[..., None]

    def decode(self, tokens: Int[Tensor, "b t 1"]) -> Float[Tensor, "b t d"]:
        """Return the vectors of tokens."""
        return widened(self.up, self._code(tokens[..., 0])).to(self.up.weight.dtype)

    def _code_of(self, z: Float[Tensor, "b t d"]) -> Float[Tensor, "b t c"]:
        return widened(self.down, z)

    def _code(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t c"]:
        return wide(self.codes(tokens))

    def _nearest(self, e: Float[Tensor, "b t c"]) -> Int[Tensor, "b t"]:
        return (F.normalize(wide(e), dim=-1) @ F.normalize(wide(self.codes.weight), dim=-1).T).argmax(-1)

    @torch.no_grad()
    def _judge(
        self,
        e: Float[Tensor, "b t c"],
        mask: Bool[Tensor, "b t"],
        usage: Float[Tensor, "k"],
        rows: Int[Tensor, "b"] | None,
    ) -> None:
        """Follow how often codes are used, and replace those that are not."""
        if usage.sum() == 0:  # a level that no item of this batch reaches
            return
        first = int(self.counts.sum() == 0)
        self.counts.lerp_(usage.to(self.counts), 1.0 if first else 1 - self.decay)
        even = usage.sum() / self.codebook_size  # of this batch: the averages still hold what codes were born with
        dead = torch.ones_like(self.counts, dtype=torch.bool) if first else self.counts < self.dead_below * even
        number = int(dead.sum())
        fresh = replacements(e, mask, rows, number, int(self.updates)) if number else None
        if fresh is not None:
            self.codes.weight[dead] = fresh
            self.counts[dead] = even * (self.dead_below or 1.0) / self.decay**PROBATION
        self.updates += 1


class SphericalQuantizer(FactorisedQuantizer):
    """The factorised quantiser with vectors and codes of length 1, in the losses and in what goes on (ViT-VQGAN, as
    published; LlamaGen, arXiv:2406.06525). Arguments are those of ``FactorisedQuantizer``.
    """

    def _code_of(self, z: Float[Tensor, "b t d"]) -> Float[Tensor, "b t c"]:
        return F.normalize(super()._code_of(z), dim=-1)

    def _code(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t c"]:
        return F.normalize(super()._code(tokens), dim=-1)
