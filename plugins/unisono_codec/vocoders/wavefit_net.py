"""WaveFit's iteration: from shaped noise to a waveform in a few steps, the level corrected after each.

Koizumi et al., "WaveFit: An iterative and non-autoregressive neural vocoder based on fixed-point iteration"
(arXiv:2210.01029), section 4::

    y_T  noise with the mel's envelope        y_{t−1} = gain(y_t − F(y_t, mel, t))        t = T … 1

Differences: the level is compared in the mel's own bands, on both sides, where the paper compares the power of the
iterate's spectrum with that of the mel's pseudo-inverse, which is less than the power of the very spectrum that the mel
was made of; and the root of the ratio is taken, which a power's needs.

Shapes: b batch, t frames, n samples (t · hop), m mel bins.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from unisono.nn.wide import wide
from unisono_sound.signal import LogMel, MelSpec
from unisono_sound.signal.mel import LOG_FLOOR

from unisono_codec.vocoders.vocoder import SILENCE
from unisono_codec.vocoders.wavefit_noise import ShapedNoise
from unisono_codec.vocoders.wavefit_sizes import WaveFitSizes
from unisono_codec.vocoders.wavefit_unet import UNet

PEAK = 0.9
TINY = 1e-8


class WaveFitNet(nn.Module):
    """The generator.

    Args:
        mel_spec: of the mels.
        sizes: of the U-Net.
        num_iterations: T.
        gain: ``power``: each iterate has the mel's power; ``peak``: each has a peak of 0.9 (Miipher, arXiv:2303.01664,
            section 2.3), and the waveform that ``forward`` returns the mel's power.
    """

    def __init__(self, mel_spec: MelSpec, sizes: WaveFitSizes, num_iterations: int, gain: Literal["power", "peak"]):
        super().__init__()
        self.mel_spec, self.num_iterations, self.gain = mel_spec, num_iterations, gain
        self.noise = ShapedNoise(mel_spec)
        self.log_mel = LogMel(mel_spec)
        self.unet = UNet(mel_spec.n_mels, sizes.factors_for(mel_spec.hop_length), sizes, num_iterations)

    def forward(
        self,
        mel: Float[Tensor, "b t m"],
        lengths: Int[Tensor, " b"] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Float[Tensor, "b n"]:
        """Turn log mels into waveforms, from the noise of one seed per item (0 without); samples beyond an item's
        ``lengths`` (frames) are zero."""
        mask = self.mask(mel, lengths)
        (*_, wave) = self.iterates(mel, mask, seeds)
        return self.with_power(wave, mel, mask) if self.gain == "peak" else wave

    def iterates(
        self,
        mel: Float[Tensor, "b t m"],
        mask: Bool[Tensor, "b t"] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Iterator[Float[Tensor, "b n"]]:
        """Yield y_{T−1} to y_0; no gradient goes from one to the one before."""
        y = self.noise(mel, mask, [0] * len(mel) if seeds is None else seeds)
        heard = (mel - SILENCE) / -SILENCE
        for step in range(self.num_iterations):
            z = y - self.unet(y, heard, step, mask)
            y = with_peak(z) if self.gain == "peak" else self.with_power(z, mel, mask)
            yield y
            y = y.detach()

    def with_power(
        self, wave: Float[Tensor, "b n"], mel: Float[Tensor, "b t m"], mask: Bool[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b n"]:
        """Scale each waveform so that the power in its mel's bands is that of ``mel``, over the whole item."""
        with torch.autocast(wave.device.type, enabled=False):
            own = self.log_mel.magnitude(wave, "constant") @ self.log_mel.filters
            level = _power(wide(mel).exp(), mask).sqrt() / (_power(own, mask) + TINY).sqrt()
            return wave * level[:, None]

    def mask(self, mel: Float[Tensor, "b t m"], lengths: Int[Tensor, " b"] | None) -> Bool[Tensor, "b t"] | None:
        """Return which frames are an item's own; None where all are."""
        if lengths is None:
            return None
        return torch.arange(mel.shape[1], device=mel.device) < lengths.to(mel.device)[:, None]


def with_peak(wave: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Scale each waveform to a peak of 0.9; silence stays."""
    return wave * (PEAK / (wave.abs().amax(1, keepdim=True) + TINY))


def _power(bands: Float[Tensor, "b t m"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, " b"]:
    """The mean power above the mel's floor: a mel at its floor is of silence."""
    power = (bands - LOG_FLOOR).clamp(min=0).square().mean(2)
    if mask is None:
        return power.mean(1)
    return (power * mask).sum(1) / mask.sum(1).clamp(min=1)
