"""Losses of Pureformer-VC: how far a code may tell, and how voices are told apart; one value per item or cell.

Shapes: b batch, s cells, z code, e voice, k speakers.
"""

import math

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

__all__ = ["angular_margin", "free_divergence", "triplet"]


def free_divergence(divergence: Float[Tensor, "b s z"], free: float) -> Float[Tensor, "b s"]:
    """Return the mean over channels of the divergence, of which ``free`` nats cost nothing in each (free bits, Kingma
    et al., arXiv:1606.04934, here by cell and channel): below that there is no gradient, so that no channel collapses.
    """
    return divergence.clamp(min=free).mean(-1) - free


def angular_margin(
    cosines: Float[Tensor, "b k"], speaker: Int[Tensor, " b"], margin: float, scale: float
) -> Float[Tensor, " b"]:
    """AAM-softmax (ArcFace, arXiv:1801.07698): cross-entropy of s·cos(θ + m) for the true speaker, s·cos θ for the
    others."""
    true = F.one_hot(speaker, cosines.shape[1]).bool()
    angle = cosines.clamp(-1 + 1e-6, 1 - 1e-6).acos() + margin * true
    return F.cross_entropy(scale * angle.clamp(max=math.pi).cos(), speaker, reduction="none")


def triplet(
    anchor: Float[Tensor, "b e"], same: Float[Tensor, "b e"], other: Float[Tensor, "b e"], margin: float
) -> Float[Tensor, " b"]:
    """``max(0, cos(anchor, other) − cos(anchor, same) + margin)`` of vectors of length 1."""
    return ((anchor * other).sum(-1) - (anchor * same).sum(-1) + margin).relu()
