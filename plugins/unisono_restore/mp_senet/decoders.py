"""Decoders: a mask for the magnitudes, and phases outright.

::

    ─ dense block ─ twice the frequencies ─ norm, PReLU ─┬─ 1 channel ─ learnable sigmoid ──── mask
                                                        └─ 1 channel i, 1 channel r ─ atan2 ── phase

Each decoder has a trunk of its own. The long paper doubles frequencies by putting channels side by side and takes the
last one off by a convolution of 2; the short one has a transposed convolution, and narrows to one channel before the
norm of the mask.

Shapes: b batch, c channels, t frames, f frequencies (h = (f ± 1) / 2 of them before they are doubled).
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from unisono.nn.wide import wide

from unisono_restore.mp_senet.dense import DenseBlock, Normed
from unisono_restore.mp_senet.sizes import SENetSizes


class LearnableSigmoid(nn.Module):
    """``β / (1 + exp(−s_f · x))`` with a slope for each frequency, 1 at first; in (0, β), and β/2 at 0."""

    def __init__(self, num_bins: int, limit: float):
        super().__init__()
        self.limit = limit
        self.slope = nn.Parameter(torch.ones(num_bins))

    def forward(self, x: Float[Tensor, "... f"]) -> Float[Tensor, "... f"]:
        return self.limit * torch.sigmoid(self.slope * x)


class SubPixel(nn.Module):
    """Twice the frequencies: a convolution makes two for each, side by side."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, (1, 3), padding=(0, 1))

    def forward(self, x: Float[Tensor, "b c t h"]) -> Float[Tensor, "b c t g"]:
        return rearrange(self.conv(x), "b (two c) t h -> b c t (h two)", two=2)


class MaskDecoder(nn.Module):
    """The mask of the compressed magnitude, in (0, ``mask_limit``)."""

    def __init__(self, sizes: SENetSizes, num_bins: int):
        super().__init__()
        short, c = sizes.short, sizes.channels
        self.block = DenseBlock(c, sizes.depth, short)
        self.doubled = _transposed(c) if short else SubPixel(c)
        self.narrow = nn.Conv2d(c, 1, 1) if short else nn.Identity()
        self.norm = Normed(1 if short else c)
        self.last = nn.Conv2d(1, 1, 1) if short else nn.Conv2d(c, 1, (1, 2))
        self.sigmoid = LearnableSigmoid(num_bins, sizes.mask_limit)

    def forward(self, x: Float[Tensor, "b c t h"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b t f"]:
        x = self.doubled(self.block(x, mask))
        x = self.last(self.norm(self.narrow(x), mask))[:, 0]
        with torch.autocast(x.device.type, enabled=False):
            return self.sigmoid(wide(x))


class PhaseDecoder(nn.Module):
    """The phase, in (−π, π]: a direction of two numbers, whatever their size."""

    def __init__(self, sizes: SENetSizes):
        super().__init__()
        short, c = sizes.short, sizes.channels
        self.block = DenseBlock(c, sizes.depth, short)
        self.doubled = _transposed(c) if short else SubPixel(c)
        self.norm = Normed(c)
        width = (1, 1) if short else (1, 2)
        self.real, self.imaginary = nn.Conv2d(c, 1, width), nn.Conv2d(c, 1, width)

    def forward(self, x: Float[Tensor, "b c t h"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b t f"]:
        x = self.norm(self.doubled(self.block(x, mask)), mask)
        with torch.autocast(x.device.type, enabled=False):  # a phase in bfloat16 is off by up to 1 % of a turn
            x = wide(x)
            return torch.atan2(self.imaginary(x)[:, 0], self.real(x)[:, 0])


def _transposed(channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, channels, (1, 3), stride=(1, 2))
