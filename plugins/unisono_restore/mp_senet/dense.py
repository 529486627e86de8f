"""Dense: dilated convolutions of which each sees all that came before it, and the encoder that begins with them.

::

    2 channels ─ conv 1×1 ─ norm, PReLU ─ dense block ─ conv 1×3, every second frequency ─ norm, PReLU ─ c channels

Time is the first of a map's two axes. The long paper's convolutions look at a frame and one before it (dilated); the
``short`` paper's look at both sides, and its encoder drops what the halving does not reach. Padding frames are zero
before each convolution, as what is outside of a sound is.

Shapes: b batch, c channels, t frames, f frequencies (h = (f ± 1) / 2 of them after the encoder).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.modules import Modules
from unisono.nn.norm import MaskedInstanceNorm


class Normed(nn.Module):
    """Instance normalisation over the frames that are kept, and PReLU."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = MaskedInstanceNorm(channels)
        self.activation = nn.PReLU(channels)

    def forward(self, x: Float[Tensor, "b c t f"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b c t f"]:
        return self.activation(self.norm(x, mask))


class DenseBlock(nn.Module):
    """``depth`` convolutions of c channels, dilated 1, 2, 4 and so on in time; the last one's output is the block's.

    ``x`` must be zero in padding frames.
    """

    def __init__(self, channels: int, depth: int, short: bool):
        super().__init__()
        self.short = short
        frames = 3 if short else 2
        self.convs: Modules[nn.Conv2d] = Modules(
            nn.Conv2d(channels * (i + 1), channels, (frames, 3), dilation=(2**i, 1)) for i in range(depth)
        )
        self.norms: Modules[Normed] = Modules(Normed(channels) for _ in range(depth))

    def forward(self, x: Float[Tensor, "b c t f"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b c t f"]:
        seen = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(F.pad(seen, (1, 1, 2**i, 2**i if self.short else 0))), mask)
            seen = torch.cat([x, seen], dim=1)
        return x


class DenseEncoder(nn.Module):
    """A magnitude and a phase to c channels at half of the frequencies."""

    def __init__(self, channels: int, depth: int, short: bool):
        super().__init__()
        self.first = nn.Conv2d(2, channels, 1)
        self.first_norm = Normed(channels)
        self.block = DenseBlock(channels, depth, short)
        self.halve = nn.Conv2d(channels, channels, (1, 3), stride=(1, 2), padding=(0, 0 if short else 1))
        self.last_norm = Normed(channels)

    def forward(self, x: Float[Tensor, "b 2 t f"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b c t h"]:
        x = self.first_norm(self.first(x), mask)
        return self.last_norm(self.halve(self.block(x, mask)), mask)
