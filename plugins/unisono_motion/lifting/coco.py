"""COCO: the 17 keypoints of its persons, its two kinds of files, and which joints of a skeleton they tell.

Annotations are an object with ``images``, ``annotations`` and perhaps ``categories``, where the third number of a
keypoint is a flag: 0 not there, 1 hidden, 2 seen; they become the confidences 0, 0.5 and 1. Results are a list with
``image_id`` and ``keypoints``, where it is a confidence. One person per picture is read.

Shapes: t frames, j joints of the skeleton, k keypoints.
"""

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from unisono.errors import DataError
from unisono.files import shown

from unisono_motion.skeleton import Skeleton

_SIDED = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
KEYPOINTS = ("nose", *(f"{side}_{name}" for name in _SIDED for side in ("left", "right")))
FLAGS = {0: 0.0, 1: 0.5, 2: 1.0}

LIMBS = {
    "shoulder": ("upperarm", "arm", "shoulder"),
    "elbow": ("elbow", "lowerarm", "forearm"),
    "wrist": ("wrist", "hand"),
    "hip": ("upperleg", "upleg", "thigh", "hip"),
    "knee": ("knee", "lowerleg", "leg", "shin"),
    "ankle": ("ankle", "foot"),
}
"""Names of a keypoint's joint without its side, the surest first."""
MIDDLE = {"neck": ("left_shoulder", "right_shoulder"), "head": ("left_ear", "right_ear")}


@dataclass(frozen=True, eq=False)
class CocoJoints:
    """What COCO tells of a skeleton's joints.

    ``sources``: for each joint the keypoints whose mean it is, none where COCO does not tell. ``likewise``: the same
    in joints of the skeleton, where each of those keypoints is one.
    """

    sources: tuple[tuple[int, ...], ...]
    likewise: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, skeleton: Skeleton) -> "CocoJoints | None":
        """Return it for a skeleton, by the names of its joints; None unless all shoulders, … , ankles have one."""
        sides = _sides(skeleton)
        stems = [_stem(name) for name in skeleton.names]
        found: dict[str, int] = {}
        for keypoint, names in LIMBS.items():
            for side in ("left", "right"):
                for name in names:
                    joints = [j for j, stem in enumerate(stems) if stem == name and sides[j] == side]
                    if joints:
                        found[f"{side}_{keypoint}"] = joints[0]
                        break
                else:
                    return None
        told = {joint: (keypoint,) for keypoint, joint in found.items()}
        told |= {j: MIDDLE[stem] for j, stem in enumerate(stems) if stem in MIDDLE and not sides[j]}
        told[0] = ("left_hip", "right_hip")
        sources, likewise = [], []
        for joint in range(len(skeleton)):
            names = told.get(joint, ())
            sources.append(tuple(KEYPOINTS.index(name) for name in names))
            likewise.append(tuple(found[name] for name in names) if all(n in found for n in names) else (joint,))
        return cls(tuple(sources), tuple(likewise))

    @property
    def known(self) -> Bool[np.ndarray, " j"]:
        """Which joints COCO tells."""
        return np.array([bool(keypoints) for keypoints in self.sources])

    def imitate(self, seen: Float[np.ndarray, "t j 2"]) -> Float[np.ndarray, "t j 2"]:
        """Return joints where COCO's keypoints would have them: hips and neck in the middle of two others."""
        made = np.array(seen)
        for joint, others in enumerate(self.likewise):
            if others:
                made[:, joint] = seen[:, list(others)].mean(1)
        return made

    def read(self, values: Float[np.ndarray, "t k 3"]) -> Float[np.ndarray, "t j 3"]:
        """Return joints from keypoints: their mean, and the lowest of their confidences; 0 where COCO does not tell."""
        made = np.zeros((len(values), len(self.sources), 3))
        for joint, keypoints in enumerate(self.sources):
            if keypoints:
                own = values[:, list(keypoints)]
                made[:, joint, :2] = own[..., :2].mean(1)
                made[:, joint, 2] = own[..., 2].min(1)
        return made


def read_annotations(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Return ``joints``, ``keypoints`` [t, k, 3], ``width`` and ``height`` of a file of annotations."""
    images = values.get("images")
    if (
        not isinstance(images, list)
        or not images
        or not all(isinstance(i, dict) and type(i.get("id")) is int for i in images)
    ):
        raise _fault(path, "images", "has no list of images with numbers as ids: give COCO's annotations whole")
    known = {image["id"] for image in images}
    if len(known) < len(images):
        raise _fault(path, "images", "has two images of one id: rename one", "conflict")
    sizes = {(image.get("width"), image.get("height")) for image in images}
    if len(sizes) > 1:
        raise _fault(path, "images", "has pictures of several sizes: give those of one camera", "conflict")
    names = KEYPOINTS
    for category in values.get("categories") or []:
        if isinstance(category, dict) and category.get("keypoints"):
            names = tuple(map(str, category["keypoints"]))
            break
    rows = _rows(path, values.get("annotations"), len(names))
    foreign = [image for image in rows if image not in known]
    if foreign:
        raise _fault(path, "annotations", f"names the picture {foreign[0]!r}, which is not among its images")
    table = np.zeros((len(images), len(names), 3))
    for frame, image in enumerate(sorted(known)):
        if image in rows:
            table[frame] = rows[image]
    odd = table[..., 2][~np.isin(table[..., 2], list(FLAGS))]
    if odd.size:
        raise _fault(path, "keypoints", f"has the flag {odd[0]:g}, annotations have 0, 1 and 2", "range", odd[0])
    table[..., 2] /= 2
    ((width, height),) = sizes
    return {"joints": names, "keypoints": table, "width": width, "height": height}


def read_results(path: Path, values: list[Any]) -> dict[str, Any]:
    """Return ``joints`` and ``keypoints`` [t, k, 3] of a file of results."""
    rows = _rows(path, values, len(KEYPOINTS))
    images = sorted(rows)
    for one, other in pairwise(images):
        if other != one + 1:
            raise _fault(
                path,
                "image_id",
                f"has pictures {one} and {other} and none between: give each, with confidences 0 where nobody is",
                "missing",
                one + 1,
            )
    return {"joints": KEYPOINTS, "keypoints": np.stack([rows[image] for image in images])}


def _rows(path: Path, found: Any, count: int) -> dict[int, np.ndarray]:
    """The keypoints [k, 3] of each picture by its id."""
    if not isinstance(found, list) or not found:
        raise _fault(path, "annotations", "has no annotations: nobody is in it", "empty")
    rows: dict[int, np.ndarray] = {}
    for row in found:
        image = row.get("image_id") if isinstance(row, dict) else None
        if not isinstance(image, int) or isinstance(image, bool):
            raise _fault(path, "image_id", f"has an annotation whose image_id is {image!r:.40}: numbers are read")
        if image in rows:
            raise _fault(path, "image_id", f"has two persons in picture {image}: keep one", "conflict", image)
        try:
            numbers = np.array(row.get("keypoints"), np.float64)
        except (TypeError, ValueError):
            numbers = np.zeros(0)
        if numbers.size != 3 * count or numbers.ndim > 2:
            raise _fault(
                path, "keypoints", f"has {numbers.size} numbers in picture {image}, {3 * count} are needed", "shape"
            )
        rows[image] = numbers.reshape(count, 3)
    return rows


def _fault(path: Path, at: str, what: str, code: Any = "format", value: Any = None) -> DataError:
    return DataError(f"{shown(path)}: {what}", code=code, path=at, value=value)


def _sides(skeleton: Skeleton) -> list[str]:
    """``left``, ``right`` or nothing for each joint, by the limb that it is on."""
    tops = {j: side for pair in skeleton.pairs for j, side in zip(pair, ("left", "right"), strict=True)}
    sides: list[str] = []
    for joint, parent in enumerate(skeleton.parents):
        sides.append(tops.get(joint) or (sides[parent] if parent >= 0 else ""))
    return sides


def _stem(name: str) -> str:
    """A joint's name in small letters, without its side and a prefix."""
    plain = re.sub(r"left|right", "", name.rpartition(":")[2], flags=re.IGNORECASE)
    plain = re.sub(r"(?<![A-Za-z])[LRlr](?![a-z])|(?<=[a-z])[LR]$", "", plain)
    return re.sub(r"[^a-z]", "", plain.lower())
