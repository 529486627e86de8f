"""Index quantiser: the nearest code by inner product, with a gradient that reaches every code (IBQ).

Shi et al., "Scalable Image Tokenization with Index Backpropagation Quantization" (arXiv:2412.02692), section 3.2: the
straight-through estimator is on the one-hot index, not on the vector::

    p = softmax(z · Cᵀ)      hard = onehot(argmax p)      index = hard + p − sg(p)      vector = index · C

so that all codes move at each step. Assignments are made in slabs of rows, again for the gradient, for at 16,384 codes
those of a batch are gigabytes. The value of a vector is exactly that of its code.

Difference: the softmax whose entropies are returned has a temperature of its own (published: 0.01), and the mean
assignment is that of all ranks.

Shapes: b batch, t positions, d channels, n kept vectors, k codes. Masks are True where a position is kept.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unisono.errors import UnisonoError
from unisono.nn.quantize.base import Quantised, Quantizer, check_learns, counts, everything, total
from unisono.nn.quantize.entropy import check_temperature, entropy_of_mean, slabs
from unisono.nn.wide import wide


class IndexQuantizer(Quantizer):
    """A codebook ``[k, d]`` that learns by gradient, all codes at each step.

    Args:
        dim: channels of a vector and of a code (published: 256).
        codebook_size: codes (published: 1,024 to 262,144).
        temperature: of the soft assignment whose entropies are returned (published: 0.01).
    """

    num_codebooks = 1

    def __init__(self, dim: int, codebook_size: int, temperature: float = 0.01):
        super().__init__()
        if codebook_size < 2:
            raise UnisonoError(
                f"codebook_size={codebook_size} must be at least 2",
                code="range",
                path="codebook_size",
                value=codebook_size,
            )
        check_temperature(temperature)
        self.dim, self.codebook_size, self.temperature = dim, codebook_size, temperature
        self.codes = nn.Embedding(codebook_size, dim)
        nn.init.uniform_(self.codes.weight, -1 / codebook_size, 1 / codebook_size)

    def forward(
        self,
        z: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"] | None = None,
        rows: Int[Tensor, "b"] | None = None,
    ) -> Quantised:
        """Quantise; the published third term, the distance of ``vectors`` as they go on, is ``(vectors − z)²``."""
        mask, dtype = everything(z) if mask is None else mask, z.dtype
        with torch.autocast(z.device.type, enabled=False):
            z, codes = wide(z), wide(self.codes.weight)
            if self.training:
                check_learns(self.codes.weight)
            tokens = self._nearest(z).masked_fill(~mask, 0)
            kept = z[mask]
            parts = [
                checkpoint(self._slab, part, codes, use_reentrant=False)
                for part in kept.split(slabs(len(kept), self.codebook_size))
            ]
            soft, entropy = (torch.cat([part[i] for part in parts]) for i in range(2))
            hard = codes[tokens]
            through = torch.zeros_like(hard).masked_scatter(mask[..., None], soft - soft.detach())
            vectors = (hard + through) * mask[..., None]
            commitment = (z - hard.detach()).square().mean(-1) * mask
            codebook = (z.detach() - hard).square().mean(-1) * mask
            sample_entropy = torch.zeros_like(commitment).masked_scatter(mask, entropy)
            batch_entropy = entropy_of_mean(torch.stack([part[2] for part in parts]).sum(0), len(kept), self.training)
            usage = counts(tokens, mask, self.codebook_size)
            if self.training:  # all ranks train in step, but they need not validate in step
                usage = total(usage)
        return Quantised(
            vectors.to(dtype), tokens[..., None], commitment, codebook, usage[None], sample_entropy, batch_entropy
        )

    def tokens(
        self, z: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None = None, levels: int | None = None
    ) -> Int[Tensor, "b t 1"]:
        """Return tokens and nothing else; there is one level."""
        with torch.autocast(z.device.type, enabled=False):
            tokens = self._nearest(wide(z))
        return (tokens if mask is None else tokens.masked_fill(~mask, 0))[..., None]

    def decode(self, tokens: Int[Tensor, "b t 1"]) -> Float[Tensor, "b t d"]:
        """Return the vectors of tokens."""
        return self.codes(tokens[..., 0])

    @torch.no_grad()
    def _nearest(self, z: Float[Tensor, "b t d"]) -> Int[Tensor, "b t"]:
        flat, codes = z.flatten(0, 1), wide(self.codes.weight).mT
        parts = flat.split(slabs(len(flat), self.codebook_size))
        return torch.cat([(part @ codes).argmax(-1) for part in parts]).view(z.shape[:2])

    def _slab(
        self, z: Float[Tensor, "n d"], codes: Float[Tensor, "k d"]
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"], Float[Tensor, "k"]]:
        """Return, of some vectors, the soft mix of codes (which stand still in it), and the assignment's entropies and
        sum."""
        logits = z @ codes.mT
        mixed = logits.softmax(-1) @ codes.detach()
        sharp = (logits / self.temperature).log_softmax(-1)
        chances = sharp.exp()
        return mixed, -(chances * sharp).sum(-1), chances.sum(0)
