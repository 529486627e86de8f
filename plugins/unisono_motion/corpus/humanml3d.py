"""The folder layout of HumanML3D and KIT-ML: features that are made already, and their captions.

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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from unisono.data import Drop
from unisono.errors import DataError

from unisono_motion.corpus.features import MotionSpec
from unisono_motion.skeleton import Skeleton

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


@dataclass(frozen=True)
class Source:
    """One clip of the layout: its file and its captions with the stretch of time that each is about, in seconds."""

    id: str
    path: Path
    captions: tuple[tuple[str, float, float], ...]


def is_layout(root: Path) -> bool:
    """Whether a folder is laid out so."""
    return (root / "new_joint_vecs").is_dir()


def list_sources(root: Path) -> tuple[list[Source], dict[str, list[str]]]:
    """Return every clip, and the ids of each split file that there is (train, val, test)."""
    files = sorted((root / "new_joint_vecs").glob("*.npy"))
    if not files:
        raise DataError(f"{root / 'new_joint_vecs'}: holds no .npy file; put the motions there")
    sources = [Source(path.stem, path, _captions(root / "texts" / f"{path.stem}.txt")) for path in files]
    splits = {}
    for name in ("train", "val", "test"):
        listed = root / f"{name}.txt"
        if listed.is_file():
            splits[name] = listed.read_text(encoding="utf-8").split()
    return sources, splits


def load(source: Source) -> np.ndarray:
    """Return a clip's features, mapped from disk; raises ``Drop`` where they are not what the layout says."""
    try:
        features = np.load(source.path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise Drop("unreadable", f"{source.path}: {error}") from None
    if features.ndim != 2 or features.shape[1] not in LAYOUTS:
        raise Drop("wrong shape", f"{features.shape}, expected [frames, 263] or [frames, 251]")
    if features.dtype.kind != "f":
        raise Drop("wrong type", f"{features.dtype}, expected floating point")
    if not np.isfinite(features).all():
        raise Drop("not finite", "NaN or infinity among the features")
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


def _captions(path: Path) -> tuple[tuple[str, float, float], ...]:
    if not path.is_file():
        return ()
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        fields = line.strip().split("#")
        try:
            start, stop = (float(fields[2]), float(fields[3])) if len(fields) > 1 else (0.0, 0.0)
        except (IndexError, ValueError):
            raise DataError(f"{path}, line {number}: expected caption#tokens#from#to; mend the line") from None
        if math.isnan(start) or math.isnan(stop):  # the published loader takes these as the whole clip
            start = stop = 0.0
        found.append((fields[0].strip(), start, stop))
    return tuple(found)
