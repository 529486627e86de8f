"""Physics: measures of one motion by itself: feet that slide, and velocity that jumps.

Shapes: t frames, j joints, f feet. Metres and seconds; y is up.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from unisono.errors import DataError

GROUND_HEIGHT = 0.05
"""A foot this near its lowest place of the clip, in metres, is taken to stand (5 cm, as in the literature)."""


def foot_sliding(positions: Float[np.ndarray, "t j 3"], feet: Sequence[int], fps: float) -> float | None:
    """Return the mean horizontal speed of standing feet, in metres per second, or None if none ever stands.

    A foot stands from one frame to the next if it is within 5 cm of its own lowest place in both (the threshold of
    Karunratanakul et al., "Guided Motion Diffusion", arXiv:2305.12577, §4, who report the share of frames in which
    such a foot slides; the speed needs no second threshold). Raises ``DataError`` without feet or movement.
    """
    if not len(feet):
        raise DataError(
            "this skeleton has no joint called ankle, foot or toe: nothing can slide", code="unsupported", path="feet"
        )
    if len(positions) < 2:
        raise DataError(
            f"{len(positions)} frame: sliding is measured from one frame to the next",
            code="limit",
            path="positions",
            value=len(positions),
        )
    places = np.asarray(positions, np.float64)[:, list(feet)]
    low = places[..., 1] <= places[..., 1].min(0) + GROUND_HEIGHT
    stands = low[1:] & low[:-1]
    if not stands.any():
        return None
    speed = np.linalg.norm(np.diff(places, axis=0)[..., [0, 2]], axis=-1) * fps
    return float(speed[stands].mean())


def velocity_jumps(positions: Float[np.ndarray, "t j 3"], fps: float) -> Float[np.ndarray, " t"]:
    """Return, for each frame, by how much velocity changes there, in metres per second, as the mean over joints.

    The first and the last frame have no velocity on both sides: 0.
    """
    if len(positions) < 3:
        raise DataError(
            f"{len(positions)} frames: velocity changes between three or more",
            code="limit",
            path="positions",
            value=len(positions),
        )
    velocity = np.diff(np.asarray(positions, np.float64), axis=0) * fps
    return np.pad(np.linalg.norm(np.diff(velocity, axis=0), axis=-1).mean(-1), 1)


def seam_jump(positions: Float[np.ndarray, "t j 3"], fps: float, seams: Sequence[int]) -> float | None:
    """Return the largest jump of velocity within one frame of each seam, as the mean over seams; None without any.

    A seam at frame i lies between the frames i − 1 and i.
    """
    jumps = velocity_jumps(positions, fps)
    found = [jumps[max(seam - 1, 0) : seam + 1].max() for seam in seams if 0 < seam < len(jumps)]
    return float(np.mean(found)) if found else None
