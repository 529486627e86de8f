"""Losses of lifting: distances of joints frame by frame, to be averaged over the frames that count.

MotionAGFormer (arXiv:2310.16288, §3.4 and its configuration): MPJPE + 0.5 · scale-normalised MPJPE + 20 · velocity.

Shapes: b batch, t frames, j joints.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LiftObjective:
    """Weights beside the mean distance of joints.

    scale_weight: of the distance after each frame's best scale.
    velocity_weight: of the distance of joints' steps from frame to frame.
    """

    scale_weight: float = 0.5
    velocity_weight: float = 20.0


def joint_distance(made: Float[Tensor, "b t j 3"], real: Float[Tensor, "b t j 3"]) -> Float[Tensor, "b t"]:
    """Return the mean distance of the joints of each frame."""
    return torch.linalg.vector_norm(made - real, dim=-1).mean(-1)


def scaled_distance(made: Float[Tensor, "b t j 3"], real: Float[Tensor, "b t j 3"]) -> Float[Tensor, "b t"]:
    """Return the same after each frame is scaled by the factor of least squares (Rhodin et al., arXiv:1803.04775)."""
    scale = (made * real).sum((-2, -1)) / made.square().sum((-2, -1)).clamp(min=1e-8)
    return joint_distance(scale[..., None, None] * made, real)


def step_distance(made: Float[Tensor, "b t j 3"], real: Float[Tensor, "b t j 3"]) -> Float[Tensor, "b t1"]:
    """Return the mean distance of joints' steps from each frame to the next; one number less than frames."""
    return joint_distance(made.diff(dim=1), real.diff(dim=1))
