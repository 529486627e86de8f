"""Metric: a discriminator that learns PESQ, so that a generator can be trained on it (MetricGAN, arXiv:1905.04874).

MP-SENet's (arXiv:2305.13686, section 2.3): it sees the clean magnitude and another, and says how good that is, 1 for
the clean one itself, ``(PESQ − 1) / 3.5`` for what was restored::

    2 magnitudes ─ 4 × (conv 4×4 by 2 ─ norm, PReLU) ─ maximum ─ Linear ─ dropout ─ PReLU ─ Linear ─ learnable sigmoid

Weights are spectrally normalised. An item whose PESQ cannot be measured teaches nothing; the published code leaves the
whole batch's term out.

Shapes: b batch, n samples, t frames, f frequencies.
"""

from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from itertools import pairwise
from multiprocessing import get_context

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from unisono.errors import DataError
from unisono.nn.modules import Modules
from unisono.train.discriminator_losses import Judgement
from unisono_sound.measure import perceptual_quality
from unisono_sound.signal.phase import CentredTransform, TransformSizes

from unisono_restore.mp_senet.decoders import LearnableSigmoid
from unisono_restore.mp_senet.dense import Normed
from unisono_restore.mp_senet.spectra import compressed

LOWEST, SPAN = 1.0, 3.5
"""A listening score of PESQ is brought to [0, 1] by these."""


class MetricDiscriminator(nn.Module):
    """Pairs of waves, the clean one first, to a score of the second, near [0, 1]."""

    def __init__(self, spectrum: TransformSizes, compression: float, channels: int = 16):
        super().__init__()
        self.transform, self.compression = CentredTransform(spectrum), compression
        widths = [2, *(channels * 2**i for i in range(4))]
        self.convs: Modules[nn.Module] = Modules(
            spectral_norm(nn.Conv2d(a, b, 4, stride=2, padding=1, bias=False)) for a, b in pairwise(widths)
        )
        self.norms: Modules[Normed] = Modules(Normed(width) for width in widths[1:])
        self.head = nn.Sequential(
            spectral_norm(nn.Linear(widths[-1], widths[-2])),
            nn.Dropout(0.3),
            nn.PReLU(widths[-2]),
            spectral_norm(nn.Linear(widths[-2], 1)),
            LearnableSigmoid(1, 1.0),
        )

    def forward(self, pairs: Float[Tensor, "b 2 n"]) -> list[Judgement]:
        """Return one judgement of each pair, without features."""
        spectrum = self.transform(pairs.float().flatten(0, 1))
        x = compressed(spectrum, self.compression).magnitude.unflatten(0, (-1, 2))
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x), None)
        return [Judgement(self.head(x.amax((2, 3))), [])]


def qualities(pairs: Float[Tensor, "b 2 n"], rate: int, processes: int = 0) -> Float[Tensor, " b"]:
    """Return the PESQ of each pair's second wave beside its first, brought to [0, 1]; NaN where there is none.

    ``processes`` of them measure side by side; 0 measures here.
    """
    waves = list(pairs.detach().float().cpu().numpy())
    each = _pool(processes).map if processes else map
    return torch.tensor(list(each(partial(_quality, rate=rate), waves)), device=pairs.device)


@cache
def _pool(processes: int) -> ProcessPoolExecutor:
    """Return processes that stay, since to start them takes seconds."""
    return ProcessPoolExecutor(processes, get_context("spawn"))


def _quality(pair, rate: int) -> float:
    try:
        return (perceptual_quality(pair[0], rate, pair[1], rate) - LOWEST) / SPAN
    except DataError:
        return float("nan")
