"""Styles: drawn by a mapping network, read from a recording, or judged, for each speaker by a head of its own.

Shapes: b batch, t frames, m mel channels, z latent, e style, k speakers.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.modules import Modules

from unisono_convert.networks.maps import SLOPE, PlainBlock, kept, mean_of, padded_to
from unisono_convert.starganv2.generator import widths

__all__ = ["Discriminator", "EncoderSizes", "Mapping", "MappingSizes", "StyleEncoder", "of_speaker"]


@dataclass(frozen=True, kw_only=True)
class EncoderSizes:
    """Sizes of the style encoder, the discriminator and the classifier, as published."""

    dim: int = 64
    max_dim: int = 512
    num_blocks: int = 4


@dataclass(frozen=True, kw_only=True)
class MappingSizes:
    """Sizes of the mapping network, as published: ``num_layers`` shared ones, and as many for each speaker."""

    latent_dim: int = 16
    dim: int = 512
    num_layers: int = 4


def of_speaker(each: Float[Tensor, "b k e"], speaker: Int[Tensor, " b"]) -> Float[Tensor, "b e"]:
    """Return what the head of each item's speaker says."""
    return each[torch.arange(len(each), device=each.device), speaker]


class Mapping(nn.Module):
    """``z ─ (Linear ─ ReLU) × num_layers ─ (Linear ─ ReLU) × (num_layers − 1) ─ Linear``, the second half of each
    speaker's own."""

    def __init__(self, sizes: MappingSizes, num_speakers: int, style_dim: int):
        super().__init__()
        inner = [sizes.latent_dim] + [sizes.dim] * sizes.num_layers
        self.shared: Modules[nn.Linear] = Modules(nn.Linear(a, b) for a, b in pairwise(inner))
        self.own: Modules[SpeakerHead] = Modules(SpeakerHead(sizes, style_dim) for _ in range(num_speakers))

    def forward(self, latent: Float[Tensor, "b z"], speaker: Int[Tensor, " b"]) -> Float[Tensor, "b e"]:
        for layer in self.shared:
            latent = layer(latent).relu()
        return of_speaker(torch.stack([head(latent) for head in self.own], 1), speaker)


class SpeakerHead(nn.Module):
    """What of the mapping network is a speaker's own."""

    def __init__(self, sizes: MappingSizes, style_dim: int):
        super().__init__()
        self.inner: Modules[nn.Linear] = Modules(nn.Linear(sizes.dim, sizes.dim) for _ in range(sizes.num_layers - 1))
        self.out = nn.Linear(sizes.dim, style_dim)

    def forward(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b e"]:
        for layer in self.inner:
            x = layer(x).relu()
        return self.out(x)


class MelEncoder(nn.Module):
    """``mel ─ conv 3 ─ block × num_blocks, halved ─ lrelu ─ conv 5 ─ lrelu ─ mean over the valid places``"""

    def __init__(self, sizes: EncoderSizes):
        super().__init__()
        self.multiple = 2**sizes.num_blocks
        self.embed = nn.Conv2d(1, sizes.dim, 3, padding=1)
        ways = list(widths(sizes.dim, sizes.max_dim, sizes.num_blocks))
        self.blocks: Modules[PlainBlock] = Modules(PlainBlock(a, b) for a, b in ways)
        self.dim = ways[-1][1]
        self.last = nn.Conv2d(self.dim, self.dim, 5, padding=2)

    def forward(self, mel: Float[Tensor, "b t m"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b d"]:
        x = self.embed(kept(padded_to(mel, self.multiple), mask))
        for block in self.blocks:
            x, mask = block(x, mask)
        x = self.last(kept(F.leaky_relu(x, SLOPE), mask))
        return mean_of(F.leaky_relu(x, SLOPE), mask)


class StyleEncoder(nn.Module):
    """The style of a recording, by its speaker's head."""

    def __init__(self, sizes: EncoderSizes, num_speakers: int, style_dim: int):
        super().__init__()
        self.trunk = MelEncoder(sizes)
        self.heads: Modules[nn.Linear] = Modules(nn.Linear(self.trunk.dim, style_dim) for _ in range(num_speakers))

    def forward(
        self, mel: Float[Tensor, "b t m"], mask: Bool[Tensor, "b t"], speaker: Int[Tensor, " b"]
    ) -> Float[Tensor, "b e"]:
        heard = self.trunk(mel, mask)
        return of_speaker(torch.stack([head(heard) for head in self.heads], 1), speaker)


class Discriminator(nn.Module):
    """A logit for each speaker: of a recording's being real (discriminator), or its source (classifier)."""

    def __init__(self, sizes: EncoderSizes, num_speakers: int):
        super().__init__()
        self.trunk = MelEncoder(sizes)
        self.out = nn.Linear(self.trunk.dim, num_speakers)

    def forward(self, mel: Float[Tensor, "b t m"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b k"]:
        return self.out(self.trunk(mel, mask))
