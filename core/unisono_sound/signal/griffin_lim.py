"""Griffin-Lim: log mel → waveform without a learned vocoder; the floor that a learned one must
beat.

Two steps. Magnitudes: non-negative least squares through the mel filters (``MelInverse``). Phases: the fast
Griffin-Lim algorithm of Perraudin, Balazs and Søndergaard (2013), momentum 0.99, from a fixed random start.

Shapes: b batch, t frames, f frequencies, m mel channels, n = t * hop_length samples.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unisono_sound.signal.mel import MelInverse, MelSpec
from unisono_sound.signal.stft import istft_same, same_padding, stft_same

MOMENTUM = 0.99


class GriffinLim(nn.Module):
    """A vocoder without parameters: the same mel gives the same waveform, alone or in a batch.

    ```
    mel [b, t, m] → exp → least squares → |X| [b, t, f] → phases, num_iters times → wave [b, n]
    ```
    """

    window: Tensor

    def __init__(self, spec: MelSpec | None = None, num_iters: int = 32, seed: int = 0):
        super().__init__()
        self.mel_spec = spec or MelSpec()
        self.num_iters = num_iters
        self.seed = seed
        self.inverse = MelInverse(self.mel_spec)
        self.register_buffer("window", torch.hann_window(self.mel_spec.win_length), persistent=False)

    @torch.no_grad()
    def decode(self, mel: Float[Tensor, "b t m"], lengths: Int[Tensor, "b"] | None = None) -> Float[Tensor, "b n"]:
        """Each item is inverted over its own ``lengths`` frames; the rest of its row is zero."""
        counts = [mel.shape[1]] * len(mel) if lengths is None else lengths.tolist()
        wave = mel.new_zeros(len(mel), mel.shape[1] * self.mel_spec.hop_length, dtype=torch.float32)
        for row, item, count in zip(wave, mel, counts, strict=True):
            if count:
                samples = self._invert(item[:count].float())
                row[: len(samples)] = samples
        return wave

    def _invert(self, mel: Float[Tensor, "t m"]) -> Float[Tensor, "n"]:
        n_fft, hop = self.mel_spec.n_fft, self.mel_spec.hop_length
        magnitude = self.inverse(mel)[None]
        generator = torch.Generator().manual_seed(self.seed)
        phase = torch.rand(magnitude.shape, generator=generator).to(mel.device) * (2 * torch.pi)
        estimate = torch.polar(magnitude, phase)
        reflects = mel.shape[0] * hop > same_padding(n_fft, hop)[1]
        pad_mode = "reflect" if reflects else "constant"
        previous = torch.zeros_like(estimate)
        for _ in range(self.num_iters):
            wave = istft_same(estimate, n_fft, hop, self.window)
            consistent = stft_same(wave, n_fft, hop, self.window, pad_mode)
            ahead = consistent + MOMENTUM * (consistent - previous)
            estimate = magnitude * ahead / ahead.abs().clamp(min=1e-16)
            previous = consistent
        return istft_same(estimate, n_fft, hop, self.window)[0]
