"""Keypoints: joints found in a film, read from JSON, NPZ and COCO's files, checked, and brought to a model's joints.

JSON is an object, NPZ an archive, with

    keypoints   [t, j, 2 or 3]: pixels to the right and down, and perhaps a confidence in [0, 1] (1 without)
    joints      the names of the j joints; those of COCO's 17 keypoints are read as such
    width, height   of the picture, in pixels
    fps         frames a second

of which all but the first may be given with the request. COCO's own files are JSON too: see ``coco``.

Shapes: t frames, j joints.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from unisono.errors import DataError
from unisono.files import read_json, shown, written_aside

from unisono_motion.lifting.coco import KEYPOINTS, CocoJoints, read_annotations, read_results
from unisono_motion.skeleton import Skeleton
from unisono_motion.skeleton.arrays import read_npz

OUTSIDE = 1.0
"""How far beside its picture a joint may be seen, in pictures."""
MAX_FPS = 1000.0
_LISTED = 3


@dataclass(frozen=True, eq=False)
class Keypoints:
    """Joints in a film: ``values`` [t, j, 3] are pixels to the right and down, and a confidence in [0, 1].

    A joint with confidence 0 was not seen; its place is not read. ``joints`` are the names of the j columns, None for a
    model's own in its order. ``width``, ``height`` (pixels) and ``fps`` are None where they are not known.
    """

    values: np.ndarray
    joints: tuple[str, ...] | None = None
    width: float | None = None
    height: float | None = None
    fps: float | None = None

    def __post_init__(self):
        _check(self.values)
        names = self.joints
        if names is not None:
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise DataError(
                    f"two joints are called {twice[0]!r}: rename one", code="conflict", path="joints", value=twice[0]
                )
            if len(names) != self.values.shape[1]:
                raise DataError(
                    f"{len(names)} names for {self.values.shape[1]} joints: give one each",
                    code="shape",
                    path="joints",
                    value=len(names),
                )
        for name, most in (("width", 1e6), ("height", 1e6), ("fps", MAX_FPS)):
            value = getattr(self, name)
            if value is not None and not 0 < value <= most:
                raise DataError(
                    f"{name}={value} must be above 0 and at most {most:g}", code="range", path=name, value=value
                )

    @classmethod
    def of(cls, values: Any, **rest: Any) -> "Keypoints":
        """Return keypoints of an array or lists, [t, j, 2] or with confidences [t, j, 3]; raises ``DataError``."""
        try:
            table = np.array(values, np.float64)
        except (TypeError, ValueError):
            raise DataError(
                "keypoints are not a table of numbers: give frames of joints of 2 or 3 numbers",
                code="type",
                path="keypoints",
            ) from None
        if table.ndim != 3 or table.shape[2] not in (2, 3):
            raise DataError(
                f"keypoints must be [frames, joints, 2 or 3], got {list(table.shape)}",
                code="shape",
                path="keypoints",
                value=table.shape,
            )
        if table.shape[2] == 2:
            table = np.concatenate([table, np.ones((*table.shape[:2], 1))], -1)
        return cls(table, **rest)

    @classmethod
    def read(cls, path: str | Path) -> "Keypoints":
        """Read a JSON or NPZ file, or one of COCO's; raises ``DataError``."""
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix == ".npz":
            parts: dict[str, Any] = {
                name: part.tolist() if name != "keypoints" else part for name, part in read_npz(path).items()
            }
        elif suffix == ".json":
            found = read_json(path, fix="give a JSON or NPZ file of keypoints")
            if isinstance(found, list):
                parts = read_results(path, found)
            elif isinstance(found, dict):
                parts = read_annotations(path, found) if "annotations" in found else found
            else:
                parts = {}
        else:
            raise DataError(
                f"{shown(path)}: keypoints are read from .json and .npz", code="unsupported", path=path, value=suffix
            )
        if "keypoints" not in parts:
            raise DataError(
                f"{shown(path)}: has no keypoints; known are keypoints, joints, width, height and fps",
                code="missing",
                path="keypoints",
            )
        names = parts.get("joints")
        if names is not None and not (isinstance(names, list | tuple) and all(isinstance(n, str) for n in names)):
            raise DataError(f"{shown(path)}: joints must be a list of names", code="type", path="joints")
        numbers = {name: _number(path, name, parts.get(name)) for name in ("width", "height", "fps")}
        return cls.of(parts["keypoints"], joints=None if names is None else tuple(names), **numbers)

    def write(self, path: str | Path) -> Path:
        """Write a JSON or NPZ file that ``read`` takes back; JSON to a hundredth of a pixel."""
        path = Path(path)
        known = {"width": self.width, "height": self.height, "fps": self.fps}
        rest = {name: value for name, value in known.items() if value is not None}
        if path.suffix.lower() not in (".json", ".npz"):
            raise DataError(
                f"{shown(path)}: keypoints are written as .json or .npz",
                code="unsupported",
                path=path,
                value=path.suffix,
            )
        with written_aside(path) as aside:
            if path.suffix.lower() == ".npz":
                parts: dict[str, Any] = rest if self.joints is None else {**rest, "joints": np.array(self.joints)}
                with aside.open("wb") as file:
                    np.savez_compressed(file, keypoints=self.values, **parts)
            else:
                names = {} if self.joints is None else {"joints": list(self.joints)}
                table = np.concatenate([self.values[..., :2].round(2), self.values[..., 2:].round(4)], -1)
                aside.write_text(json.dumps({**names, **rest, "keypoints": table.tolist()}), encoding="utf-8")
        return path

    def normalised(self, skeleton: Skeleton) -> Float[np.ndarray, "t j 3"]:
        """Return what a model of a skeleton reads: its joints in its order, places as in ``camera``, confidences.

        Joints that were not seen are (0, 0, 0). COCO's 17 keypoints become the joints that they tell. Raises
        ``DataError`` for missing, renamed and surplus joints, another number of them, a picture of unknown size, and
        places that are far outside of it.
        """
        values = self._columns(skeleton)
        for name in ("width", "height"):
            if getattr(self, name) is None:
                raise DataError(f"the picture's {name} is not known: give {name} in pixels", code="missing", path=name)
        assert self.width is not None and self.height is not None
        seen = values[..., 2] > 0
        for axis, (name, size) in enumerate((("width", self.width), ("height", self.height))):
            far = seen & ((values[..., axis] < -OUTSIDE * size) | (values[..., axis] > (1 + OUTSIDE) * size))
            if far.any():
                frame, joint = map(int, np.argwhere(far)[0])
                value = float(values[frame, joint, axis])
                raise DataError(
                    f"{skeleton.names[joint]!r} is at {value:g} in frame {frame}, far outside of a picture whose "
                    f"{name} is {size:g}: are these pixels of another picture, or no pixels?",
                    code="range",
                    path=name,
                    value=value,
                )
        places = (2 * values[..., :2] - [self.width, self.height]) / self.width
        return np.concatenate([places, values[..., 2:]], -1) * seen[..., None]

    def at_rate(self, fps: float) -> "Keypoints":
        """Return them at another frame rate, on straight lines; a joint is seen where both frames beside show it."""
        if self.fps is None or self.fps == fps or len(self.values) < 2:
            return replace(self, fps=fps)
        count = int((len(self.values) - 1) / self.fps * fps + 1e-6) + 1
        place = np.arange(count) * self.fps / fps
        low = np.minimum(place.astype(int), len(self.values) - 2)
        share = (place - low)[:, None, None]
        one, other = self.values[low], self.values[low + 1]
        made = one + (other - one) * share
        least = np.minimum(one[..., 2], other[..., 2])
        made[..., 2] = np.where(share[..., 0] == 0, one[..., 2], np.where(share[..., 0] == 1, other[..., 2], least))
        return replace(self, values=made, fps=fps)

    def _columns(self, skeleton: Skeleton) -> Float[np.ndarray, "t j 3"]:
        """The values of a skeleton's joints in its order."""
        if self.joints is None:
            if self.values.shape[1] != len(skeleton):
                raise DataError(
                    f"{self.values.shape[1]} joints without names, the model has {len(skeleton)} "
                    f"({_few(skeleton.names)}): give the names of yours as joints",
                    code="shape",
                    path="keypoints",
                    value=self.values.shape[1],
                )
            return self.values
        if set(self.joints) == set(KEYPOINTS):
            coco = CocoJoints.of(skeleton)
            if coco is None:
                raise DataError(
                    f"COCO's keypoints cannot be told from this model's joints ({_few(skeleton.names)}): give those",
                    code="unsupported",
                    path="joints",
                )
            return coco.read(self.values[:, [self.joints.index(name) for name in KEYPOINTS]])
        missing = [name for name in skeleton.names if name not in self.joints]
        surplus = [name for name in self.joints if name not in skeleton.names]
        if missing or surplus:
            wrong = [f"lack {_few(missing)}"] * bool(missing) + [f"have {_few(surplus)}"] * bool(surplus)
            raise DataError(
                f"the keypoints {' and '.join(wrong)}: the model's joints are {', '.join(skeleton.names)}; give those "
                "names, with confidence 0 where a joint was not looked for, or COCO's 17",
                code="missing" if missing else "unknown",
                path="joints",
                value=missing or surplus,
            )
        return self.values[:, [self.joints.index(name) for name in skeleton.names]]


def _check(values: Float[np.ndarray, "t j 3"]) -> None:
    """Raise ``DataError`` for values that are no numbers, for confidences outside [0, 1], and for none at all."""
    if not values.size:
        raise DataError("there are no keypoints: give at least one frame", code="empty", path="keypoints")
    bad = ~np.isfinite(values)
    if bad.any():
        frame, joint, _ = map(int, np.argwhere(bad)[0])
        raise DataError(
            f"frame {frame} has NaN or infinity at joint {joint}: a joint that was not seen has confidence 0",
            code="value",
            path="keypoints",
            value=[frame, joint],
        )
    odd = (values[..., 2] < 0) | (values[..., 2] > 1)
    if odd.any():
        frame, joint = map(int, np.argwhere(odd)[0])
        value = float(values[frame, joint, 2])
        raise DataError(
            f"frame {frame} has the confidence {value:g} at joint {joint}: it must be in [0, 1]",
            code="range",
            path="keypoints",
            value=value,
        )


def _number(path: Path, name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{shown(path)}: {name} is {value!r:.40}, not a number", code="type", path=name, value=value)
    return float(value)


def _few(names: Any) -> str:
    names = list(names)
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
