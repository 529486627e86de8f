"""Multi-scale discriminators: a waveform, seen at its own rate, at half and at a quarter of it (MelGAN).

Kumar et al. (arXiv:1910.06711), section 2.2 and appendix A: three of one shape, each but the first behind an average
over 4 samples, 2 apart::

    wave ─ conv 15 ─ 4 × conv 41, stride 4, in groups of 4 ─ conv 5 ─ conv 3 ─ scores

Default sizes are the published ones.

Shapes: b batch, n samples, k regions.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from unisono.train.discriminator_losses import Judgement

SLOPE = 0.2
LAYERS = 6
"""Whose features are compared."""


class WaveScales(nn.Module):
    """One ``ScaleDiscriminator`` per rate."""

    def __init__(self, scales: int = 3, channels: int = 16, most_channels: int = 1024):
        super().__init__()
        self.judges = nn.ModuleList(ScaleDiscriminator(channels, most_channels) for _ in range(scales))

    def forward(self, wave: Float[Tensor, "b n"]) -> list[Judgement]:
        said, x = [], wave[:, None]
        for number, judge in enumerate(self.judges):
            if number:
                x = F.avg_pool1d(x, 4, 2, padding=1, count_include_pad=False)
            said.append(judge(x))
        return said


class ScaleDiscriminator(nn.Module):
    """The discriminator of one rate."""

    def __init__(self, channels: int, most_channels: int):
        super().__init__()
        widths = [channels]
        for _ in range(4):
            widths.append(min(4 * widths[-1], most_channels))
        last = min(2 * widths[-1], most_channels)
        layers = [
            nn.Conv1d(1, widths[0], 15, padding=7, padding_mode="reflect"),
            *(nn.Conv1d(widths[i], widths[i + 1], 41, 4, padding=20, groups=max(widths[i] // 4, 1)) for i in range(4)),
            nn.Conv1d(widths[-1], last, 5, padding=2),
            nn.Conv1d(last, 1, 3, padding=1),
        ]
        for layer in layers:
            nn.init.normal_(layer.weight, 0.0, 0.02)
            weight_norm(layer)
        self.convs, self.score = nn.ModuleList(layers[:-1]), layers[-1]

    def forward(self, x: Float[Tensor, "b 1 n"]) -> Judgement:
        features: list[Tensor] = []
        for layer in self.convs:
            x = F.leaky_relu(layer(x), SLOPE)
            features.append(x)
        return Judgement(torch.flatten(self.score(x), 1), features)
