"""Sizes: the groups of AP-BWE's ``model:`` section."""

from dataclasses import dataclass

from unisono.errors import RecipeError
from unisono_sound.signal.phase import TransformSizes

__all__ = ["SPECTRUM", "BandGame", "BandObjective", "BandSizes"]

SPECTRUM = TransformSizes(n_fft=1024, win_length=320, hop_length=80)
"""The published transform, at 16 and at 48 kHz."""


@dataclass(frozen=True, kw_only=True)
class BandSizes:
    """Sizes of the two streams.

    dim: channels of the blocks (published: 512).
    intermediate_dim: channels inside a block (published: 1536).
    num_blocks: ConvNeXt blocks of each stream (published: 8).
    """

    dim: int = 512
    intermediate_dim: int = 1536
    num_blocks: int = 8

    def __post_init__(self):
        for name in ("dim", "intermediate_dim", "num_blocks"):
            if getattr(self, name) < 1:
                raise RecipeError(
                    f"model.network.{name}={getattr(self, name)} must be at least 1",
                    code="range",
                    path=f"model.network.{name}",
                    value=getattr(self, name),
                )


@dataclass(frozen=True, kw_only=True)
class BandObjective:
    """Weights of the losses beside the adversarial ones, as published.

    amplitude: of the squared difference of log amplitudes.
    phase: of the sum of the three distances of phases.
    complex: of the squared difference of complex spectra.
    consistency: of the squared difference between a spectrum and that of its waveform.
    """

    amplitude: float = 45.0
    phase: float = 100.0
    complex: float = 90.0
    consistency: float = 90.0


@dataclass(frozen=True, kw_only=True)
class BandGame:
    """Discriminators and when they begin.

    spectrum_weight: of each amplitude and phase discriminator beside each period's (published: 0.1).
    periods: of the multi-period discriminators.
    period_channels: channels of their layers (published: 32, 128, 512, 1024, 1024).
    resolutions: FFT size and hop of the amplitude and phase discriminators.
    resolution_channels: channels of their layers (published: 64).
    pretrain_steps: steps of the generator alone before the game begins (published: none).
    """

    spectrum_weight: float = 0.1
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    period_channels: tuple[int, ...] = (32, 128, 512, 1024, 1024)
    resolutions: tuple[tuple[int, int], ...] = ((512, 128), (1024, 256), (2048, 512))
    resolution_channels: int = 64
    pretrain_steps: int = 0
