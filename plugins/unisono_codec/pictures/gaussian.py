"""Gaussian: how likely a whole number of steps is, in training and as tables of whole numbers for the coder.

A latent z of step 1 under N(μ, σ) has the mass Φ((z − μ + ½) / σ) − Φ((z − μ − ½) / σ) (Ballé et al., arXiv:1802.01436,
eq. 12). Published codes clamp it from below, or take the density there; here its logarithm is exact in the tails.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def log_mass(x: Float[Tensor, "*s"], mean: Float[Tensor, "*s"], scale: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Return the logarithm (nats) of the mass within half a step of ``x``, in float32 or better, with gradients.

    By symmetry both borders are taken on the left of the mean, where log Φ is exact.
    """
    distance = (x - mean).abs()
    upper = torch.special.log_ndtr((0.5 - distance) / scale)
    lower = torch.special.log_ndtr((-0.5 - distance) / scale)
    return upper + (-torch.expm1(lower - upper)).clamp(min=1e-30).log()


def bits(nats: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Return a negative logarithm as bits."""
    return nats / -math.log(2)
