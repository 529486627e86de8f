"""Evaluation of a lifter: held-out clips, seen by cameras that it never saw, lifted and compared.

Each clip is seen whole, by ``VIEWS`` cameras and a detector whose errors have a standard deviation of 0.01 heights::

    mean pose     the same for every frame, of the training clips: what a lifter must beat to have looked
    the model     and each export that is given as ``against``, on the same views

Poses are compared in the camera's frame, relative to the first joint.

Shapes: t frames, j joints.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from unisono.data import derive_seed
from unisono.errors import DataError
from unisono.evaluation import Report, Row, Section

from unisono_motion.corpus.data import ClipData, ClipOptions, MotionData
from unisono_motion.lifting import measures
from unisono_motion.lifting.camera import CameraRange
from unisono_motion.lifting.detector import Detector
from unisono_motion.lifting.lifter import Lifter
from unisono_motion.lifting.views import Viewer

MEAN = "mean pose"
VIEWS = 2
SIGMA = 0.01
SPEED_SECONDS = 10.0

Lift = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Seen:
    """A held-out clip as it was seen: keypoints and poses [t, j, 3]; ``new``: of a kind that training had none of."""

    id: str
    keypoints: np.ndarray
    poses: np.ndarray
    new: bool


def evaluate(
    synthesizer: Any,
    data: str | Path | MotionData,
    *,
    limit: int = 40,
    views: int = VIEWS,
    device: str | None = None,
    checkpoint: str | Path | None = None,
    against: Sequence[str] | None = None,
    progress: bool = True,
) -> Report:
    """Measure a lifter, and others beside it, on held-out clips and return one report.

    ``data`` is what ``motion/clips`` reads, or a data module. Of the clips that the model's facts name as held out
    (where none is there, of all, and the report says so), at most ``limit`` of each kind are seen by ``views`` cameras
    each. Raises ``DataError`` for clips of another skeleton or rate, and where no clip is left.
    """
    from unisono import load

    if device is not None:
        synthesizer.to(device)
    model: Lifter = synthesizer.model
    lifters: dict[str, Lift] = {MEAN: _mean_lift(model)}
    for path, rival in {
        "": synthesizer,
        **{str(path): load(path, device=device or "cpu") for path in against or ()},
    }.items():
        other = rival.model
        if not isinstance(other, Lifter) or other.facts.skeleton != model.facts.skeleton:
            message = f"{path}: is no lifter of the same joints, so it cannot be compared"
            raise DataError(message, code="type", path="against", value=path)
        if other.system in lifters:
            message = f"two models are called {other.system!r}: compare models of different kinds"
            raise DataError(message, code="conflict", path="against", value=path)
        lifters[other.system] = _lift_of(other)
    clips, known = held_clips(model, data, limit)
    bar = {"console": Console(stderr=True), "disable": not progress}
    noisy = Detector(sigma=(SIGMA, SIGMA), coco_share=0.0)
    settings = {
        "noisy": noisy,
        "exact": replace(noisy, sigma=(0.0, 0.0), dropout=0.0),
        "coco": replace(noisy, coco_share=1.0),
    }
    seen = {name: list(_views(model, clips, detector, views)) for name, detector in settings.items()}
    made = {
        (system, name): [lift(one.keypoints) for one in track(seen[name], f"{system}, {name}", **bar)]
        for system, lift in lifters.items()
        for name in settings
    }
    parents = model.facts.skeleton.parents

    def row(
        name: str, measure: Callable[..., float], unit: str, better: str, of: str = "noisy", new: bool = False
    ) -> Row:
        chosen = [i for i, one in enumerate(seen[of]) if one.new == new]
        values = {
            system: fmean(measure(made[system, of][i], seen[of][i].poses) for i in chosen) if chosen else None
            for system in lifters
        }
        return Row(name, values, unit, 1, better)

    def share(one: np.ndarray, other: np.ndarray) -> float:
        return 100 * measures.found_share(one, other)

    def bones(one: np.ndarray, other: np.ndarray) -> float:
        return measures.bone_deviation(one, parents)

    sections = [
        Section(
            "Held-out clips",
            [
                row("MPJPE", measures.mpjpe, "mm", "lower"),
                row("P-MPJPE", measures.aligned_mpjpe, "mm", "lower"),
                row("joints within 50 mm", share, "%", "higher"),
                row("acceleration error", measures.acceleration_error, "mm/frame²", "lower"),
                row("deviation of bones' lengths", bones, "mm", "lower"),
            ],
        ),
        Section(
            "Clips of a kind that is held out",
            [
                row("MPJPE, another kind", measures.mpjpe, "mm", "lower", new=True),
                row("acceleration error, another kind", measures.acceleration_error, "mm/frame²", "lower", new=True),
            ],
        ),
        Section(
            "Other detectors",
            [
                row("MPJPE, exact places", measures.mpjpe, "mm", "lower", "exact"),
                row("MPJPE, COCO's keypoints alone", measures.mpjpe, "mm", "lower", "coco"),
            ],
        ),
        Section("Speed", [Row("frames a second", speed(model, lifters), "", 0, "higher")]),
    ]
    return Report(
        title=f"{synthesizer.info.get('model', 'lifter')}: {len(clips)} clips, {views} views of each",
        systems=list(lifters),
        sections=sections,
        facts={
            "clips": len(clips),
            "of them of another kind": sum(new for _, _, new in clips),
            "held out": "yes" if known else "no: the data has none of the clips that were kept out of training",
            "sigma": SIGMA,
            "lost joints": f"{100 * noisy.dropout:g} %",
            "threads": torch.get_num_threads(),
        },
        items=[
            {"id": one.id, "new": one.new, **{s: measures.mpjpe(made[s, "noisy"][i], one.poses) for s in lifters}}
            for i, one in enumerate(seen["noisy"])
        ],
    )


def held_clips(
    model: Lifter, data: str | Path | MotionData, limit: int
) -> tuple[list[tuple[str, np.ndarray, bool]], bool]:
    """Return the ids, positions [t, j, 3] and kinds of held-out clips, and whether there were any.

    At most ``limit`` of clips whose like was trained on, and as many of those that the facts' patterns name.
    """
    facts = model.facts
    module = (
        data
        if isinstance(data, MotionData)
        else ClipData(str(data), clips=ClipOptions(fps=facts.fps, mirror=False), crop_frames=None, val_size=0)
    )
    module.setup()
    if module.spec.skeleton != facts.skeleton or module.spec.fps != facts.fps:
        name = "the data" if isinstance(data, MotionData) else str(data)
        raise DataError(
            f"{name}: its clips have another skeleton or rate than those that the model was trained on",
            code="conflict",
            path="data",
            value=name,
        )
    everything = [*module.train_set.clips, *(module.val_set.clips if module.val_set else [])]
    long = {clip.id: clip for clip in everything if len(clip.features) >= 3}
    kept = [name for name in facts.held_out if name in long]
    chosen = sorted(kept or long, key=lambda name: derive_seed("chosen", name))
    new = [name for name in chosen if any(fnmatchcase(name, pattern) for pattern in facts.held_patterns)]
    like = [name for name in chosen if name not in set(new)]
    if not chosen:
        raise DataError("no clip of at least 3 frames is left to measure", code="empty", path="data")
    found = [
        (
            name,
            module.spec.positions(torch.from_numpy(np.array(long[name].features))[None])[0].numpy(),
            name in set(new),
        )
        for name in [*like[:limit], *new[:limit]]
    ]
    return found, bool(kept)


def speed(model: Lifter, lifters: dict[str, Lift]) -> dict[str, float]:
    """Return frames a second of each way to lift, of one clip of ``SPEED_SECONDS``, after a warm-up."""
    count = int(SPEED_SECONDS * model.facts.fps)
    sample = np.array(model.facts.samples[0])
    keypoints = np.concatenate([sample] * (count // len(sample) + 1))[:count]
    found = {}
    for system, lift in lifters.items():
        lift(keypoints)
        start = time.perf_counter()
        lift(keypoints)
        found[system] = count / (time.perf_counter() - start)
    return found


def _views(
    model: Lifter, clips: Sequence[tuple[str, np.ndarray, bool]], detector: Detector, views: int
) -> Iterator[Seen]:
    """The clips as each camera sees them: the cameras do not depend on the detector."""
    viewer = Viewer(model.facts.skeleton, CameraRange(), detector)
    if detector.coco_share and viewer.coco is None:
        return
    for name, positions, new in clips:
        for number in range(views):
            generator = torch.Generator().manual_seed(derive_seed("evaluate", name, number))
            keypoints, poses, _ = viewer.view(positions, generator)
            yield Seen(name, keypoints, poses, new)


def _lift_of(model: Lifter) -> Lift:
    return lambda keypoints: np.concatenate(list(model.lift(keypoints))).astype(np.float64)


def _mean_lift(model: Lifter) -> Lift:
    mean = np.array(model.facts.mean).reshape(-1, 3)
    return lambda keypoints: np.broadcast_to(mean - mean[:1], keypoints.shape)
