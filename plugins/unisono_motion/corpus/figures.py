"""FigureData: stick figures that walk, turn and wave, made on the spot; for tests and tiny recipes, no file is read."""

import numpy as np
import torch
from unisono.data import Audit, derive_seed

from unisono_motion.corpus.data import Clip, MotionData
from unisono_motion.corpus.features import MotionSpec
from unisono_motion.corpus.fit import stand
from unisono_motion.skeleton import Motion, Skeleton, euler_to_matrix

_JOINTS = (
    ("Hips", "", (0, 0, 0)),
    ("Spine", "Hips", (0, 0.25, 0)),
    ("Head", "Spine", (0, 0.35, 0)),
    ("LeftArm", "Spine", (0.18, 0.2, 0)),
    ("LeftForeArm", "LeftArm", (0, -0.28, 0)),
    ("LeftHand", "LeftForeArm", (0, -0.25, 0)),
    ("RightArm", "Spine", (-0.18, 0.2, 0)),
    ("RightForeArm", "RightArm", (0, -0.28, 0)),
    ("RightHand", "RightForeArm", (0, -0.25, 0)),
    ("LeftUpLeg", "Hips", (0.1, -0.05, 0)),
    ("LeftLeg", "LeftUpLeg", (0, -0.42, 0)),
    ("LeftFoot", "LeftLeg", (0, -0.42, 0.02)),
    ("RightUpLeg", "Hips", (-0.1, -0.05, 0)),
    ("RightLeg", "RightUpLeg", (0, -0.42, 0)),
    ("RightFoot", "RightLeg", (0, -0.42, 0.02)),
)
ACTIONS = (
    "walks forward",
    "walks and turns left",
    "walks and turns right",
    "waves with the left hand",
    "waves with the right hand",
)


def figure_skeleton() -> Skeleton:
    """Return the figures' skeleton: 15 joints, 1.6 m."""
    names = [name for name, _, _ in _JOINTS]
    parents = tuple(names.index(parent) if parent else -1 for _, parent, _ in _JOINTS)
    offsets = np.array([offset for _, _, offset in _JOINTS], dtype=np.float64)
    return Skeleton(tuple(names), parents, offsets, np.zeros_like(offsets))


def make_figure(number: int, fps: float = 20.0) -> Motion:
    """Make the motion of a number: 1.5 to 3 seconds of one of ``ACTIONS``, slow or fast."""
    generator = torch.Generator().manual_seed(derive_seed("figure", number))
    share, pace, size, phase = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
    action = number % len(ACTIONS)
    skeleton = figure_skeleton()
    time = np.arange(int((1.5 + 1.5 * share) * fps)) / fps
    beat = 2 * np.pi * ((0.7 + 0.8 * pace) * time + phase)
    angles = np.zeros((len(time), len(skeleton), 3))  # about x, y, z
    place = {name: i for i, name in enumerate(skeleton.names)}
    speed = np.zeros_like(time)
    heading = np.zeros_like(time)
    if action < 3:
        swing = 0.4 + 0.2 * size
        for side, sign in (("Left", 1), ("Right", -1)):
            angles[:, place[f"{side}UpLeg"], 0] = -sign * swing * np.sin(beat)
            angles[:, place[f"{side}Leg"], 0] = swing * (1 - sign * np.cos(beat))
            angles[:, place[f"{side}Arm"], 0] = sign * 0.6 * swing * np.sin(beat)
            angles[:, place[f"{side}ForeArm"], 0] = -0.3
        speed += 1.2 * (0.7 + 0.8 * pace) * swing
        heading = (0, 1, -1)[action] * (0.4 + 0.4 * size) * time
    else:
        side, sign = ("Left", 1) if action == 3 else ("Right", -1)
        angles[:, place[f"{side}Arm"], 2] = sign * (2.2 + 0.3 * size)
        angles[:, place[f"{side}ForeArm"], 2] = sign * 0.6 * np.sin(2 * beat)
        angles[:, place["Spine"], 2] = -sign * 0.05 * np.sin(beat)
    angles[:, 0, 1] = heading
    rotations = euler_to_matrix(angles, "XYZ")
    step = speed[:, None] / fps * np.stack([np.sin(heading), np.zeros_like(time), np.cos(heading)], -1)
    root = np.array([0, 0.9, 0]) + np.cumsum(step, axis=0)
    manner = "quickly" if pace > 0.5 else "slowly"
    return Motion(skeleton.positions(rotations, root), skeleton, fps, rotations, f"a figure {ACTIONS[action]} {manner}")


class FigureData(MotionData):
    """Figures with captions, items as of ``ClipData``.

    Args:
        num_items: figures to train on.
        fps: frames a second.
        crop_frames, batch_size, val_size, num_workers: as of ``ClipData``.
    """

    def __init__(
        self,
        *,
        num_items: int = 32,
        fps: float = 20.0,
        crop_frames: int | None = None,
        batch_size: int = 8,
        val_size: int = 4,
        num_workers: int = 0,
    ):
        super().__init__(crop_frames, batch_size, num_workers)
        self.num_items = num_items
        self.fps = fps
        self.val_size = val_size

    def prepare(self, progress: bool = True) -> Audit:
        self.spec = MotionSpec(figure_skeleton(), self.fps)
        audit = Audit("clips")
        clips = []
        for number in range(self.num_items + self.val_size):
            motion = stand(make_figure(number, self.fps), self.spec)
            clips.append(Clip(f"figure-{number}", self.spec.encode(motion), (motion.caption,)))
            audit.keep(clips[-1].id, motion.seconds, "seconds")
        return self.settle(audit, clips[: self.num_items], clips[self.num_items :])
