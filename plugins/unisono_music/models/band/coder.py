"""Bar codes: a small autoencoder that names what is in a bar of a track by a few codes (VQ-VAE, arXiv:1711.00937).

::

    pitch and onset of each step ─ embedding ─ linear, GELU, linear ─ grouped quantiser ─ linear, GELU, linear ─ again

The codes are one more control, as in BandControlNet, for what density and register do not say. There the autoencoder is
trained beforehand; here beside the band, which sees codes alone and sends it no gradient.

Shapes: k tracks, n pieces, s bars, p steps of a bar, q groups. Masks are True where kept.
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.quantize import GroupedQuantizer, Quantised, VectorQuantizer

from unisono_music.models.band.sizes import CodeSizes
from unisono_music.models.band.words import Words

STEP_DIM = 16
"""Channels of a step's pitch and onset."""


class BarCoder(nn.Module):
    """See the module; pitches count from each track's lowest one, -1 is silence."""

    def __init__(self, words: Words, num_tracks: int, sizes: CodeSizes):
        super().__init__()
        self.num_pitches = words.num_pitches
        self.pitch = nn.Embedding(words.num_pitches + 1, STEP_DIM)
        self.onset = nn.Embedding(2, STEP_DIM)
        self.track = nn.Embedding(num_tracks, sizes.width)
        self.wide = nn.Linear(words.bar_steps * STEP_DIM, sizes.width)
        self.narrow = nn.Linear(sizes.width, sizes.num_groups * sizes.code_dim)
        self.quantizer = GroupedQuantizer(
            [VectorQuantizer(sizes.code_dim, sizes.codebook_size) for _ in range(sizes.num_groups)]
        )
        self.again = nn.Linear(sizes.num_groups * sizes.code_dim, sizes.width)
        self.steps = nn.Linear(sizes.width, words.bar_steps * (words.num_pitches + 2))

    def encode(self, pitch: Int[Tensor, "k n s p"], onset: Bool[Tensor, "k n s p"]) -> Float[Tensor, "k n s c"]:
        """Return the vectors of bars, which are to be quantised."""
        steps = (self.pitch(pitch + 1) + self.onset(onset.long())).flatten(-2)
        return self.narrow(F.gelu(self.wide(steps) + self.track.weight[:, None, None]))

    @torch.no_grad()
    def codes(
        self, pitch: Int[Tensor, "k n s p"], onset: Bool[Tensor, "k n s p"], kept: Bool[Tensor, "n s"]
    ) -> Int[Tensor, "k n s q"]:
        """Return the codes of bars, 0 for those that a piece does not have."""
        z = self.encode(pitch, onset)
        tokens = self.quantizer.tokens(z.flatten(0, 1), kept.repeat(len(pitch), 1))
        return tokens.unflatten(0, pitch.shape[:2])

    def forward(
        self,
        pitch: Int[Tensor, "k n s p"],
        onset: Bool[Tensor, "k n s p"],
        kept: Bool[Tensor, "n s"],
        rows: Int[Tensor, " n"],
    ) -> tuple[Float[Tensor, "k n s p"], Quantised]:
        """Return the cost of each step made again, in nats, and what the quantiser did; ``rows`` number the pieces."""
        k = len(pitch)
        numbers = (rows[None] * k + torch.arange(k, device=rows.device)[:, None]).flatten()
        quantised = self.quantizer(self.encode(pitch, onset).flatten(0, 1), kept.repeat(k, 1), numbers)
        hidden = self.again(quantised.vectors).unflatten(0, pitch.shape[:2]) + self.track.weight[:, None, None]
        made = rearrange(self.steps(F.gelu(hidden)), "k n s (p v) -> k n s p v", p=pitch.shape[-1])
        cost = F.cross_entropy(rearrange(made[..., 1:], "k n s p v -> k v n s p"), pitch + 1, reduction="none")
        return cost + F.binary_cross_entropy_with_logits(
            made[..., 0], onset.to(made.dtype), reduction="none"
        ), quantised
