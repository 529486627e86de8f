"""Vocos GAN: Vocos trained adversarially, as published.

Siuzdak, Vocos (arXiv:2306.00814), section 3.3::

    discriminators   hinge(MPD) + 0.1 · hinge(MRD)
    generator        hinge(MPD) + 0.1 · hinge(MRD) + FM(MPD) + 0.1 · FM(MRD) + 45 · log-mel L1

Differences: the generator runs once per step, and its output serves both players; a GAN-free
warm-up (``pretrain_steps``) is an option, and so is a start from another generator, as of every
model (``run.init_from``).

The loop is that of ``adversarial``.
"""

from typing import Any, Literal

from torch import nn
from unisono.train.adversarial import Adversarial, Played

from unisono_codec.vocoders.discriminators import MultiPeriodDiscriminator, MultiResolutionDiscriminator
from unisono_codec.vocoders.vocos import Vocos


class VocosGAN(Adversarial, Vocos):
    """The vocoder with multi-period and multi-resolution discriminators.

    Args:
        dim: channels of the blocks (published: 512).
        intermediate_dim: channels inside a block (published: 1536).
        num_blocks: ConvNeXt blocks (published: 8).
        mel_weight: weight of the log-mel distance beside the adversarial losses (published: 45).
        source: as of ``Vocos``.
        pitch_weight: weight of the pitch's cross entropy, where there is a source.
        stft_weight: weight of the multi-resolution STFT distance (published: none), which a training
            too short for the game to settle needs.
        resolution_weight: weight of the multi-resolution discriminators (published: 0.1).
        periods: of the multi-period discriminators.
        period_channels: channels of their layers (published: 32, 128, 512, 1024, 1024).
        resolutions: FFT size and hop of the multi-resolution discriminators.
        resolution_channels: channels of their layers (published: 64).
        pretrain_steps: steps on the distance of spectra alone before the game begins.
    """

    def __init__(
        self,
        *,
        dim: int = 512,
        intermediate_dim: int = 1536,
        num_blocks: int = 8,
        source: Literal["none", "harmonic"] = "none",
        mel_weight: float = 45.0,
        pitch_weight: float = 1.0,
        stft_weight: float = 0.0,
        resolution_weight: float = 0.1,
        periods: tuple[int, ...] = (2, 3, 5, 7, 11),
        period_channels: tuple[int, ...] = (32, 128, 512, 1024, 1024),
        resolutions: tuple[tuple[int, int], ...] = ((1024, 256), (2048, 512), (512, 128)),
        resolution_channels: int = 64,
        pretrain_steps: int = 0,
    ):
        super().__init__(
            dim=dim, intermediate_dim=intermediate_dim, num_blocks=num_blocks, source=source, pitch_weight=pitch_weight
        )
        self.adversarial_mel_weight = mel_weight
        self.stft_weight = stft_weight
        self.resolution_weight = resolution_weight
        self.periods = periods
        self.period_channels = period_channels
        self.resolutions = resolutions
        self.resolution_channels = resolution_channels
        self.pretrain_steps = pretrain_steps

    def judges(self) -> dict[str, tuple[nn.Module, float]]:
        period = MultiPeriodDiscriminator(self.periods, self.period_channels)
        resolution = MultiResolutionDiscriminator(self.resolutions, self.resolution_channels)
        return {"period": (period, 1.0), "resolution": (resolution, self.resolution_weight)}

    def play(self, batch: dict[str, Any]) -> Played:
        fake, beside = self.net.teach(batch)
        real = batch["wave"]
        parts = {"mel": self.mean(self.mel_loss(fake, real))}
        loss = self.adversarial_mel_weight * parts["mel"]
        if self.stft_weight:
            parts["stft"] = self.mean(self.stft_loss(fake, real))
            loss = loss + self.stft_weight * parts["stft"]
        for name, counted in beside.items():
            parts[name] = self.global_mean(*counted)
            loss = loss + self.pitch_weight * parts[name]
        return Played(fake, real, {"loss": loss, **parts})
