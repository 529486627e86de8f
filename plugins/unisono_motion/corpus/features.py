"""Features: a moving skeleton as one vector per frame that does not depend on where it stands and faces.

The representation of HumanML3D (Guo et al., "Generating Diverse and Natural 3D Human Motions From Text", CVPR
2022, section 5), generalised to any skeleton with a left and a right side. With θ the heading about the vertical,
Y(θ) the turn by it, p_j the joints (0 is the root), a frame holds

====================  =========  =====================================================================
turn                  1          −(θ' − θ) / 2, radians: half the turn to the next frame, as published
velocity              2          x and z of Y(−θ')(p_0' − p_0), metres per frame
height                1          y of p_0, metres above the ground
places                3 (j − 1)  Y(−θ)(p_j − x and z of p_0), metres
rotations             6 j        the first two columns of Y(−θ) R_0 and of each R_j relative to its parent
speeds                3 j        Y(−θ)(p_j' − p_j), metres per frame
contacts              number of feet, 1 where one stands still on the ground
====================  =========  =====================================================================

(a prime is the next frame). The inverse sums turns and velocities up; it starts at the origin, facing z.

Differences: the root's own rotation is among the rotations (published: only its heading is kept, j − 1 of them),
so that the features can be turned back into rotations and hence into BVH; R_j moves the children of a joint, as
in BVH (published: the bone that ends in it); the last frame repeats the speeds of the one before, so that t
frames give t vectors (published: t − 1); heading from all pairs of limbs, smoothed over 0.25 s. ``tilt=False``
reads the published layout (263 numbers for 22 joints, 251 for 21); its rotations are then left aside.

Shapes: b batch, t frames, j joints, d features.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from unisono.data import Drop

from unisono_motion.skeleton import Motion, Skeleton, matrix_to_six, six_to_matrix

HEADING_SECONDS = 0.25
CONTACT_SPEED = 0.4
CONTACT_HEIGHT = 0.1
ROTATION_WEIGHT = 0.3
"""How much the features' rotations count beside their positions where the two disagree."""


@dataclass(frozen=True)
class MotionSpec:
    """What a frame's features mean: two models may share features only if their specs are equal.

    skeleton: the one skeleton of all clips.
    fps: frames a second.
    tilt: the root's own rotation is among the rotations; False is the layout as published.
    """

    skeleton: Skeleton
    fps: float
    tilt: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; ``from_dict`` takes it back."""
        return {"skeleton": self.skeleton.to_dict(), "fps": self.fps, "tilt": self.tilt}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "MotionSpec":
        """Return the spec that ``to_dict`` described."""
        return cls(Skeleton.from_dict(values["skeleton"]), values["fps"], values["tilt"])

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where each group of features stands, by the names of the module's table."""
        joints = len(self.skeleton)
        sizes = {
            "turn": 1,
            "velocity": 2,
            "height": 1,
            "places": 3 * (joints - 1),
            "rotations": 6 * (joints if self.tilt else joints - 1),
            "speeds": 3 * joints,
            "contacts": len(self.skeleton.feet),
        }
        ends = np.cumsum(list(sizes.values())).tolist()
        return {name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}

    @property
    def dim(self) -> int:
        """Numbers per frame."""
        return self.slices["contacts"].stop

    @cached_property
    def parts(self) -> dict[str, list[int]]:
        """Columns of the lower body (root, legs, contacts) and of the upper body (all else)."""
        lower: list[int] = [*range(self.slices["places"].start)]
        upper: list[int] = []
        first = 0 if self.tilt else 1
        for group, start, width in (("places", 1, 3), ("rotations", first, 6), ("speeds", 0, 3)):
            for joint in range(start, len(self.skeleton)):
                at = self.slices[group].start + width * (joint - start)
                below = joint == 0 or joint in self.skeleton.legs
                (lower if below else upper).extend(range(at, at + width))
        lower.extend(range(self.slices["contacts"].start, self.dim))
        return {"lower": lower, "upper": upper}

    # ---- motion to features --------------------------------------------------------------------

    def encode(self, motion: Motion) -> Float[np.ndarray, "t d"]:
        """Return the features of a motion on this skeleton; it needs two frames, and rotations if ``tilt``.

        Raises ``Drop`` for what has no features: one frame, no left and right side.
        """
        positions = motion.positions.astype(np.float64)
        if len(positions) < 2:
            raise Drop("one frame", "a motion needs at least 2 frames")
        heading = self.heading(positions)
        turn, nxt = np.diff(heading), np.minimum(np.arange(len(positions)) + 1, len(positions) - 1)
        step = np.diff(positions, axis=0)
        step = np.concatenate([step, step[-1:]])
        turn = np.concatenate([turn, turn[-1:]])
        ground = positions[:, :1] * [1, 0, 1]
        groups = [
            -turn[:, None] / 2,
            _turned(step[:, :1], -heading[nxt])[:, 0, [0, 2]],
            positions[:, 0, 1:2],
            _turned(positions - ground, -heading)[:, 1:].reshape(len(positions), -1),
        ]
        rotations = motion.local_rotations.astype(np.float64).copy()
        rotations[:, 0] = about_y(-heading) @ rotations[:, 0]
        groups.append(matrix_to_six(rotations[:, 0 if self.tilt else 1 :]).reshape(len(positions), -1))
        groups.append(_turned(step, -heading).reshape(len(positions), -1))
        groups.append(self._contacts(positions, step))
        return np.concatenate(groups, axis=1).astype(np.float32)

    def heading(self, positions: Float[np.ndarray, "t j 3"]) -> Float[np.ndarray, "t"]:
        """Return the angle about the vertical at which the body faces, 0 towards z; continuous over time."""
        if not self.skeleton.pairs:
            raise Drop("no sides", "no left and right joint hang on one parent, so that nothing tells the heading")
        left, right = (list(side) for side in zip(*self.skeleton.pairs, strict=True))
        across = (positions[:, left] - positions[:, right]).sum(1)
        forward = np.stack([-across[:, 2], across[:, 0]], -1)  # x and z of across × up
        forward = forward / np.maximum(np.linalg.norm(forward, axis=-1, keepdims=True), 1e-9)
        reach = math.ceil(3 * HEADING_SECONDS * self.fps)
        window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (HEADING_SECONDS * self.fps)) ** 2)
        padded = np.pad(forward, ((reach, reach), (0, 0)), mode="edge")
        smooth = [np.convolve(padded[:, i], window / window.sum(), mode="valid") for i in (0, 1)]
        return np.unwrap(np.arctan2(smooth[0], smooth[1]))

    def _contacts(
        self, positions: Float[np.ndarray, "t j 3"], step: Float[np.ndarray, "t j 3"]
    ) -> Float[np.ndarray, "t f"]:
        feet = list(self.skeleton.feet)
        speed = np.linalg.norm(step[:, feet], axis=-1) * self.fps
        height = positions[:, feet, 1]
        return ((speed < CONTACT_SPEED) & (height < height.min(0) + CONTACT_HEIGHT)).astype(np.float64)

    # ---- features to motion --------------------------------------------------------------------

    def positions(self, features: Float[Tensor, "b t d"]) -> Float[Tensor, "b t j 3"]:
        """Return the joints that the features place, starting at the origin, facing z."""
        heading, root = self._path(features)
        places = features[..., self.slices["places"]].unflatten(-1, (-1, 3))
        sine, cosine = heading.sin()[..., None], heading.cos()[..., None]
        x = places[..., 0] * cosine + places[..., 2] * sine + root[..., :1]
        z = places[..., 2] * cosine - places[..., 0] * sine + root[..., 2:]
        rest = torch.stack([x, places[..., 1], z], dim=-1)
        return torch.cat([root[..., None, :], rest], dim=-2)

    def _path(self, features: Float[Tensor, "b t d"]) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t 3"]]:
        """Return heading and root of each frame."""
        turn = features[..., self.slices["turn"]][..., 0]
        velocity = features[..., self.slices["velocity"]]
        heading = torch.nn.functional.pad(-2 * turn[..., :-1], (1, 0)).cumsum(-1)
        step = torch.nn.functional.pad(velocity[..., :-1, :], (0, 0, 1, 0))
        sine, cosine = heading.sin(), heading.cos()
        x = (step[..., 0] * cosine + step[..., 1] * sine).cumsum(-1)
        z = (step[..., 1] * cosine - step[..., 0] * sine).cumsum(-1)
        height = features[..., self.slices["height"]][..., 0]
        return heading, torch.stack([x, height, z], -1)

    def decode(self, features: Float[Tensor, "t d"] | Float[np.ndarray, "t d"], caption: str = "") -> Motion:
        """Return the motion of features, with bones of constant length.

        Positions and rotations say the same twice; where they disagree, as those of a model do, each joint
        takes the rotation that fits both best, and positions follow from rotations.
        """
        features = torch.as_tensor(features).detach().cpu().double()
        positions = self.positions(features[None])[0].numpy()
        guess = None
        if self.tilt:
            guess = six_to_matrix(features[:, self.slices["rotations"]].unflatten(-1, (-1, 6)).numpy())
            guess[:, 0] = about_y(self._path(features[None])[0][0].numpy()) @ guess[:, 0]
        weight = ROTATION_WEIGHT if self.tilt else 1e-3
        rotations = self.skeleton.fit_rotations(positions, guess, weight)
        fitted = self.skeleton.positions(rotations, positions[:, 0])
        return Motion(fitted.astype(np.float32), self.skeleton, self.fps, rotations.astype(np.float32), caption)


def about_y(angle: Float[np.ndarray, "t"]) -> Float[np.ndarray, "t 3 3"]:
    """Return rotations about the upright axis, in radians, from z towards x."""
    sine, cosine, zero, one = np.sin(angle), np.cos(angle), np.zeros_like(angle), np.ones_like(angle)
    rows = [[cosine, zero, sine], [zero, one, zero], [-sine, zero, cosine]]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def _turned(points: Float[np.ndarray, "t j 3"], angle: Float[np.ndarray, "t"]) -> Float[np.ndarray, "t j 3"]:
    return points @ about_y(angle).mT
