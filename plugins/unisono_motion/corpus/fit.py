"""Fit: a clip brought to a corpus: one frame rate, one skeleton, the ground below, and its mirror image.

Shapes: t frames, j joints.
"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from jaxtyping import Float
from unisono.data import Drop

from unisono_motion.corpus.features import MotionSpec, about_y
from unisono_motion.skeleton import Motion, Skeleton, slerp

MAX_BEND = 30.0
"""Degrees by which a bone's rest direction may differ from the common skeleton's: rotations are taken over."""

REFLECT = np.diag([-1.0, 1.0, 1.0])
REFLECTIONS = [np.diag(s) for s in product((1.0, -1.0), repeat=3) if np.prod(s) < 0]


def resample(motion: Motion, fps: float) -> Motion:
    """Return the motion at another frame rate: the root on straight lines, rotations on shortest arcs."""
    if motion.fps == fps or len(motion.positions) < 2:
        return motion
    count = int((len(motion.positions) - 1) / motion.fps * fps + 1e-6) + 1
    place = np.arange(count) * motion.fps / fps
    low = np.minimum(place.astype(int), len(motion.positions) - 2)
    share = place - low
    root = motion.positions[:, 0].astype(np.float64)
    root = root[low] + (root[low + 1] - root[low]) * share[:, None]
    local = motion.local_rotations
    shares = np.broadcast_to(share[:, None], (count, local.shape[1]))
    rotations = slerp(local[low], local[low + 1], shares)
    positions = motion.skeleton.positions(rotations, root)
    return Motion(positions, motion.skeleton, fps, rotations, motion.caption)


def retarget(motion: Motion, skeleton: Skeleton) -> Motion:
    """Return the motion on another skeleton of the same joints: rotations stay, the way scales with the legs.

    Raises ``Drop`` where joints differ, or bones point elsewhere at rest.
    """
    own = motion.skeleton
    if own.names != skeleton.names or own.parents != skeleton.parents:
        missing = [name for name in skeleton.names if name not in own.names]
        surplus = [name for name in own.names if name not in skeleton.names]
        detail = f"{len(own)} joints, expected {len(skeleton)}"
        if missing:
            detail += f"; lacks {', '.join(missing[:3])}"
        if surplus:
            detail += f"; has {', '.join(surplus[:3])}"
        if not missing and not surplus:
            detail += "; the same joints in another order or on other parents"
        raise Drop("other skeleton", detail)
    if own == skeleton:
        return motion
    lengths, wanted = (np.linalg.norm(s.offsets, axis=-1) for s in (own, skeleton))
    for joint in range(1, len(skeleton)):
        if lengths[joint] > 1e-4 and wanted[joint] > 1e-4:
            cosine = own.offsets[joint] @ skeleton.offsets[joint] / (lengths[joint] * wanted[joint])
            angle = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
            if angle > MAX_BEND:
                raise Drop(
                    "other rest pose",
                    f"rest-pose bone of {skeleton.names[joint]} differs by {angle:.0f}° (max {MAX_BEND:g}°)",
                )
    legs = list(skeleton.legs) or list(range(1, len(skeleton)))
    scale = float(wanted[legs].sum() / max(lengths[legs].sum(), 1e-9))
    root = motion.positions[:, 0] * scale
    rotations = motion.local_rotations
    return Motion(skeleton.positions(rotations, root), skeleton, motion.fps, rotations, motion.caption)


def stand(motion: Motion, spec: MotionSpec) -> Motion:
    """Return the motion from the origin, facing z in its first frame, its lowest point on the ground."""
    positions = motion.positions.astype(np.float64)
    turn = about_y(-spec.heading(positions)[:1])
    shift = positions[0, 0] * [1, 0, 1] + [0, positions[..., 1].min(), 0]
    rotations = motion.local_rotations.astype(np.float64).copy()
    rotations[:, 0] = turn @ rotations[:, 0]
    return replace(motion, positions=(positions - shift) @ turn[0].T, rotations=rotations)


def fit(motion: Motion, spec: MotionSpec) -> Motion:
    """Return the motion at the spec's rate, on its skeleton, standing at the origin; raises ``Drop``."""
    return stand(retarget(resample(motion, spec.fps), spec.skeleton), spec)


@dataclass(frozen=True)
class Mirror:
    """Mirrors motions of one skeleton, left for right.

    Positions are reflected and change sides. A joint's frame is reflected in the world and once more in itself,
    G'_j = M G_s(j) C_j, and the skeleton's maker chose C_j when the right side's axes were laid; ``learn`` finds
    it among the four reflections of the axes. Where none fits, bones still go where the positions are.
    """

    skeleton: Skeleton
    own: np.ndarray

    @classmethod
    def learn(cls, skeleton: Skeleton, mean: Float[np.ndarray, "j 3 3"]) -> "Mirror":
        """Find the reflections C_j from rest offsets and from the mean rotations of a corpus.

        ``mean``: of rotations relative to the parent, the root's without heading; mirrored motions should
        scatter about the same ones.
        """
        own = np.empty((len(skeleton), 3, 3))
        for joint in range(len(skeleton)):
            other = skeleton.mirror[joint]
            scores = []
            for candidate in REFLECTIONS:
                miss = sum(
                    np.linalg.norm(candidate @ skeleton.offsets[c] - skeleton.offsets[skeleton.mirror[c]])
                    for c in skeleton.children[joint]
                )
                above = own[skeleton.parents[joint]] if joint else REFLECT
                alike = float((mean[joint] * (above.T @ mean[other] @ candidate)).sum())
                scores.append(alike - 100 * max(miss - 0.01, 0))
            own[joint] = REFLECTIONS[int(np.argmax(scores))]
        return cls(skeleton, own)

    def __call__(self, motion: Motion, caption: str = "") -> Motion:
        """Return the mirror image."""
        sides = list(self.skeleton.mirror)
        positions = motion.positions[:, sides] @ REFLECT
        frames = REFLECT @ self.skeleton.global_rotations(motion.local_rotations)[:, sides] @ self.own
        guess = self.skeleton.local_rotations(frames)
        rotations = self.skeleton.fit_rotations(positions, guess)
        placed = self.skeleton.positions(rotations, positions[:, 0])
        return Motion(placed, self.skeleton, motion.fps, rotations, caption)


def mean_rotations(motions: list[Motion], spec: MotionSpec) -> np.ndarray:
    """Mean rotation matrices relative to the parent, the root's without heading."""
    total, count = np.zeros((len(spec.skeleton), 3, 3)), 0
    for motion in motions:
        local = motion.local_rotations.copy()
        local[:, 0] = about_y(-spec.heading(motion.positions)) @ local[:, 0]
        total += local.sum(0)
        count += len(local)
    return total / count
