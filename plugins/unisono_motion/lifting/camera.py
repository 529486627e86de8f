"""Camera: a pinhole that stands in the world, where it may stand, and what it sees.

The camera's frame has x to the picture's right, y up and z towards whoever looks at the picture, so that a person who
faces the camera faces z and has the left side at positive x; depth is −z. A point is seen at

    (2 f x / depth, −2 f y / depth)

with the focal length f in picture widths and the principal point in the middle: x runs over the picture in [−1, 1] and
y, which points down, has the same unit. Pixels (u, v) of a picture w × h are at (2 u / w − 1, 2 v / w − h / w), as
MotionAGFormer (arXiv:2310.16288) normalises them. There is no lens distortion and no roll.

Shapes: t frames, j joints. Metres; the world's y is up and its ground at 0.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float
from unisono.errors import DataError

NEAREST = 0.1
"""Metres before the camera at which a joint must be."""


@dataclass(frozen=True, eq=False)
class Camera:
    """A camera at ``position`` [3] with the rows of ``rotation`` [3, 3] as its right, up and backward axes.

    focal: in picture widths.
    """

    position: np.ndarray
    rotation: np.ndarray
    focal: float

    @classmethod
    def looking(cls, position: Float[np.ndarray, "3"], target: Float[np.ndarray, "3"], focal: float) -> "Camera":
        """Return a level camera that has a target in the middle of its picture."""
        back = np.asarray(position, np.float64) - target
        right = np.cross([0.0, 1.0, 0.0], back)
        if np.linalg.norm(right) < 1e-6:
            raise DataError(
                "the camera stands straight above or below what it looks at: move it aside",
                code="value",
                path="position",
                value=[float(x) for x in position],
            )
        back, right = back / np.linalg.norm(back), right / np.linalg.norm(right)
        return cls(np.asarray(position, np.float64), np.stack([right, np.cross(back, right), back]), focal)

    @property
    def pitch(self) -> float:
        """Radians by which it looks down."""
        return float(np.arcsin(np.clip(self.rotation[2, 1], -1, 1)))

    def place(self, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """Return points of the world in the camera's frame."""
        return (points - self.position) @ self.rotation.T

    def project(self, placed: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
        """Return where points of the camera's frame are seen; raises ``DataError`` for what is not in front of it."""
        depth = -placed[..., 2]
        nearest = float(depth.min()) if depth.size else NEAREST
        if not nearest >= NEAREST:
            raise DataError(
                f"a joint is {nearest:.2f} m before the camera, at least {NEAREST:g} are needed: the person is behind "
                "it or too near; move the camera",
                code="range",
                path="camera",
                value=nearest,
            )
        return 2 * self.focal * placed[..., :2] * [1, -1] / depth[..., None]


@dataclass(frozen=True, kw_only=True)
class CameraRange:
    """Where virtual cameras stand: uniform in each range, in any direction, looking at the pelvis.

    height: metres above the ground.
    distance: metres on the ground from the nearest that the pelvis comes.
    focal: in picture widths.
    """

    height: tuple[float, float] = (0.8, 2.2)
    distance: tuple[float, float] = (2.5, 5.0)
    focal: tuple[float, float] = (1.0, 1.6)

    def __post_init__(self):
        for name, least in (("height", -10.0), ("distance", 1.5), ("focal", 0.1)):
            low, high = getattr(self, name)
            if not least <= low <= high <= 100:
                raise DataError(
                    f"data.camera.{name}=[{low:g}, {high:g}] must be a range within {least:g} and 100",
                    code="range",
                    path=f"data.camera.{name}",
                    value=[low, high],
                )

    def draw(self, positions: Float[np.ndarray, "t j 3"], generator: torch.Generator) -> Camera:
        """Return a camera for a motion whose first joint is the pelvis.

        It looks at the middle of the pelvis' way, and stands so far off that the pelvis never comes nearer than the
        distance that was drawn.
        """
        share = torch.rand(len(fields(self)) + 1, generator=generator, dtype=torch.float64).numpy()
        height, distance, focal = (
            low + (high - low) * part
            for (low, high), part in zip((self.height, self.distance, self.focal), share, strict=False)
        )
        way = np.asarray(positions[:, 0], np.float64)
        target = (way.min(0) + way.max(0)) / 2
        direction = np.array([np.sin(2 * np.pi * share[3]), 0, np.cos(2 * np.pi * share[3])])
        distance += max(float(((way - target) @ direction).max()), 0.0)
        position = target * [1, 0, 1] + distance * direction + [0, height, 0]
        return Camera.looking(position, target, float(focal))


def levelled(placed: Float[np.ndarray, "*n 3"], pitch: float) -> Float[np.ndarray, "*n 3"]:
    """Return points of the frame of a camera that looks down by ``pitch`` radians, with y straight up."""
    sine, cosine = np.sin(pitch), np.cos(pitch)
    x, up, back = np.moveaxis(placed, -1, 0)
    return np.stack([x, up * cosine + back * sine, back * cosine - up * sine], -1)
