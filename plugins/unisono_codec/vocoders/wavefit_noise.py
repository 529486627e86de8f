"""Shaped noise: Gaussian noise with the spectral envelope of a mel, from which WaveFit begins.

SpecGrad's prior (Koizumi et al., arXiv:2203.16749, section 3), which WaveFit (arXiv:2210.01029) takes over: white noise
goes through a time-varying filter L = G⁺ M G, where G is the short-time Fourier transform, G⁺ its inverse, and M the
minimum-phase filter whose magnitude is the mel's envelope, of 24 cepstral coefficients.

Differences: the spectrum that is smoothed is the mel interpolated over frequency, where the paper has the filters'
pseudo-inverse, which can be negative; the noise has the level of the smoothed spectrum; beyond its ends a mel is
silent, and noise goes on there, so that an item is the same alone and in a batch.

Shapes: b batch, t frames, n samples (t · hop), m mel bins, f frequencies.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.wide import wide
from unisono_sound.signal import MelSpec, istft_same
from unisono_sound.signal.mel import LOG_FLOOR, MelInverse
from unisono_sound.signal.stft import same_padding, stft_same

from unisono_codec.vocoders.noise import gaussian_noise
from unisono_codec.vocoders.vocoder import SILENCE

CEPSTRA = 24


class ShapedNoise(nn.Module):
    """Mels and seeds to noise; it has no weights."""

    window: Tensor

    def __init__(self, mel_spec: MelSpec):
        super().__init__()
        self.mel_spec = mel_spec
        self.inverse = MelInverse(mel_spec, num_updates=0)
        self.register_buffer("window", torch.hann_window(mel_spec.win_length), persistent=False)

    def filters(self, mel: Float[Tensor, "b t m"]) -> Complex[Tensor, "b t f"]:
        """Return minimum-phase filters of unit noise, whose magnitudes are the smoothed spectra of the mel."""
        n_fft = self.mel_spec.n_fft
        logs = self.inverse(mel).clamp(min=LOG_FLOOR).log()
        cepstrum = torch.fft.irfft(logs, n_fft)[..., : min(CEPSTRA, n_fft // 2 - 1) + 1]
        # Folded onto its causal half, a cepstrum is that of the minimum-phase filter of the same magnitude.
        cepstrum = torch.cat([cepstrum[..., :1], 2 * cepstrum[..., 1:]], dim=-1)
        return torch.fft.rfft(cepstrum, n_fft).exp() / self.window.square().sum().sqrt()

    @torch.no_grad()
    def forward(
        self, mel: Float[Tensor, "b t m"], mask: Bool[Tensor, "b t"] | None, seeds: Sequence[int]
    ) -> Float[Tensor, "b n"]:
        """Return noise, one seed per item; it is zero where ``mask`` does not hold."""
        n_fft, hop = self.mel_spec.n_fft, self.mel_spec.hop_length
        frames, beside = mel.shape[1], math.ceil(n_fft / hop)
        left, right = same_padding(n_fft, hop)
        with torch.autocast(mel.device.type, enabled=False):
            mel = wide(mel) if mask is None else wide(mel).masked_fill(~mask[..., None], SILENCE)
            mel = F.pad(mel, (0, 0, beside, beside), value=SILENCE)
            like = mel.new_empty(len(mel), mel.shape[1] * hop + left + right)
            white = gaussian_noise(-beside * hop - left, seeds, like)
            spectrum = stft_same(white, n_fft, hop, self.window, "none") * self.filters(mel)
            noise = istft_same(spectrum, n_fft, hop, self.window)[:, beside * hop : (beside + frames) * hop]
        return noise if mask is None else noise.masked_fill(~mask.repeat_interleave(hop, dim=1), 0.0)
