"""Measures of lifted poses: distances of joints as they are and after alignment, jitter, lengths of bones.

Poses are relative to the first joint, in metres; measures are in millimetres. A distance after a scale, as P-MPJPE is,
says nothing of size: MPJPE is taken without one.

Shapes: t frames, j joints.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from unisono.errors import DataError

from unisono_motion.skeleton import nearest_rotation

NEAR = 0.05
"""Metres within which a joint counts as found, for PCK."""
MM = 1000.0


def mpjpe(made: Float[np.ndarray, "t j 3"], real: Float[np.ndarray, "t j 3"]) -> float:
    """Return the mean distance of joints, in mm."""
    return MM * float(np.linalg.norm(made - real, axis=-1).mean())


def aligned_mpjpe(made: Float[np.ndarray, "t j 3"], real: Float[np.ndarray, "t j 3"]) -> float:
    """Return P-MPJPE: the mean distance after each frame is moved, turned and scaled for least squares, in mm.

    It is not mirrored: of the orthogonal matrices only rotations are taken (Umeyama 1991, eq. 40).
    """
    return mpjpe(aligned(made, real), real)


def aligned(made: Float[np.ndarray, "t j 3"], real: Float[np.ndarray, "t j 3"]) -> Float[np.ndarray, "t j 3"]:
    """Return poses moved, turned and scaled onto others, frame by frame (orthogonal Procrustes)."""
    ours, theirs = made - made.mean(1, keepdims=True), real - real.mean(1, keepdims=True)
    turn = nearest_rotation(theirs.mT @ ours)
    turned = ours @ turn.mT
    size = np.square(ours).sum((1, 2))
    scale = (turned * theirs).sum((1, 2)) / np.maximum(size, 1e-12)
    return scale[:, None, None] * turned + real.mean(1, keepdims=True)


def found_share(made: Float[np.ndarray, "t j 3"], real: Float[np.ndarray, "t j 3"]) -> float:
    """Return PCK: the share of joints within 50 mm of their place, the first joint, which is given, left out."""
    return float((np.linalg.norm(made - real, axis=-1)[:, 1:] < NEAR).mean())


def acceleration_error(made: Float[np.ndarray, "t j 3"], real: Float[np.ndarray, "t j 3"]) -> float:
    """Return the mean distance of joints' accelerations, in mm per frame²; raises ``DataError`` below three frames."""
    if len(made) < 3:
        raise DataError(
            f"{len(made)} frames have no acceleration: at least 3 are needed",
            code="limit",
            path="positions",
            value=len(made),
        )
    return mpjpe(np.diff(made, 2, axis=0), np.diff(real, 2, axis=0))


def bone_deviation(made: Float[np.ndarray, "t j 3"], parents: Sequence[int]) -> float:
    """Return the standard deviation over time of each bone's length, as the mean over bones, in mm."""
    children = [joint for joint, parent in enumerate(parents) if parent >= 0]
    bones = np.linalg.norm(made[:, children] - made[:, [parents[joint] for joint in children]], axis=-1)
    return MM * float(bones.std(0).mean())
