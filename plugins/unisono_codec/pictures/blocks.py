"""Blocks: the convolutions that picture codecs are built of.

ConvNeXt's block in two dimensions (Liu et al., arXiv:2201.03545), the bottleneck block of VDVAE (Child,
arXiv:2011.10650), and changes of resolution by patches.

Shapes: b batch, c d channels, y x height and width.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class ConvNeXtBlock2d(nn.Module):
    """Mix over the surroundings within each channel, then over channels at each place, and add the result.

    ::

        x ─┬─ depthwise conv ─ LayerNorm ─ Linear ─ GELU ─ Linear ─ · γ ─ (+) ─
           └──────────────────────────────────────────────────────────────┘
    """

    def __init__(self, dim: int, kernel_size: int, mlp_ratio: float = 2.0, layer_scale: float = 1e-6):
        super().__init__()
        hidden = round(dim * mlp_ratio)
        self.depthwise = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.expand = nn.Linear(dim, hidden)
        self.project = nn.Linear(hidden, dim)
        self.gain = nn.Parameter(torch.full((dim,), layer_scale))

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.gain * self.project(F.gelu(self.expand(y)))
        return x + y.permute(0, 3, 1, 2)


class Bottleneck(nn.Sequential):
    """Four convolutions with few channels between them, each after a GELU; the middle ones see ``kernel_size``."""

    def __init__(self, dim: int, hidden: int, out: int, kernel_size: int, zero_last: bool = False):
        sizes = [(dim, hidden, 1), (hidden, hidden, kernel_size), (hidden, hidden, kernel_size), (hidden, out, 1)]
        layers: list[nn.Module] = []
        for inside, outside, kernel in sizes:
            layers += [nn.GELU(), nn.Conv2d(inside, outside, kernel, padding=kernel // 2)]
        super().__init__(*layers)
        if zero_last:
            last = layers[-1]
            assert isinstance(last, nn.Conv2d) and last.bias is not None
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)


def patch_down(dim: int, out: int, rate: int) -> nn.Conv2d:
    """Return a convolution of patches that do not overlap: ``rate`` times smaller each way."""
    return nn.Conv2d(dim, out, rate, stride=rate)


def patch_up(dim: int, out: int, rate: int) -> nn.Sequential:
    """Return a layer that makes a patch of each place: ``rate`` times larger each way."""
    return nn.Sequential(nn.Conv2d(dim, out * rate * rate, 1), nn.PixelShuffle(rate))
