"""Generator: a mel to the same in a style, its pitch contour told beside it (StarGANv2-VC, arXiv:2107.10394).

Shapes: b batch, t frames, m mel channels, p pitch features, e style.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.errors import RecipeError
from unisono.nn.modules import Modules
from unisono.nn.norm import MaskedInstanceNorm

from unisono_convert.networks.maps import SLOPE, DownBlock, Halving, StyleBlock, kept, padded_to
from unisono_convert.networks.pooling import pooled

__all__ = ["Generator", "GeneratorSizes", "widths"]


@dataclass(frozen=True, kw_only=True)
class GeneratorSizes:
    """Sizes as published: ``dim`` channels doubled by each block up to ``max_dim``; what each block halves; blocks
    between; ``pitch_dim`` channels for the pitch, made of ``pitch_features``: as many as the tutor's trunk has."""

    dim: int = 64
    max_dim: int = 512
    halvings: tuple[Halving, ...] = ("both", "frequency", "both", "frequency")
    bottleneck: int = 2
    pitch_dim: int = 128
    pitch_features: int = 256

    def __post_init__(self):
        if not self.halvings or self.bottleneck < 1 or self.dim < 1 or self.max_dim < self.dim:
            message = (
                f"model.generator: dim={self.dim}, max_dim={self.max_dim}, {len(self.halvings)} halvings, "
                f"bottleneck={self.bottleneck}: give at least one of each, and max_dim at least dim"
            )
            raise RecipeError(message, code="value", path="model.generator", value=self.dim)

    @property
    def frame_factor(self) -> int:
        """Frames to a step of the bottleneck."""
        return 2 ** sum(how == "both" for how in self.halvings)

    @property
    def frequency_factor(self) -> int:
        """Mel channels to a place of the bottleneck."""
        return 2 ** sum(how != "none" for how in self.halvings)


def widths(dim: int, max_dim: int, count: int) -> Iterator[tuple[int, int]]:
    """Yield the channels into and out of so many blocks, each twice as wide as the one before it, up to a limit."""
    return pairwise(min(dim * 2**level, max_dim) for level in range(count + 1))


class PitchBlock(nn.Module):
    """Pitch features on the bottleneck's grid: ``norm ─ lrelu ─ conv 3 ─ norm ─ lrelu ─ conv 3``, added to a projection
    and averaged over the frames of a step."""

    def __init__(self, features: int, dim: int, factor: int):
        super().__init__()
        self.factor = factor
        self.norms: Modules[MaskedInstanceNorm] = Modules([MaskedInstanceNorm(features), MaskedInstanceNorm(dim)])
        self.first = nn.Conv1d(features, dim, 3, padding=1)
        self.second = nn.Conv1d(dim, dim, 3, padding=1)
        self.across = nn.Conv1d(features, dim, 1, bias=False)

    def forward(self, features: Float[Tensor, "b t p"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b p u"]:
        x, inside = features.mT, mask[:, None]
        y = self.first(F.leaky_relu(self.norms[0](x, mask), SLOPE)) * inside
        y = self.second(F.leaky_relu(self.norms[1](y, mask), SLOPE))
        y = (self.across(x) + y) * inside / 2**0.5
        return pooled(y.mT, mask, self.factor)[0].mT if self.factor > 1 else y


class Generator(nn.Module):
    """::

    mel ─ conv 3 ─ IN block × 4, halved ─ IN block × 2 ─(+)─ AdaIN block × 2 ─ AdaIN block × 4, doubled ─ conv 1
    pitch features ─ IN ─ conv, averaged ───────────────┘        └ style ─────────┘
    """

    def __init__(self, num_mels: int, sizes: GeneratorSizes, style_dim: int):
        super().__init__()
        self.sizes, self.num_mels = sizes, num_mels
        ways = list(zip(widths(sizes.dim, sizes.max_dim, len(sizes.halvings)), sizes.halvings, strict=True))
        deep = ways[-1][0][1]
        self.embed = nn.Conv2d(1, sizes.dim, 3, padding=1)
        self.down: Modules[DownBlock] = Modules(
            [DownBlock(a, b, how) for (a, b), how in ways]
            + [DownBlock(deep, deep, "none") for _ in range(sizes.bottleneck)]
        )
        self.pitch = PitchBlock(sizes.pitch_features, sizes.pitch_dim, sizes.frame_factor)
        self.up: Modules[StyleBlock] = Modules(
            [
                StyleBlock(deep + (0 if level else sizes.pitch_dim), deep, style_dim, "none")
                for level in range(sizes.bottleneck)
            ]
            + [StyleBlock(b, a, style_dim, how) for (a, b), how in reversed(ways)]
        )
        self.norm = MaskedInstanceNorm(sizes.dim)
        self.out = nn.Conv2d(sizes.dim, 1, 1)

    def forward(
        self,
        mel: Float[Tensor, "b t m"],
        mask: Bool[Tensor, "b t"],
        pitch: Float[Tensor, "b t p"],
        style: Float[Tensor, "b e"],
    ) -> Float[Tensor, "b t m"]:
        x, masks = self.embed(kept(padded_to(mel, self.sizes.frequency_factor), mask)), [mask]
        for block in self.down:
            x, after = block(x, masks[-1])
            masks.append(after)
        contour = self.pitch(pitch, mask)
        x = torch.cat([x, contour[..., None].expand(-1, -1, -1, x.shape[3])], 1)
        before = masks[-1]
        for block, after in zip(self.up, self._ways_back(masks), strict=True):
            x, before = block(x, before, after, style), after
        x = self.out(F.leaky_relu(self.norm(x, mask), SLOPE))
        return kept(x, mask)[:, 0, :, : self.num_mels]

    def _ways_back(self, masks: list[Bool[Tensor, "b t"]]) -> list[Bool[Tensor, "b t"]]:
        """The masks behind each block of the way up: those before the blocks of the way down, the last first."""
        levels = len(self.sizes.halvings)
        return [masks[levels]] * self.sizes.bottleneck + masks[:levels][::-1]
