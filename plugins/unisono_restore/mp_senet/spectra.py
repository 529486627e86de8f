"""Spectra: the level that MP-SENet hears at, and magnitudes taken to a power.

Both sides are brought to the level where the *noisy* sound has a mean square of 1; what comes out is brought back. A
sound below −120 dBFS has no level: its gain is that of one at −120.

Shapes: b batch, n samples, t frames, f frequencies.
"""

from typing import NamedTuple

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor
from unisono_sound.signal.phase import amplitude, phase

LEAST_POWER = 1e-12


class Compressed(NamedTuple):
    """A spectrum: magnitudes to a power, phases in (−π, π]."""

    magnitude: Float[Tensor, "b t f"]
    phase: Float[Tensor, "b t f"]

    @property
    def complex(self) -> Complex[Tensor, "b t f"]:
        """The compressed spectrum as complex numbers."""
        return torch.polar(self.magnitude, self.phase)


def gain_to_unit(wave: Float[Tensor, "b n"], lengths: Int[Tensor, " b"] | None = None) -> Float[Tensor, "b 1"]:
    """Return ``sqrt(n / Σ y²)`` of each item; samples beyond its length must be zero."""
    count = torch.full((len(wave),), wave.shape[1], device=wave.device) if lengths is None else lengths
    power = wave.square().sum(1) / count.clamp(min=1)
    return power.clamp(min=LEAST_POWER).rsqrt()[:, None]


def compressed(spectrum: Complex[Tensor, "b t f"], power: float) -> Compressed:
    """Return ``(re² + im² + 1e-9)^(power / 2)`` and the phase; the gradients of both are finite at zero too."""
    return Compressed(amplitude(spectrum).pow(power), phase(spectrum))
