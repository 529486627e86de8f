"""BVH: the text format of motion capture (Biovision hierarchy), read strictly and written plainly.

Why not a library: pybvh (0.9), the one that is well kept, refuses position channels below the root, which the
Bandai-Namco set and many exports of animation programmes have; the others have not been released for years or
read damaged files silently. The format itself is small.

Read: any channels in any order. What moves nothing is folded away: a root with a single child that has a
position of its own (a locator above the hips) is joined with it. Position channels of other joints replace
their offsets and must stand still. Lengths are in the file's unit, which the format does not state: centimetres
unless told.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float
from unisono.errors import DataError

from unisono_motion.skeleton.rotation import euler_to_matrix, matrix_to_euler
from unisono_motion.skeleton.skeleton import Skeleton

ORDER = "ZXY"
MAX_STRETCH = 0.01
"""How far a joint may move on its parent, in metres, before the file is refused."""


@dataclass
class _Joint:
    name: str
    parent: int
    offset: list[float] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    end: list[float] | None = None


@dataclass(frozen=True)
class Capture:
    """What a BVH file holds: ``rotations`` [t, j, 3, 3] relative to the parent, ``root`` [t, 3] in metres."""

    skeleton: Skeleton
    rotations: np.ndarray
    root: np.ndarray
    fps: float


def read_bvh(path: str | Path, metres_per_unit: float = 0.01) -> Capture:
    """Read a BVH file, or raise ``DataError`` that says in one sentence what is wrong with it, and where."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; give the path of a BVH file") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not text; give a BVH file") from None
    if not metres_per_unit > 0:
        raise DataError(f"metres_per_unit={metres_per_unit} must be above 0; 0.01 for centimetres")
    lines = text.split("\n")
    joints, after = _hierarchy(path, lines)
    values, fps = _frames(path, lines, after, sum(len(joint.channels) for joint in joints))
    return _assemble(path, joints, values, fps, metres_per_unit)


def _hierarchy(path: Path, lines: list[str]) -> tuple[list[_Joint], int]:
    """Parse up to the line MOTION; return the joints and the index of the line after it."""
    words = _words(lines)
    last = max((number for number, line in enumerate(lines, 1) if line.strip()), default=0)

    def fault(number: int, what: str, otherwise: str) -> DataError:
        """What is odd on the last line is so because the rest is missing."""
        return DataError(f"{path}, line {number}: {what}; {'the file is truncated' if number == last else otherwise}")

    def expect(*wanted: str) -> tuple[int, str]:
        number, word = next(words, (0, ""))
        if not word:
            raise DataError(f"{path}: ends within the hierarchy, before {' or '.join(wanted)}; the file is truncated")
        if wanted and word not in wanted:
            raise fault(number, f"{word!r} where {' or '.join(wanted)} was expected", "not a BVH file")
        return number, word

    def number_() -> float:
        number, word = expect()
        try:
            value = float(word)
        except ValueError:
            raise fault(number, f"{word!r} is not a number", "mend the hierarchy") from None
        if not math.isfinite(value):
            raise DataError(f"{path}, line {number}: {word!r} is not finite; mend the hierarchy")
        return value

    expect("HIERARCHY")
    joints: list[_Joint] = []
    stack: list[int] = []
    while True:
        number, word = expect("ROOT", "JOINT", "End", "}", "MOTION")
        if word == "MOTION":
            if stack or not joints:
                raise DataError(f"{path}, line {number}: MOTION comes before the hierarchy is closed; mend the braces")
            return joints, number
        if word == "}":
            if not stack:
                raise DataError(f"{path}, line {number}: a brace closes nothing; mend the braces")
            stack.pop()
            continue
        if (word == "ROOT") != (not joints) or (joints and not stack):
            raise DataError(f"{path}, line {number}: {word} outside the root; exactly one root is read")
        if word == "End":
            expect("Site")
            expect("{")
            expect("OFFSET")
            joints[stack[-1]].end = [number_() for _ in range(3)]
            expect("}")
            continue
        name = lines[number - 1].split(word, 1)[1].strip().removesuffix("{").strip()
        for _ in name.split():
            next(words)
        joint = _Joint(name or f"joint{len(joints)}", stack[-1] if stack else -1)
        expect("{")
        expect("OFFSET")
        joint.offset = [number_() for _ in range(3)]
        expect("CHANNELS")
        count = int(number_())
        for _ in range(count):
            where, channel = expect()
            if not re.fullmatch("[XYZ](position|rotation)", channel):
                known = "channels are Xposition … Zposition and Xrotation … Zrotation"
                raise fault(where, f"channel {channel!r} is unknown", known)
            joint.channels.append(channel)
        stack.append(len(joints))
        joints.append(joint)


def _words(lines: list[str]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines, 1):
        for word in line.split():
            yield number, word


def _frames(path: Path, lines: list[str], after: int, num_channels: int) -> tuple[Float[np.ndarray, "t c"], float]:
    """Parse what stands below MOTION: the values of all channels, and the frames per second."""
    header = [line.strip() for line in lines[after : after + 2]]
    frames = re.fullmatch(r"Frames:\s*(\d+)", header[0]) if header else None
    period = re.fullmatch(r"Frame Time:\s*(\S+)", header[1]) if len(header) > 1 else None
    if frames is None or period is None:
        raise DataError(
            f"{path}, line {after + 1}: 'Frames: N' and 'Frame Time: SECONDS' must follow MOTION; "
            "the file is truncated or damaged"
        )
    try:
        seconds = float(period[1])
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise DataError(f"{path}, line {after + 2}: frame time {period[1]!r} must be a number of seconds above 0")
    rows = [(i, line) for i, line in enumerate(lines[after + 2 :], after + 3) if line.strip()]
    declared = int(frames[1])
    if len(rows) != declared:
        raise DataError(
            f"{path}: says {declared} frames and holds {len(rows)}; "
            + ("the file is truncated" if len(rows) < declared else "remove the surplus lines")
        )
    if declared == 0:
        raise DataError(f"{path}: holds no frame; export the motion again")
    try:
        values = np.array([line.split() for _, line in rows], dtype=np.float64)
    except ValueError:
        values = np.empty((0, 0))
    if values.shape != (declared, num_channels) or not np.isfinite(values).all():
        for number, line in rows:
            fields = line.split()
            if len(fields) != num_channels:
                raise DataError(
                    f"{path}, line {number}: {len(fields)} values for {num_channels} channels; the file is damaged"
                )
            for word in fields:
                try:
                    finite = math.isfinite(float(word))
                except ValueError:
                    finite = False
                if not finite:
                    raise DataError(f"{path}, line {number}: {word!r} is not a finite number; mend that frame")
    # A period is written with few digits: 0.0333333 means 30 a second.
    fps = 1 / seconds
    return values, round(fps) if abs(fps - round(fps)) < 1e-3 * fps else fps


def _assemble(path: Path, joints: list[_Joint], values: Float[np.ndarray, "t c"], fps: float, scale: float) -> Capture:
    num_frames, column = len(values), 0
    rotations = np.empty((num_frames, len(joints), 3, 3))
    places = np.empty((num_frames, len(joints), 3))
    own_place = []
    for index, joint in enumerate(joints):
        channels = {name: column + i for i, name in enumerate(joint.channels)}
        column += len(joint.channels)
        order = "".join(name[0] for name in joint.channels if name.endswith("rotation"))
        angles = [channels[f"{axis}rotation"] for axis in order]
        rotations[:, index] = euler_to_matrix(np.radians(values[:, angles]), order)
        places[:, index] = joint.offset
        moved = [name for name in joint.channels if name.endswith("position")]
        for name in moved:
            places[:, index, "XYZ".index(name[0])] = values[:, channels[name]]
        own_place.append(bool(moved))
    places *= scale
    names, parents = [joint.name for joint in joints], [joint.parent for joint in joints]
    ends = [joint.end or [0.0, 0.0, 0.0] for joint in joints]
    while len(joints) > 1 and parents.count(0) == 1 and own_place[1]:
        places[:, 1] = places[:, 0] + (rotations[:, 0] @ places[:, 1, :, None])[..., 0]
        rotations[:, 1] = rotations[:, 0] @ rotations[:, 1]
        rotations, places = rotations[:, 1:], places[:, 1:]
        joints, names, ends, own_place = joints[1:], names[1:], ends[1:], own_place[1:]
        parents = [parent - 1 for parent in parents[1:]]
    offsets = places.mean(0)
    offsets[0] = 0
    stretch = np.abs(places[:, 1:] - offsets[1:]).max(axis=(0, 2), initial=0.0)
    if len(stretch) and stretch.max() > MAX_STRETCH:
        worst = names[1 + int(stretch.argmax())]
        raise DataError(
            f"{path}: joint {worst!r} moves {stretch.max() * 100:.1f} cm on its parent; "
            f"bones keep their length (up to {MAX_STRETCH * 100:g} cm): bake it into the root's position"
        )
    try:
        skeleton = Skeleton(tuple(names), tuple(parents), offsets, np.array(ends) * scale)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return Capture(skeleton, rotations, places[:, 0], fps)


def format_bvh(
    skeleton: Skeleton,
    rotations: Float[np.ndarray, "t j 3 3"],
    root: Float[np.ndarray, "t 3"],
    fps: float,
    metres_per_unit: float = 0.01,
) -> str:
    """Return a BVH file's text: the root has a position, every joint rotations in the order Z, X, Y."""
    lines = ["HIERARCHY"]

    def numbers(values: np.ndarray) -> str:
        return " ".join(f"{value:.6f}" for value in values)

    def describe(joint: int, depth: int) -> None:
        tab = "\t" * depth
        kind = "JOINT" if joint else "ROOT"
        position = "" if joint else "Xposition Yposition Zposition "
        lines.append(f"{tab}{kind} {skeleton.names[joint]}")
        lines.append(f"{tab}{{")
        lines.append(f"{tab}\tOFFSET {numbers(skeleton.offsets[joint] / metres_per_unit if joint else np.zeros(3))}")
        rotation = " ".join(f"{axis}rotation" for axis in ORDER)
        lines.append(f"{tab}\tCHANNELS {3 if joint else 6} {position}{rotation}")
        for child in skeleton.children[joint]:
            describe(child, depth + 1)
        if not skeleton.children[joint]:
            end = numbers(skeleton.ends[joint] / metres_per_unit)
            lines.extend([f"{tab}\tEnd Site", f"{tab}\t{{", f"{tab}\t\tOFFSET {end}", f"{tab}\t}}"])
        lines.append(f"{tab}}}")

    describe(0, 0)
    walk = _depth_first(skeleton)
    angles = np.degrees(matrix_to_euler(rotations, ORDER))[:, walk].reshape(len(rotations), -1)
    table = np.concatenate([root / metres_per_unit, angles], axis=1)
    lines += ["MOTION", f"Frames: {len(table)}", f"Frame Time: {1 / fps:.8f}"]
    lines += [numbers(row) for row in table]
    return "\n".join(lines) + "\n"


def _depth_first(skeleton: Skeleton) -> list[int]:
    """The order in which a hierarchy names its joints, which is that of the channels."""
    walk, stack = [], [0]
    while stack:
        joint = stack.pop()
        walk.append(joint)
        stack.extend(reversed(skeleton.children[joint]))
    return walk
