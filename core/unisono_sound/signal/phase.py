"""Phase: spectra as amplitude and phase, and back, with gradients that stay finite.

The front end of MP-SENet (arXiv:2305.13686) and AP-BWE (arXiv:2401.06387): frames are centred on multiples of the hop,
n samples have n // hop + 1 of them, and the inverse returns n samples. What a network does to amplitudes (a root, a
logarithm) is its own; what phases are compared by is in ``phase_losses``.

Difference: beyond its ends a waveform is silent and not mirrored. One that is followed by zeros, as in a batch, has
therefore the frames that it has alone, one of a single sample can be transformed, and a long one in pieces.

Shapes: b batch, n samples, t frames, f = n_fft // 2 + 1 frequencies. Masks are True where a frame is kept.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.errors import RecipeError

from unisono_sound.signal.stft import overlap_add

__all__ = ["CentredTransform", "TransformSizes", "amplitude", "compose", "phase"]


@dataclass(frozen=True, kw_only=True)
class TransformSizes:
    """Sizes of a centred transform, in samples; the group ``model.spectrum`` of a recipe.

    n_fft: of the transform, even; there are ``n_fft // 2 + 1`` frequencies.
    win_length: of the Hann window, which stands in the middle of a frame.
    hop_length: between frames, less than half a window.
    """

    n_fft: int = 400
    win_length: int = 400
    hop_length: int = 100

    def __post_init__(self):
        if self.n_fft % 2:
            raise RecipeError(
                f"n_fft={self.n_fft} must be even, so that a frame has a middle",
                code="value",
                path="model.spectrum.n_fft",
                value=self.n_fft,
            )
        if not 2 <= self.win_length <= self.n_fft:
            raise RecipeError(
                f"win_length={self.win_length} must be from 2 to n_fft={self.n_fft}, the frame that it stands in",
                code="range",
                path="model.spectrum.win_length",
                value=self.win_length,
            )
        if not 0 < 2 * self.hop_length < self.win_length:
            raise RecipeError(
                f"hop_length={self.hop_length} must be at least 1 and less than half of win_length={self.win_length}, "
                "so that windows overlap",
                code="range",
                path="model.spectrum.hop_length",
                value=self.hop_length,
            )

    @property
    def num_bins(self) -> int:
        """Frequencies of a frame."""
        return self.n_fft // 2 + 1

    @property
    def reach(self) -> int:
        """Samples on each side of a frame's middle that it is made of, and that are made of it."""
        return math.ceil(self.win_length / 2)

    def frames(self, num_samples: int) -> int:
        """Return how many frames so many samples have."""
        return num_samples // self.hop_length + 1


class CentredTransform(nn.Module):
    """The transform and its inverse, a weighted overlap-add (Griffin and Lim, 1984, eq. 6)."""

    window: Tensor

    def __init__(self, sizes: TransformSizes):
        super().__init__()
        self.sizes = sizes
        left = (sizes.n_fft - sizes.win_length) // 2
        window = F.pad(torch.hann_window(sizes.win_length), (left, sizes.n_fft - sizes.win_length - left))
        self.register_buffer("window", window, persistent=False)

    def forward(self, wave: Float[Tensor, "b n"]) -> Complex[Tensor, "b t f"]:
        """Return the spectrum; an item's samples beyond its length must be zero."""
        n_fft, hop = self.sizes.n_fft, self.sizes.hop_length
        padded = F.pad(wave, (n_fft // 2, n_fft // 2))
        return torch.fft.rfft(padded.unfold(1, n_fft, hop) * self.window)

    def inverse(
        self, spectrum: Complex[Tensor, "b t f"], num_samples: int, mask: Bool[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b n"]:
        """Return so many samples; frames outside of the mask count as absent, so that an item's own samples are those
        that it has alone."""
        n_fft, hop = self.sizes.n_fft, self.sizes.hop_length
        kept = torch.ones(spectrum.shape[:2], device=spectrum.device) if mask is None else mask.float()
        frames = torch.fft.irfft(spectrum, n_fft, dim=-1) * (kept[..., None] * self.window)
        total = overlap_add(frames, hop)[:, n_fft // 2 :]
        weight = overlap_add(kept[..., None] * self.window.square(), hop)[:, n_fft // 2 :]
        # where no window reaches, both are zero
        wave = total / weight.clamp(min=1e-11)
        return F.pad(wave, (0, max(0, num_samples - wave.shape[1])))[:, :num_samples]

    def mask(self, lengths: Int[Tensor, " b"], num_frames: int) -> Bool[Tensor, "b t"]:
        """Return which of ``num_frames`` frames belong to items of so many samples."""
        frames = lengths // self.sizes.hop_length + 1
        return torch.arange(num_frames, device=lengths.device) < frames[:, None]


def amplitude(spectrum: Complex[Tensor, "b t f"], floor: float = 1e-9) -> Float[Tensor, "b t f"]:
    """Return ``sqrt(re² + im² + floor)``, whose gradient is finite at zero too."""
    real, imaginary = torch.view_as_real(spectrum).unbind(-1)
    return (real.square() + imaginary.square() + floor).sqrt()


def phase(spectrum: Complex[Tensor, "b t f"], floor: float = 1e-5) -> Float[Tensor, "b t f"]:
    """Return ``atan2(im + 1e-10, re + floor)`` in (−π, π], whose gradient is finite at zero too.

    What is far below the floor has a phase near 0, whatever a rounding made of it.
    """
    real, imaginary = torch.view_as_real(spectrum).unbind(-1)
    return torch.atan2(imaginary + 1e-10, real + floor)


def compose(amplitude: Float[Tensor, "b t f"], phase: Float[Tensor, "b t f"]) -> Complex[Tensor, "b t f"]:
    """Return the spectrum of an amplitude and a phase."""
    return torch.complex(amplitude * phase.cos(), amplitude * phase.sin())
