"""Losses: those of StarGANv2-VC, one value per item or frame (arXiv:2107.10394, section 2.2).

Shapes: b batch, t frames, m mel channels, k speakers.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["adversarial", "contour", "gradient_penalty", "log_energy", "loudness_change"]

LOUDEST_LOGIT = 10.0
FREE_CHANGE = 0.5


def adversarial(logit: Float[Tensor, " b"], real: bool) -> Float[Tensor, " b"]:
    """Cross-entropy of a logit, held within ±10, against real or made."""
    held = logit.clamp(-LOUDEST_LOGIT, LOUDEST_LOGIT)
    return F.softplus(-held if real else held)


def gradient_penalty(logit: Float[Tensor, " b"], mel: Float[Tensor, "b t m"]) -> Float[Tensor, " b"]:
    """R1: half the squared length of the gradient of a real recording's logit (Mescheder et al., arXiv:1801.04406)."""
    (gradient,) = torch.autograd.grad(logit.sum(), mel, create_graph=True)
    return 0.5 * gradient.square().sum((1, 2))


def contour(hertz: Float[Tensor, "b t"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t"]:
    """Pitch over its own mean: the level is free, the contour is kept."""
    mean = (hertz * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
    return hertz / mean.clamp(min=1e-3) * mask


def log_energy(mel: Float[Tensor, "b t m"]) -> Float[Tensor, "b t"]:
    """Natural log of the Euclidean length of each frame's mel magnitudes, of a log mel."""
    return 0.5 * torch.logsumexp(2 * mel, -1)


def loudness_change(mel: Float[Tensor, "b t m"], made: Float[Tensor, "b t m"]) -> Float[Tensor, "b t"]:
    """``max(0, |Δ log energy| − ½)²``: loudness may differ a little from frame to frame."""
    return ((log_energy(made) - log_energy(mel)).abs() - FREE_CHANGE).relu().square()
