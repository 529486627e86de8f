"""HumanML3D: the folder layout of that set and of KIT-ML: features that are made already, and their captions.

::

    root/new_joint_vecs/<id>.npy    float [t, 263] (22 joints) or [t, 251] (21 joints)
    root/texts/<id>.txt             a line per caption: caption#tokens#from#to, in seconds; 0#0 means all of it
    root/train.txt, val.txt         ids, one a line; without val.txt, clips are held out by data.val_size

Guo et al., "Generating Diverse and Natural 3D Human Motions From Text" (CVPR 2022). The features are used as they
are (``MotionSpec`` with ``tilt=False``), so that numbers stay comparable with published ones; ``Mean.npy`` and
``Std.npy`` are not needed. Joints and their tree are those of the data sets (the two whose contacts
are kept on each side are the ones called foot or toe, or ankle and foot of 22); bone lengths are measured on the
first clips, and bones at rest point along the axes.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from unisono.data import Audit, Drop
from unisono.errors import DataError
from unisono.files import Names, composed, is_file, is_folder, lone_surrogate, read_lines, shown, walk

from unisono_motion.corpus.features import MotionSpec
from unisono_motion.skeleton import Skeleton
from unisono_motion.skeleton.arrays import open_npy

_UP, _DOWN, _LEFT, _RIGHT, _AHEAD = (0, 1, 0), (0, -1, 0), (1, 0, 0), (-1, 0, 0), (0, 0, 1)
JOINTS_22 = (
    ("pelvis", -1, _UP),
    ("left_hip", 0, _LEFT),
    ("right_hip", 0, _RIGHT),
    ("spine1", 0, _UP),
    ("left_knee", 1, _DOWN),
    ("right_knee", 2, _DOWN),
    ("spine2", 3, _UP),
    ("left_ankle", 4, _DOWN),
    ("right_ankle", 5, _DOWN),
    ("spine3", 6, _UP),
    ("left_foot", 7, _AHEAD),
    ("right_foot", 8, _AHEAD),
    ("neck", 9, _UP),
    ("left_collar", 9, _LEFT),
    ("right_collar", 9, _RIGHT),
    ("head", 12, _UP),
    ("left_shoulder", 13, _LEFT),
    ("right_shoulder", 14, _RIGHT),
    ("left_elbow", 16, _LEFT),
    ("right_elbow", 17, _RIGHT),
    ("left_wrist", 18, _LEFT),
    ("right_wrist", 19, _RIGHT),
)
JOINTS_21 = (
    ("pelvis", -1, _UP),
    ("spine", 0, _UP),
    ("thorax", 1, _UP),
    ("neck", 2, _UP),
    ("head", 3, _UP),
    ("right_shoulder", 3, _RIGHT),
    ("right_elbow", 5, _RIGHT),
    ("right_wrist", 6, _RIGHT),
    ("left_shoulder", 3, _LEFT),
    ("left_elbow", 8, _LEFT),
    ("left_wrist", 9, _LEFT),
    ("right_hip", 0, _RIGHT),
    ("right_knee", 11, _DOWN),
    ("right_heel", 12, _DOWN),
    ("right_midfoot", 13, _AHEAD),
    ("right_toe", 14, _AHEAD),
    ("left_hip", 0, _LEFT),
    ("left_knee", 16, _DOWN),
    ("left_heel", 17, _DOWN),
    ("left_midfoot", 18, _AHEAD),
    ("left_toe", 19, _AHEAD),
)
LAYOUTS = {263: (JOINTS_22, 20.0), 251: (JOINTS_21, 12.5)}
MEASURED_CLIPS = 16
MAX_FEATURE = 1e4


@dataclass(frozen=True)
class Caption:
    """What a stretch of a clip shows, in seconds; 0 to 0 is all of it."""

    text: str
    start: float = 0.0
    stop: float = 0.0


@dataclass(frozen=True)
class Source:
    """One clip of the layout: its features, and the file of its captions."""

    id: str
    path: Path
    texts: Path


@dataclass(frozen=True)
class Split:
    """The clips that ``train.txt`` and ``val.txt`` name, in their order, each once."""

    train: list[str]
    val: list[str]


def is_layout(root: Path) -> bool:
    """Whether a folder is laid out so."""
    return is_folder(root / "new_joint_vecs")


def list_sources(root: Path, audit: Audit) -> list[Source]:
    """Return every clip, in the order of the ids; what is no file that can be read goes to the audit."""
    found = walk(root / "new_joint_vecs", (".npy",))
    found.tell(audit)
    if not found.files:
        raise DataError(
            f"{root / 'new_joint_vecs'}: holds no .npy file; put the motions there",
            code="empty",
            path=root / "new_joint_vecs",
        )
    texts = Names(root / "texts")
    sources = {}
    for file in found.files:
        if file.stem in sources:
            audit.drop(file.id, "same name", f"{sources[file.stem].path.name} has the same id")
            continue
        name = f"{file.stem}.txt"
        sources[file.stem] = Source(file.stem, file.path, texts.find(name) or root / "texts" / name)
    return list(sources.values())


def read_split(root: Path, known: Collection[str], audit: Audit) -> Split | None:
    """Return the split that the files state, of the ids that are known; None where one of the files is missing.

    An id in both, or with its mirror image in the other, is dropped from both, so that nothing is validated on what
    was trained on.
    """
    if not all(is_file(root / f"{part}.txt") for part in ("train", "val")):
        return None
    parts = []
    for part in ("train", "val"):
        listed = dict.fromkeys(composed(line.strip()) for line in read_lines(root / f"{part}.txt") if line.strip())
        strange = [name for name in listed if name not in known]
        if strange:
            audit.note(f"{len(strange)} ids of {part}.txt have no clip that is used, such as {shown(strange[0])!r}")
        parts.append([name for name in listed if name in known])
    sides = [{original(name, known) for name in part} for part in parts]
    both = sides[0] & sides[1]
    for name in sorted({name for part in parts for name in part if original(name, known) in both}):
        audit.drop(name, "in both parts", "train.txt and val.txt name it, or its mirror image: remove it from one")
    train, val = ([name for name in part if original(name, known) not in both] for part in parts)
    return Split(train, val)


def original(name: str, known: Collection[str]) -> str:
    """Return the id of which a clip is the mirror image (``M000001`` of ``000001``), or its own."""
    whole = name.removeprefix("M")
    return whole if whole in known else name


def load(source: Source) -> np.ndarray:
    """Return a clip's features, mapped from disk; raises ``Drop`` where they are not what the layout says."""
    try:
        features = open_npy(source.path)
    except DataError as error:
        raise Drop("unreadable", str(error)) from None
    if features.ndim != 2 or features.shape[1] not in LAYOUTS:
        raise Drop("wrong shape", f"{features.shape}, expected [frames, 263] or [frames, 251]")
    if features.dtype.kind != "f":
        raise Drop("wrong type", f"{features.dtype}, expected floating point")
    if not np.isfinite(features).all():
        raise Drop("not finite", "NaN or infinity among the features")
    if len(features) and (most := float(np.abs(features).max())) > MAX_FEATURE:
        raise Drop("too large", f"{most:.3g} among the features, which are metres and parts of rotations")
    return features


def spec_of(clips: list[np.ndarray]) -> MotionSpec:
    """Return what the features mean, bone lengths measured on the first clips."""
    joints, fps = LAYOUTS[clips[0].shape[1]]
    names, parents, directions = zip(*joints, strict=True)
    count = len(joints)
    rest = np.array(directions, dtype=np.float64)
    spec = MotionSpec(Skeleton(names, parents, rest, np.zeros((count, 3))), fps, tilt=False)
    places = np.concatenate([clip[:, spec.slices["places"]] for clip in clips[:MEASURED_CLIPS]])
    height = np.concatenate([clip[:, spec.slices["height"]] for clip in clips[:MEASURED_CLIPS]])
    root = np.concatenate([np.zeros_like(height), height, np.zeros_like(height)], axis=1)[:, None]
    positions = np.concatenate([root, places.reshape(len(places), -1, 3)], axis=1)
    lengths = [0.0]
    for joint in range(1, count):
        bones = np.linalg.norm(positions[:, joint] - positions[:, parents[joint]], axis=-1)
        lengths.append(float(np.median(bones)))
    offsets = rest * np.array(lengths)[:, None]
    return MotionSpec(Skeleton(names, parents, offsets, np.zeros((count, 3))), fps, tilt=False)


def read_texts(source: Source, seconds: float, audit: Audit) -> tuple[Caption, ...]:
    """Return a clip's captions, none where there is no file; a line that cannot be used is one row of the audit.

    Raises ``Drop`` where the file is no text. A stretch that ends after the clip is cut there, as in the published
    loader.
    """
    if not is_file(source.texts):
        return ()
    try:
        lines = read_lines(source.texts)
    except DataError as error:
        raise Drop("captions cannot be read", str(error)) from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            caption = _caption(line.strip())
            if not 0 <= caption.start <= caption.stop < math.inf or caption.start > seconds:
                said = f"{caption.start:g} to {caption.stop:g} s of {seconds:.2f} s"
                raise ValueError(f"is about {said}; give a stretch of the clip, or 0 and 0 for all of it")
        except ValueError as error:
            audit.drop(f"{source.id}, line {number} of its captions", "caption cannot be used", str(error))
            continue
        found.append(caption)
    return tuple(found)


def _caption(line: str) -> Caption:
    text, *rest = line.split("#")
    if rest and len(rest) != 3:
        raise ValueError(f"{len(rest) + 1} fields between '#', expected caption#tokens#from#to; mend the line")
    try:
        start, stop = (float(rest[1]), float(rest[2])) if rest else (0.0, 0.0)
    except ValueError:
        raise ValueError(f"{rest[1]!r:.20} to {rest[2]!r:.20} are no seconds; mend the line") from None
    if not text.strip():
        raise ValueError("the caption is empty; mend the line")
    if lone_surrogate(text):
        raise ValueError("the caption holds half a character; mend the line")
    if math.isnan(start) or math.isnan(stop):  # the published loader takes these as the whole clip
        start = stop = 0.0
    return Caption(composed(text.strip()), start, stop)
