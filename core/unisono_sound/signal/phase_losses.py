"""Phase losses: distances of phases that know no wrap, of complex spectra, and from consistency.

Ai and Ling (arXiv:2211.15974) by way of MP-SENet (arXiv:2305.13686, eqs. 5–9) and AP-BWE (arXiv:2401.06387, eqs. 6–13).
With f(x) = |x − 2π · round(x / 2π)|::

    instantaneous phase             mean f(φ̂ − φ)
    group delay                     mean f(Δ_f φ̂ − Δ_f φ)      along frequency
    instantaneous angular frequency mean f(Δ_t φ̂ − Δ_t φ)      along time

Each returns one value per item, over the frames that are kept: an item counts the same alone and in a batch.

Shapes: b batch, t frames, f frequencies, n samples. Masks are True where a frame is kept; None keeps all.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from unisono_sound.signal.phase import CentredTransform

__all__ = ["PhaseLosses", "anti_wrap", "complex_loss", "consistency_loss", "kept_mean", "phase_losses"]


class PhaseLosses(NamedTuple):
    """The three distances of phases, one value per item."""

    instantaneous: Float[Tensor, " b"]
    group_delay: Float[Tensor, " b"]
    angular_frequency: Float[Tensor, " b"]

    @property
    def total(self) -> Float[Tensor, " b"]:
        """Their sum, as both papers weigh them."""
        return self.instantaneous + self.group_delay + self.angular_frequency


def anti_wrap(x: Tensor) -> Tensor:
    """Return how far an angle is from the nearest whole turn, in [0, π]."""
    return (x - 2 * math.pi * torch.round(x / (2 * math.pi))).abs()


def phase_losses(
    predicted: Float[Tensor, "b t f"], target: Float[Tensor, "b t f"], mask: Bool[Tensor, "b t"] | None = None
) -> PhaseLosses:
    """Return the distances of two phases; of one frame alone, the angular frequency is 0."""
    difference = predicted - target
    pairs = None if mask is None else mask[:, 1:] & mask[:, :-1]
    return PhaseLosses(
        kept_mean(anti_wrap(difference), mask),
        kept_mean(anti_wrap(difference.diff(dim=2)), mask),
        kept_mean(anti_wrap(difference.diff(dim=1)), pairs),
    )


def complex_loss(
    predicted: Complex[Tensor, "b t f"], target: Complex[Tensor, "b t f"], mask: Bool[Tensor, "b t"] | None = None
) -> Float[Tensor, " b"]:
    """Return the mean squared difference of real and imaginary parts, both counted alike."""
    return kept_mean(torch.view_as_real(predicted - target).square().mean(-1), mask)


def consistency_loss(
    spectrum: Complex[Tensor, "b t f"],
    wave: Float[Tensor, "b n"],
    transform: CentredTransform,
    mask: Bool[Tensor, "b t"] | None = None,
    form: Callable[[Tensor], Tensor] = lambda spectrum: spectrum,
) -> Float[Tensor, " b"]:
    """Return how far a spectrum is from that of its own waveform, ``transform.inverse(spectrum, n, mask)``.

    ``form`` is what both are compared as, such as a compressed spectrum; without it, as they are. Samples of ``wave``
    beyond an item's length must be zero.
    """
    return complex_loss(form(spectrum), form(transform(wave)), mask)


def kept_mean(values: Float[Tensor, "b t f"], mask: Bool[Tensor, "b t"] | None = None) -> Float[Tensor, " b"]:
    """Return each item's mean over the frames that are kept; 0 where there is none."""
    by_frame = values.mean(-1)
    kept = torch.ones_like(by_frame) if mask is None else mask.to(by_frame)
    return (by_frame * kept).sum(1) / kept.sum(1).clamp(min=1)
