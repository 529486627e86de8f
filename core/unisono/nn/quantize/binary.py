"""Binary quantiser: the sign of each channel is a bit, and the bits are the token; no codebook, no look-up (LFQ).

Yu et al., "Language Model Beats Diffusion" (MAGVIT-v2, arXiv:2310.05737), section 3.1, as Open-MAGVIT2 (Luo et al.,
arXiv:2409.04410) trains it. A vector is softly assigned to the codes ``c`` in {−1, 1}^d by ``softmax(2 z·c /
temperature)``. Codes are a product of bits, so that assignment is too: ``p(bit i is 1) = σ(4 z_i / temperature)``.
Hence

- the entropy of a vector's assignment is exactly the sum of its bits' entropies;
- the entropy of the mean assignment is that of all codes where there are at most ``2^group_bits``; else bits go in
  groups, and it is the sum of the groups' entropies, an upper bound.

Nothing of size b · t · 2^d is ever made. Difference: two linear maps lead to the bits and back where ``dim`` is another
number.

Shapes: b batch, t positions, d channels, c bits, k codes, m codes of a group. Masks are True where a position is kept.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unisono.errors import UnisonoError
from unisono.nn.quantize.base import Quantised, Quantizer, counts, everything, total, widened
from unisono.nn.quantize.entropy import check_temperature, entropy_of_mean, summed
from unisono.nn.wide import wide

MOST_BITS = 30


class BinaryQuantizer(Quantizer):
    """Lookup-free quantisation: ``log2(codebook_size)`` signs.

    Args:
        dim: channels of a vector.
        codebook_size: codes, a power of 2 (published: 2^18).
        temperature: of the soft assignment whose entropies are returned (published: 0.01).
        group_bits: bits whose mean assignment is taken together (Open-MAGVIT2: 9).
    """

    num_codebooks = 1

    def __init__(self, dim: int, codebook_size: int, temperature: float = 0.01, group_bits: int = 9):
        super().__init__()
        bits = codebook_size.bit_length() - 1
        if codebook_size < 2 or 2**bits != codebook_size or bits > MOST_BITS:
            raise UnisonoError(
                f"codebook_size={codebook_size} must be a power of 2, from 2 to 2^{MOST_BITS}",
                code="range",
                path="codebook_size",
                value=codebook_size,
            )
        if not 1 <= group_bits <= 16:
            raise UnisonoError(
                f"group_bits={group_bits} must be from 1 to 16", code="range", path="group_bits", value=group_bits
            )
        check_temperature(temperature)
        self.dim, self.codebook_size, self.bits = dim, codebook_size, bits
        self.temperature, self.group_bits = temperature, group_bits
        mapped = dim != bits
        self.down = nn.Linear(dim, bits) if mapped else nn.Identity()
        self.up = nn.Linear(bits, dim) if mapped else nn.Identity()
        self.strides: Tensor
        self.register_buffer("strides", 2 ** torch.arange(bits), persistent=False)

    def forward(
        self,
        z: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"] | None = None,
        rows: Int[Tensor, "b"] | None = None,
    ) -> Quantised:
        """Quantise; ``commitment`` is the mean square distance of channels from their signs, entropies are beside
        it."""
        mask, dtype = everything(z) if mask is None else mask, z.dtype
        with torch.autocast(z.device.type, enabled=False):
            e = self._mapped(self.down, z)
            signs = _signs(e)
            tokens = self._numbered(signs, mask)
            vectors = self._mapped(self.up, e + (signs - e).detach()) * mask[..., None]
            commitment = (e - signs.detach()).square().mean(-1) * mask
            logits = 4 / self.temperature * e
            sample_entropy = _bit_entropy(logits).sum(-1) * mask
            usage = counts(tokens, mask, self.codebook_size)
            if self.training:  # all ranks train in step, but they need not validate in step
                usage = total(usage)
            batch_entropy = self._batch_entropy(logits, mask)
        return Quantised(
            vectors.to(dtype),
            tokens[..., None],
            commitment,
            torch.zeros_like(commitment),
            usage[None],
            sample_entropy,
            batch_entropy,
        )

    def tokens(
        self, z: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None = None, levels: int | None = None
    ) -> Int[Tensor, "b t 1"]:
        """Return tokens and nothing else; there is one level."""
        with torch.autocast(z.device.type, enabled=False):
            return self._numbered(_signs(self._mapped(self.down, z)), everything(z) if mask is None else mask)[
                ..., None
            ]

    def decode(self, tokens: Int[Tensor, "b t 1"]) -> Float[Tensor, "b t d"]:
        """Return the vectors of tokens."""
        dtype = torch.get_default_dtype() if isinstance(self.up, nn.Identity) else self.up.weight.dtype
        return self._mapped(self.up, (tokens // self.strides % 2).float() * 2 - 1).to(dtype)

    def _mapped(self, layer: nn.Module, x: Float[Tensor, "b t n"]) -> Float[Tensor, "b t m"]:
        return wide(x) if isinstance(layer, nn.Identity) else widened(layer, x)

    def _numbered(self, signs: Float[Tensor, "b t c"], mask: Bool[Tensor, "b t"]) -> Int[Tensor, "b t"]:
        return ((signs > 0) * self.strides).sum(-1).masked_fill(~mask, 0)

    def _batch_entropy(self, logits: Float[Tensor, "b t c"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, ""]:
        kept = logits[mask]
        parts = [
            entropy_of_mean(summed(_assignment, group, 2 ** group.shape[-1]), len(kept), self.training)
            for group in kept.split(self.group_bits, dim=-1)
        ]
        return torch.stack(parts).sum()


def _signs(e: Float[Tensor, "b t c"]) -> Float[Tensor, "b t c"]:
    """−1 or 1; 0 counts as −1."""
    return torch.where(e > 0, 1.0, -1.0).to(e)


def _bit_entropy(logits: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Entropy in nats of bits that are 1 with probability ``σ(logits)``."""
    return logits.sigmoid() * F.softplus(-logits) + (-logits).sigmoid() * F.softplus(logits)


def _assignment(logits: Float[Tensor, "n c"]) -> Float[Tensor, "n m"]:
    """How likely each of ``2^c`` codes is, the first channel the lowest bit."""
    found = logits.new_ones(len(logits), 1)
    for bit in logits.unbind(-1):
        found = torch.cat([found * (-bit).sigmoid()[:, None], found * bit.sigmoid()[:, None]], -1)
    return found
