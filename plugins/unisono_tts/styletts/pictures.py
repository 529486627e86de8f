"""Pictures: mels seen as pictures, for the style of a recording and for the judge of mels (arXiv:2205.15439).

Both have one trunk; spectral normalisation (Miyato et al., arXiv:1802.05957) throughout. Differences: frames beyond an
item's end are zero before each convolution and left out of the pooling, where the published code pools over them, or
goes through items one by one; the last convolution is padded in time, so that a clip of any length has a place in it,
where the published one needs 80 frames and its training leaves out shorter clips in silence.

Shapes: b batch, c channels, t frames, m mel bins, s style.
"""

import math
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm
from unisono.train.discriminator_losses import Judgement

from unisono_tts.styletts.blocks import SLOPE, halved, within

HALVINGS = 4
LAST_KERNEL = 5


class PictureBlock(nn.Module):
    """A residual block that halves frames and frequencies, at unit variance."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.first = spectral_norm(nn.Conv2d(in_channels, in_channels, 3, padding=1))
        self.halve = spectral_norm(
            nn.Conv2d(in_channels, in_channels, 3, stride=2, padding=1, groups=in_channels)
        )  # fmt: skip
        self.second = spectral_norm(nn.Conv2d(in_channels, out_channels, 3, padding=1))
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else spectral_norm(nn.Conv2d(in_channels, out_channels, 1, bias=False))

    def forward(
        self, x: Float[Tensor, "b c t f"], mask: Bool[Tensor, "b t"], coarse: Bool[Tensor, "b h"]
    ) -> Float[Tensor, "b d h g"]:
        """``x`` is 0 outside ``mask``; ``coarse`` is the mask of what comes out."""
        y = self.first(F.leaky_relu(x, SLOPE)) * plane(mask, x)
        y = F.leaky_relu(self.halve(y), SLOPE) * plane(coarse, x)
        return (pooled(self.skip(x), mask) + self.second(y)) * plane(coarse, x) / math.sqrt(2)


class PictureTrunk(nn.Module):
    """Convolution, four halving blocks, and a convolution over what is left of the frequencies."""

    def __init__(self, picture_dim: int, max_dim: int, n_mels: int):
        super().__init__()
        self.into = spectral_norm(nn.Conv2d(1, picture_dim, 3, padding=1))
        widths = [min(picture_dim * 2**i, max(max_dim, picture_dim)) for i in range(HALVINGS + 1)]
        self.blocks = nn.ModuleList(PictureBlock(a, b) for a, b in pairwise(widths))
        rows = min(LAST_KERNEL, math.ceil(n_mels / 2**HALVINGS))
        self.last = spectral_norm(nn.Conv2d(widths[-1], widths[-1], (LAST_KERNEL, rows), padding=(LAST_KERNEL // 2, 0)))
        self.dim = widths[-1]

    def forward(
        self, mel: Float[Tensor, "b t m"], lengths: Int[Tensor, " b"]
    ) -> tuple[list[Float[Tensor, "b c t f"]], Bool[Tensor, "b h"]]:
        """Return what each layer makes, and the mask of the last one's frames."""
        mask = within(lengths, mel.shape[1])
        x = mel[:, None] * plane(mask, mel)
        x = self.into(x) * plane(mask, x)
        made = [x]
        for block in self.blocks:
            lengths = halved(lengths)
            coarse = within(lengths, (mask.shape[1] + 1) // 2)
            x, mask = block(x, mask, coarse), coarse
            made.append(x)
        x = self.last(F.leaky_relu(x, SLOPE)) * plane(mask, x)
        return [*made, x], mask


class StyleEncoder(nn.Module):
    """The style of a recording: one vector of its standardised mel, whatever its length.

    ::

        mel ─ PictureTrunk ─ mean over frames ─ leaky ReLU ─ Linear ─ style
    """

    def __init__(self, picture_dim: int, max_dim: int, n_mels: int, style_dim: int):
        super().__init__()
        self.trunk = PictureTrunk(picture_dim, max_dim, n_mels)
        self.out = nn.Linear(self.trunk.dim, style_dim)

    def forward(self, mel: Float[Tensor, "b t m"], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b s"]:
        made, mask = self.trunk(mel, lengths)
        return self.out(F.leaky_relu(masked_mean(made[-1], mask), SLOPE))


class MelDiscriminator(nn.Module):
    """Says of a mel whether it is real: one number.

    It reads mels [b, t, m + 1] as ``with_mask`` makes them, so that padding is known apart.
    """

    def __init__(self, picture_dim: int, max_dim: int, n_mels: int):
        super().__init__()
        self.trunk = PictureTrunk(picture_dim, max_dim, n_mels)
        self.score = spectral_norm(nn.Linear(self.trunk.dim, 1))

    def forward(self, mel: Float[Tensor, "b t m1"]) -> list[Judgement]:
        lengths = (mel[..., -1] > 0.5).sum(1)
        made, mask = self.trunk(mel[..., :-1], lengths)
        score = self.score(masked_mean(F.leaky_relu(made[-1], SLOPE), mask))
        return [Judgement(score, [*made, score])]


def with_mask(mel: Float[Tensor, "b t m"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t m1"]:
    """Return a mel with its mask as one more bin: 1 where a frame counts."""
    inside = mask[..., None].to(mel.dtype)
    return torch.cat([mel * inside, inside], dim=2)


def plane(mask: Bool[Tensor, "b t"], like: Tensor) -> Float[Tensor, "b 1 t 1"]:
    """Return a mask of frames in the shape and type of pictures."""
    return mask[:, None, :, None].to(like.dtype)


def pooled(x: Float[Tensor, "b c t f"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b c h g"]:
    """Return the mean of each square of two by two places over those that are valid."""
    inside = plane(mask, x)
    total = F.avg_pool2d(x * inside, 2, ceil_mode=True)
    return total / F.avg_pool2d(inside, (2, 1), ceil_mode=True).clamp(min=0.5)


def masked_mean(x: Float[Tensor, "b c t f"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b c"]:
    """Return the mean over valid frames and all frequencies; 0 of an item without any."""
    return x.mul(plane(mask, x)).mean(3).sum(2) / mask.sum(1, keepdim=True).clamp(min=1)
