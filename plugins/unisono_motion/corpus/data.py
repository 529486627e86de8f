"""ClipData: clips as features with captions; audited, fitted to one skeleton, mirrored, cut.

Shapes: t frames, d features.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from unisono.data import (
    Audit,
    DataModule,
    Drop,
    collate_items,
    derive_seed,
    hold_out,
    mirrored,
    prepare_features,
    read_captions,
    words_of,
)
from unisono.errors import DataError
from unisono.files import Names, is_file, is_folder, shown, walk

from unisono_motion.corpus import humanml3d
from unisono_motion.corpus.captions import captions_of_name
from unisono_motion.corpus.facts import MotionFacts
from unisono_motion.corpus.features import MotionSpec
from unisono_motion.corpus.fit import Mirror, fit, mean_rotations
from unisono_motion.skeleton import Motion, Skeleton, matrix_to_six, read_bvh, six_to_matrix

MIN_HEIGHT, MAX_HEIGHT = 0.3, 4.0
BVH_UNIT = 0.01
MIRRORED = "~mirrored"


@dataclass(frozen=True)
class Clip:
    """A clip that is ready: features [t, d] (in memory or mapped), and what it shows, in any phrasings."""

    id: str
    features: np.ndarray
    captions: tuple[str, ...] = ()


class ClipSet:
    """Items ``{"features" [t, d], "length", "caption", "label"}``; with ``crop_frames``, a random stretch of
    that length (all of a shorter clip). Without ``random``, the first caption and whole clips. Clips of which the
    same is said have the same ``label``, a number."""

    def __init__(self, clips: list[Clip], crop_frames: int | None, random: bool):
        self.clips = clips
        self.crop_frames = crop_frames if random else None
        self.random = random

    def __len__(self) -> int:
        return len(self.clips)

    def size(self, index: int) -> int:
        frames = len(self.clips[index].features)
        return frames if self.crop_frames is None else min(frames, self.crop_frames)

    def item(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        clip = self.clips[index]
        size = self.size(index)
        start, which = 0, 0
        if self.random:
            start = int(torch.randint(0, len(clip.features) - size + 1, (), generator=generator))
            which = int(torch.randint(0, max(len(clip.captions), 1), (), generator=generator))
        features = torch.from_numpy(np.array(clip.features[start : start + size], dtype=np.float32))
        caption = clip.captions[which] if clip.captions else ""
        label = derive_seed("label", *(clip.captions or (clip.id,)))
        return {"features": features, "length": size, "caption": caption, "label": label}


class MotionData(DataModule):
    """The base of data for motion models: a set of clips, their statistics, and the facts about them.

    ``crop_frames`` cuts training items to a random stretch; None leaves clips whole.
    """

    def __init__(self, crop_frames: int | None, batch_size: int, num_workers: int):
        super().__init__(batch_size, num_workers)
        if crop_frames is not None and crop_frames < 2:
            raise DataError(
                f"crop_frames={crop_frames} must be at least 2, or null for whole clips",
                code="range",
                path="data.crop_frames",
                value=crop_frames,
            )
        self.crop_frames = crop_frames
        self.spec: MotionSpec

    def settle(self, audit: Audit, train: list[Clip], val: list[Clip]) -> Audit:
        """Fill the sets from clips, measure what is trained on, and return the audit."""
        count, total, square = 0, 0.0, 0.0
        for clip in train:
            values = clip.features.astype(np.float64)
            count += len(values)
            total = total + values.sum(0)
            square = square + np.square(values).sum(0)
        mean = np.asarray(total) / count
        std = np.sqrt(np.maximum(np.asarray(square) / count - mean**2, 0))
        captions = [clip.captions[0] for clip in val or train if clip.captions]
        words = {word for clip in train for caption in clip.captions for word in words_of(caption)}
        self.facts = MotionFacts(
            motion=self.spec,
            mean=tuple(mean.round(8).tolist()),
            std=tuple(std.round(8).tolist()),
            max_frames=max(len(clip.features) for clip in train),
            words=tuple(sorted(words)),
            sample_captions=tuple(dict.fromkeys(captions))[:8],
            held_out=tuple(clip.id for clip in val),
            hours=audit.amount / 3600,
        )
        self.train_set = ClipSet(train, self.crop_frames, random=True)
        self.val_set = ClipSet(val, None, random=False) if val else None
        return self.finish(audit)

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return collate_items(items)


@dataclass(frozen=True)
class Listed:
    """A BVH file that was found, and what is said of it."""

    id: str
    path: Path
    captions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """Which clips are taken, and what they are brought to.

    fps: frames a second to bring BVH files to; null keeps the first file's. Ready features keep their own.
    skeleton: a BVH file whose skeleton all clips are brought to; null takes the first clip's.
    metres_per_unit: unit of length of the files, in metres; null means centimetres for BVH files and metres for
        features.
    min_seconds, max_seconds: shorter clips are dropped, longer ones too (null: none is too long).
    mirror: train on mirror images too, with left and right exchanged in captions. BVH only: HumanML3D ships its own.
    """

    fps: float | None = 30.0
    skeleton: str | None = None
    metres_per_unit: float | None = None
    min_seconds: float = 0.5
    max_seconds: float | None = None
    mirror: bool = True

    def __post_init__(self):
        if self.fps is not None and not 1 <= self.fps <= 240:
            raise DataError(
                f"data.clips.fps={self.fps} must be from 1 to 240, or null to keep the files' own",
                code="range",
                path="data.clips.fps",
                value=self.fps,
            )
        unit = self.metres_per_unit
        if unit is not None and not 0 < unit < math.inf:
            raise DataError(
                f"data.clips.metres_per_unit={unit} must be above 0, such as 0.01 for centimetres",
                code="range",
                path="data.clips.metres_per_unit",
                value=unit,
            )
        if not self.min_seconds >= 0 or (self.max_seconds is not None and not self.max_seconds > self.min_seconds):
            raise DataError(
                f"data.clips.min_seconds={self.min_seconds} must be at least 0 and "
                f"below max_seconds={self.max_seconds}",
                code="range",
                path="data.clips.min_seconds",
                value=self.min_seconds,
            )


class ClipData(MotionData):
    """Motion clips with captions, from BVH files or from features in HumanML3D's layout.

    Captions come from the table or the text files; those of BVH files named as in the Bandai-Namco set come from
    their names; other clips have none.

    Args:
        root: a folder with BVH files (any depth), a folder in HumanML3D's or KIT-ML's layout, or a table with a
            line ``file|caption`` per caption, paths relative to it.
        clips: which clips are taken, and what they are brought to.
        crop_frames: length of a training item, cut at random; null leaves clips whole.
        batch_size: clips per step over all processes.
        val_size: clips held out, chosen by their ids alone. Files ``train.txt`` and ``val.txt`` of the layout
            come first.
        num_processes: preparing processes; null takes the cores.
        num_workers: loading processes per rank.
    """

    flat: ClassVar[dict[str, str]] = {field.name: f"clips.{field.name}" for field in fields(ClipOptions)}

    def __init__(
        self,
        root: str,
        *,
        clips: ClipOptions = ClipOptions(),
        crop_frames: int | None = 64,
        batch_size: int = 32,
        val_size: int = 32,
        num_processes: int | None = None,
        num_workers: int = 0,
    ):
        super().__init__(crop_frames, batch_size, num_workers)
        self.root = root
        self.clips = clips
        self.val_size = val_size
        self.num_processes = num_processes

    def prepare(self, progress: bool = True) -> Audit:
        root = Path(self.root).expanduser()
        if humanml3d.is_layout(root):
            return self._prepare_features(root)
        return self._prepare_captures(root, progress)

    # ---- BVH -----------------------------------------------------------------------------------

    def _prepare_captures(self, root: Path, progress: bool) -> Audit:
        audit = Audit("clips")
        listed = _find_clips(root, audit)
        unit = BVH_UNIT if self.clips.metres_per_unit is None else self.clips.metres_per_unit
        results = prepare_features(
            listed,
            partial(read_clip, metres_per_unit=unit),
            f"bvh-2 {unit:g}",
            file=lambda clip: clip.path,
            num_processes=self.num_processes,
            progress=progress,
            description="reading clips",
            note=audit.note,
        )
        captures: list[tuple[Listed, Motion]] = []
        for clip, result in zip(listed, results, strict=True):
            if isinstance(result, Drop):
                audit.drop(clip.id, result.reason, result.detail)
            else:
                captures.append((clip, _restore(result.features.load, result.features.facts)))
        if not captures:
            raise DataError(
                f"{self.root}: no usable clip; dropped: {audit.reasons}; first: {audit.dropped[0]}",
                code="empty",
                path="data.root",
                value=str(self.root),
            )
        skeleton = captures[0][1].skeleton
        if self.clips.skeleton is not None:
            skeleton = read_bvh(self.clips.skeleton, unit).skeleton
        if not MIN_HEIGHT <= skeleton.height <= MAX_HEIGHT:
            raise DataError(
                f"{self.clips.skeleton or captures[0][0].path}: the skeleton is {skeleton.height:.3g} m tall, expected "
                f"{MIN_HEIGHT:g} to {MAX_HEIGHT:g} m; set data.clips.metres_per_unit (now {unit:g})",
                code="range",
                path="data.clips.metres_per_unit",
                value=unit,
            )
        self.spec = MotionSpec(skeleton, captures[0][1].fps if self.clips.fps is None else self.clips.fps)
        fitted: dict[str, tuple[Listed, Motion]] = {}
        for clip, motion in captures:
            try:
                self._judge(motion.seconds)
                fitted[clip.id] = clip, fit(motion, self.spec)
            except Drop as drop:
                audit.drop(clip.id, drop.reason, drop.detail)
                continue
            audit.keep(clip.id, motion.seconds, "seconds")
        if not fitted:
            raise DataError(
                f"{self.root}: no usable clip; dropped: {audit.reasons}; first: {audit.dropped[0]}",
                code="empty",
                path="data.root",
                value=str(self.root),
            )
        held = hold_out(dict.fromkeys(fitted, 1), self.val_size)
        train, val = ([entry for name, entry in fitted.items() if (name in held) == part] for part in (False, True))
        ready = [_clip(*entry, self.spec) for entry in train]
        if self.clips.mirror:
            mirror = Mirror.learn(skeleton, mean_rotations([motion for _, motion in train], self.spec))
            for clip, motion in train:
                captions = tuple(mirrored(text) for text in clip.captions)
                ready.append(_clip(replace(clip, id=clip.id + MIRRORED, captions=captions), mirror(motion), self.spec))
        without = sum(not clip.captions for clip, _ in fitted.values())
        if without:
            audit.note(f"{without} of {len(fitted)} clips have no caption")
        return self.settle(audit, ready, [_clip(*entry, self.spec) for entry in val])

    # ---- features that are made already --------------------------------------------------------

    def _prepare_features(self, root: Path) -> Audit:
        audit = Audit("clips")
        loaded: dict[str, tuple[np.ndarray, tuple[humanml3d.Caption, ...]]] = {}
        width = None
        for source in humanml3d.list_sources(root, audit):
            try:
                features = humanml3d.load(source)
                width = width or features.shape[1]
                if features.shape[1] != width:
                    raise Drop("other skeleton", f"{features.shape[1]} numbers a frame, the first clip has {width}")
                if len(features) < 2:
                    raise Drop("one frame", "a motion needs at least 2 frames")
                seconds = len(features) / humanml3d.LAYOUTS[width][1]
                self._judge(seconds)
                loaded[source.id] = features, humanml3d.read_texts(source, seconds, audit)
            except Drop as drop:
                audit.drop(source.id, drop.reason, drop.detail)
                continue
            audit.keep(source.id, seconds, "seconds")
        if not loaded:
            raise DataError(
                f"{self.root}: no usable clip; dropped: {audit.reasons}; first: {audit.dropped[0]}",
                code="empty",
                path="data.root",
                value=str(self.root),
            )
        self.spec = humanml3d.spec_of([features for features, _ in loaded.values()])
        unit = 1.0 if self.clips.metres_per_unit is None else self.clips.metres_per_unit
        height = self.spec.skeleton.height * unit
        if not MIN_HEIGHT <= height <= MAX_HEIGHT:
            raise DataError(
                f"{self.root}: the skeleton is {height:.3g} m tall, expected {MIN_HEIGHT:g} to {MAX_HEIGHT:g} m; "
                f"set data.clips.metres_per_unit (now {unit:g})",
                code="range",
                path="data.clips.metres_per_unit",
                value=unit,
            )
        if unit != 1.0:
            self.spec = replace(self.spec, skeleton=_scaled(self.spec.skeleton, unit))
            for name, (features, captions) in loaded.items():
                loaded[name] = _scaled_features(features, self.spec, unit), captions
        split = humanml3d.read_split(root, loaded, audit)
        if split is None:
            groups = {name: humanml3d.original(name, loaded) for name in loaded}
            held = hold_out(Counter(groups.values()), self.val_size)
            train, val = ([name for name in loaded if (groups[name] in held) == part] for part in (False, True))
        else:
            train, val = split.train, split.val
            unlisted = audit.kept - len(train) - len(val)
            if unlisted:
                audit.note(f"{unlisted} of {audit.kept} clips are in neither train.txt nor val.txt and sit out")
            if not train:
                raise DataError(
                    f"{root / 'train.txt'}: names none of the clips; mend it, or remove it",
                    code="empty",
                    path=root / "train.txt",
                )
        cut = partial(_stretches, spec=self.spec, judge=self._judge, audit=audit)
        ready = [[clip for name in side for clip in cut(name, *loaded[name])] for side in (train, val)]
        return self.settle(audit, *ready)

    def _judge(self, seconds: float) -> None:
        if seconds < self.clips.min_seconds:
            raise Drop("too short", f"{seconds:.2f} s of at least {self.clips.min_seconds:g} s")
        if self.clips.max_seconds is not None and seconds > self.clips.max_seconds:
            raise Drop("too long", f"{seconds:.1f} s of at most {self.clips.max_seconds:g} s")


def read_clip(clip: Listed, metres_per_unit: float) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a BVH file for the cache: rotations as six numbers, the root, and the skeleton among the facts."""
    capture = read_bvh(clip.path, metres_per_unit)
    if len(capture.root) < 2:
        raise Drop("one frame", "a motion needs at least 2 frames")
    tensors = {
        "rotations": torch.from_numpy(matrix_to_six(capture.rotations).astype(np.float32)),
        "root": torch.from_numpy(capture.root.astype(np.float32)),
    }
    return tensors, {"skeleton": capture.skeleton.to_dict(), "fps": capture.fps}


def _restore(load: Any, facts: dict[str, Any]) -> Motion:
    skeleton = Skeleton.from_dict(facts["skeleton"])
    rotations = six_to_matrix(load("rotations").double().numpy())
    positions = skeleton.positions(rotations, load("root").double().numpy())
    return Motion(positions, skeleton, facts["fps"], rotations)


def _find_clips(root: Path, audit: Audit) -> list[Listed]:
    if is_folder(root):
        found = walk(root, (".bvh",))
        found.tell(audit)
        if not found.files:
            raise DataError(
                f"{root}: holds no .bvh file and no new_joint_vecs folder; give a folder of BVH files, one in "
                "HumanML3D's layout, or a table of file|caption",
                code="empty",
                path=root,
            )
        listed: dict[str, Listed] = {}
        for file in found.files:
            if file.stem in listed:
                audit.drop(file.id, "same name", f"{listed[file.stem].path.name} has the same id")
                continue
            listed[file.stem] = Listed(file.stem, file.path, captions_of_name(file.path.stem))
        return list(listed.values())
    if not is_file(root):
        raise DataError(
            f"{shown(root)}: no such folder or file; check data.root", code="missing", path="data.root", value=str(root)
        )
    listed, beside = {}, Names(root.parent)
    for name, captions in read_captions(root, "clip", audit).items():
        path = beside.find(name)
        if path is None:
            raise DataError(
                f"{root}: {shown(name)!r} does not exist beside it; put it there, or remove its lines",
                code="missing",
                path=root,
                value=name,
            )
        if path.suffix.lower() != ".bvh":
            raise DataError(
                f"{root}: {shown(name)!r} is no .bvh file; tables list BVH files", code="format", path=root, value=name
            )
        id = Path(name).with_suffix("").as_posix()
        if id in listed:
            raise DataError(
                f"{root}: {shown(name)!r} and {listed[id].path.name!r} have the same id; rename one",
                code="exists",
                path=root,
                value=name,
            )
        listed[id] = Listed(id, path, captions)
    return list(listed.values())


def _clip(listed: Listed, motion: Motion, spec: MotionSpec) -> Clip:
    return Clip(listed.id, spec.encode(motion), listed.captions)


def _stretches(
    id: str,
    features: np.ndarray,
    captions: tuple[humanml3d.Caption, ...],
    spec: MotionSpec,
    judge: Callable[[float], None],
    audit: Audit,
) -> list[Clip]:
    """Return the clip with the captions that are about all of it, and each stretch with those about it alone."""
    whole = tuple(caption.text for caption in captions if caption.start == caption.stop == 0)
    clips = [Clip(id, features, whole)] if whole or not captions else []
    parts: dict[tuple[float, float], list[str]] = {}
    for caption in captions:
        if not caption.start == caption.stop == 0:
            parts.setdefault((caption.start, caption.stop), []).append(caption.text)
    for (start, stop), texts in parts.items():
        part = features[int(start * spec.fps) : int(stop * spec.fps)]
        name = f"{id}@{start:g}-{stop:g}"
        try:
            if len(part) < 2:
                raise Drop("one frame", "a stretch needs at least 2 frames")
            judge(len(part) / spec.fps)
        except Drop as drop:
            audit.drop(name, drop.reason, drop.detail)
            continue
        clips.append(Clip(name, part, tuple(texts)))
    return clips


def _scaled(skeleton: Skeleton, unit: float) -> Skeleton:
    return replace(skeleton, offsets=skeleton.offsets * unit, ends=skeleton.ends * unit)


def _scaled_features(features: np.ndarray, spec: MotionSpec, unit: float) -> np.ndarray:
    scale = np.ones(spec.dim)
    for name in ("velocity", "height", "places", "speeds"):
        scale[spec.slices[name]] = unit
    return (features * scale).astype(np.float32)
