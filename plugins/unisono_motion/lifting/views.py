"""ViewData: clips seen by virtual cameras through a detector: keypoints in, poses in the camera's frame out.

A camera and a detector's errors are drawn anew each time an item is read, from its generator: clips are few, views are
not. Validation items are drawn once. A pose is relative to the first joint, in metres; F3 of lifting, that nothing in
one picture tells size from distance, is settled by the corpus: bodies are as large as its skeleton.

Shapes: t frames, j joints.
"""

from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from unisono.data import Audit, DataModule, collate_items, derive_seed, hold_out
from unisono.errors import DataError

from unisono_motion.corpus.data import ClipData, ClipOptions, MotionData
from unisono_motion.corpus.figures import FigureData
from unisono_motion.lifting.camera import Camera, CameraRange
from unisono_motion.lifting.coco import CocoJoints
from unisono_motion.lifting.detector import Detector
from unisono_motion.lifting.facts import LifterFacts, View
from unisono_motion.skeleton import Skeleton

NUM_SAMPLES = 2
MEAN_VIEWS = 8
"""Views of a clip that the mean pose is measured on."""


def flipped(points: Any, mirror: tuple[int, ...]) -> Any:
    """Return the mirror image of poses, keypoints or a batch of them, [… j c]: x negated, left and right exchanged.

    ``mirror``: for each joint the one on the other side, as ``Skeleton.mirror``. Takes arrays and tensors.
    """
    other = points[..., list(mirror), :]
    return (torch.cat if isinstance(points, torch.Tensor) else np.concatenate)([-other[..., :1], other[..., 1:]], -1)


@dataclass(frozen=True, eq=False)
class Viewer:
    """What turns a clip into a view: cameras, a detector, and what is known of the skeleton."""

    skeleton: Skeleton
    camera: CameraRange
    detector: Detector

    @cached_property
    def coco(self) -> CocoJoints | None:
        """What COCO tells of the skeleton."""
        return CocoJoints.of(self.skeleton)

    def view(
        self, positions: Float[np.ndarray, "t j 3"], generator: torch.Generator
    ) -> tuple[Float[np.ndarray, "t j 3"], Float[np.ndarray, "t j 3"], Camera]:
        """Return keypoints, poses relative to the first joint, and the camera; positions stand in the world."""
        camera = self.camera.draw(positions, generator)
        placed = camera.place(positions)
        height = 2 * camera.focal * self.skeleton.height / float(-placed[:, 0, 2].mean())
        keypoints = self.detector.detect(camera.project(placed), height, self.coco, generator)
        return keypoints, placed - placed[:, :1], camera


class ViewSet:
    """Items ``{"keypoints" [t, j, 3], "poses" [t, j, 3], "length"}``: a stretch of at most ``frames`` of a clip.

    Where ``random``, the stretch is drawn, and half of the items are mirrored if ``flip``; else it is the clip's
    middle.
    """

    def __init__(self, clips: dict[str, np.ndarray], viewer: Viewer, frames: int, random: bool, flip: bool):
        self.clips, self.viewer, self.frames, self.random = clips, viewer, frames, random
        self.flip = flip and random
        self.names = list(clips)

    def __len__(self) -> int:
        return len(self.names)

    def size(self, index: int) -> int:
        return min(len(self.clips[self.names[index]]), self.frames)

    def item(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        positions, size = self.clips[self.names[index]], self.size(index)
        spare = len(positions) - size
        start = int(torch.randint(0, spare + 1, (), generator=generator)) if self.random else spare // 2
        keypoints, poses, _ = self.viewer.view(positions[start : start + size], generator)
        if self.flip and torch.rand((), generator=generator) < 0.5:
            mirror = self.viewer.skeleton.mirror
            keypoints, poses = flipped(keypoints, mirror), flipped(poses, mirror)
        parts = {"keypoints": keypoints, "poses": poses}
        return {**{name: torch.from_numpy(part.astype(np.float32)) for name, part in parts.items()}, "length": size}


class SeenData(DataModule):
    """The base of views of any motions: they are split, measured, and seen."""

    def __init__(
        self, frames: int, camera: CameraRange, detector: Detector, flip: bool, batch_size: int, num_workers: int
    ):
        super().__init__(batch_size, num_workers)
        if frames < 2:
            raise DataError(
                f"data.frames={frames} must be at least 2: velocity is learnt",
                code="range",
                path="data.frames",
                value=frames,
            )
        self.frames, self.camera, self.detector, self.flip = frames, camera, detector, flip
        self.viewer: Viewer

    def settle(self, motions: MotionData, held: set[str], patterns: tuple[str, ...] = ()) -> Audit:
        """Fill the sets from prepared motions, of which some are held out by id, and return their audit."""
        spec, audit = motions.spec, motions.audit
        assert audit is not None
        self.viewer = Viewer(spec.skeleton, self.camera, self.detector)
        if self.viewer.coco is None and self.detector.coco_share > 0:
            raise DataError(
                f"data.detector.coco_share={self.detector.coco_share:g}: COCO's keypoints cannot be told from the "
                f"joints {', '.join(spec.skeleton.names)}; set it to 0",
                code="unsupported",
                path="data.detector.coco_share",
                value=self.detector.coco_share,
            )
        positions = {
            clip.id: spec.positions(torch.from_numpy(np.array(clip.features))[None])[0].numpy()
            for part in (motions.train_set, motions.val_set)
            for clip in (part.clips if part else [])
        }
        train = {name: clip for name, clip in positions.items() if name not in held}
        val = {name: clip for name, clip in positions.items() if name in held}
        if not train:
            raise DataError("all clips are held out: nothing is left to train on", code="empty", path="data.held")
        self.train_set = ViewSet(train, self.viewer, self.frames, random=True, flip=self.flip)
        self.val_set = ViewSet(val, self.viewer, self.frames, random=False, flip=False) if val else None
        self.facts = LifterFacts(
            skeleton=spec.skeleton,
            fps=spec.fps,
            frames=self.frames,
            mean=tuple(_mean_pose(train, self.viewer).round(6).ravel().tolist()),
            samples=tuple(_sample(number, val or train, self.viewer, self.frames) for number in range(NUM_SAMPLES)),
            held_out=tuple(val),
            held_patterns=patterns,
            hours=audit.amount / 3600,
        )
        return self.finish(audit)

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return collate_items(items)


class ViewData(SeenData):
    """Views of motion clips, from BVH files or from features in HumanML3D's layout.

    Args:
        root, clips, num_processes: as of ``ClipData``; ``clips.mirror`` stays false, ``flip`` mirrors views.
        frames: the longest stretch of an item; shorter clips are seen whole.
        camera: where cameras stand.
        detector: how far joints are off.
        flip: mirror half of the training views, left and right exchanged in the picture and in space.
        held: patterns of ids, such as ``*_elderly_*``, of which every clip is held out.
        val_size: clips held out beside those, chosen by their ids alone.
        batch_size: views per step over all processes.
        num_workers: loading processes per rank.
    """

    flat: ClassVar[dict[str, str]] = {field.name: f"clips.{field.name}" for field in fields(ClipOptions)}

    def __init__(
        self,
        root: str,
        *,
        clips: ClipOptions = ClipOptions(mirror=False),  # noqa: B008
        frames: int = 27,
        camera: CameraRange = CameraRange(),  # noqa: B008
        detector: Detector = Detector(),  # noqa: B008
        flip: bool = True,
        held: tuple[str, ...] = (),
        val_size: int = 32,
        batch_size: int = 16,
        num_processes: int | None = None,
        num_workers: int = 0,
    ):
        super().__init__(frames, camera, detector, flip, batch_size, num_workers)
        if clips.mirror:
            raise DataError(
                "data.clips.mirror=true: views are mirrored by data.flip; set it to false",
                code="conflict",
                path="data.clips.mirror",
                value=True,
            )
        self.root, self.clips, self.held = root, clips, tuple(held)
        self.val_size, self.num_processes = val_size, num_processes

    def prepare(self, progress: bool = True) -> Audit:
        motions = ClipData(self.root, clips=self.clips, crop_frames=None, val_size=0, num_processes=self.num_processes)
        motions.prepare(progress)
        names = [clip.id for clip in motions.train_set.clips]
        held: set[str] = set()
        for pattern in self.held:
            found = {name for name in names if fnmatchcase(name, pattern)}
            if not found:
                raise DataError(
                    f"data.held has {pattern!r}, which fits none of {len(names)} clips, such as {names[0]!r}",
                    code="value",
                    path="data.held",
                    value=pattern,
                )
            held |= found
        rest = dict.fromkeys((name for name in names if name not in held), 1)
        return self.settle(motions, held | hold_out(rest, self.val_size), self.held)


class FigureViews(SeenData):
    """Views of stick figures that are made on the spot: for tests and tiny recipes, no file is read.

    Args:
        num_items: figures to train on.
        fps: frames a second.
        frames, camera, detector, flip, batch_size, val_size, num_workers: as of ``ViewData``.
    """

    def __init__(
        self,
        *,
        num_items: int = 32,
        fps: float = 20.0,
        frames: int = 27,
        camera: CameraRange = CameraRange(),  # noqa: B008
        detector: Detector = Detector(),  # noqa: B008
        flip: bool = True,
        batch_size: int = 8,
        val_size: int = 4,
        num_workers: int = 0,
    ):
        super().__init__(frames, camera, detector, flip, batch_size, num_workers)
        self.num_items, self.fps, self.val_size = num_items, fps, val_size

    def prepare(self, progress: bool = True) -> Audit:
        motions = FigureData(num_items=self.num_items, fps=self.fps, val_size=self.val_size)
        motions.prepare(progress)
        return self.settle(motions, {clip.id for clip in (motions.val_set.clips if motions.val_set else [])})


def _mean_pose(clips: dict[str, np.ndarray], viewer: Viewer) -> Float[np.ndarray, "j 3"]:
    """The mean pose over views of clips, each of which counts alike."""
    total = np.zeros((len(viewer.skeleton), 3))
    for name, positions in clips.items():
        generator = torch.Generator().manual_seed(derive_seed("mean pose", name))
        middle = positions[len(positions) // 2 :][:1]
        for _ in range(MEAN_VIEWS):
            total += viewer.view(middle, generator)[1][0]
    return total / (len(clips) * MEAN_VIEWS)


def _sample(number: int, clips: dict[str, np.ndarray], viewer: Viewer, frames: int) -> View:
    """A view for previews; the second one is shorter."""
    name = sorted(clips, key=lambda name: derive_seed("sample", name))[number % len(clips)]
    generator = torch.Generator().manual_seed(derive_seed("sample", name, number))
    positions = clips[name][: max(2, frames // (number + 1))]
    exact = replace(viewer, detector=replace(viewer.detector, coco_share=0.0))
    keypoints = exact.view(positions, generator)[0].round(4)
    return tuple(tuple((float(x), float(y), float(c)) for x, y, c in frame) for frame in keypoints)
