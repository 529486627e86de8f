"""BVH: the text format of motion capture (Biovision hierarchy), read strictly and written plainly.

Why not a library: pybvh (0.9), the one that is well kept, refuses position channels below the root, which the
Bandai-Namco set and many exports of animation programmes have; the others have not been released for years or
read damaged files silently. The format itself is small.

Read: any channels in any order, keywords in any case, blanks and line ends anywhere between words; only a frame's
values share one line. A root with a single child that has a position of its own (a locator above the hips) is joined
with that child, since it moves nothing else. Position channels of other joints replace their offsets and must stand
still. Lengths are in the file's unit, which the format does not state: centimetres unless told. Frame times become
rates by ``frame_rate``.
"""

import contextlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import numpy as np
from jaxtyping import Float
from unisono.errors import DataError
from unisono.files import read_text, shown

from unisono_motion.skeleton.rotation import euler_to_matrix, matrix_to_euler
from unisono_motion.skeleton.skeleton import MAX_JOINTS, Skeleton

ORDER = "ZXY"
MAX_BYTES = 2**29
MAX_NUMBER = 1e9
MAX_STRETCH = 0.01
"""How far a joint may move on its parent, in metres, before the file is refused."""

COMMON_RATES = (
    10,
    12,
    12.5,
    15,
    20,
    24,
    25,
    30,
    48,
    50,
    60,
    72,
    75,
    90,
    100,
    120,
    144,
    150,
    200,
    240,
    250,
    300,
    480,
    500,
)
NTSC_RATES = tuple(rate * 1000 / 1001 for rate in (24, 30, 48, 60, 120, 240))
SHORTEST, LONGEST = 1e-4, 10.0
"""Frame times that are read, in seconds."""

_FIX = "give the path of a BVH file"
_FOREIGN = "not a BVH file"
_HEADER = re.compile(r"\s*Frames\s*:?\s*(\S+)\s+Frame\s*Time\s*:?\s*(\S+)[^\S\n]*(?:\n|$)", re.IGNORECASE)
_WORD = re.compile(r"[{}]|[^\s{}]+")


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
    if not 0 < metres_per_unit < math.inf:
        raise DataError(
            f"metres_per_unit={metres_per_unit} must be above 0; 0.01 for centimetres",
            code="range",
            path="metres_per_unit",
            value=metres_per_unit,
        )
    text = read_text(path, DataError, MAX_BYTES, _FIX).replace("\r\n", "\n").replace("\r", "\n")
    joints, after = _Hierarchy(path, text).read()
    values, fps = _frames(path, text, after, sum(len(joint.channels) for joint in joints))
    return _assemble(path, joints, values, fps, metres_per_unit)


def frame_rate(period: str) -> float:
    """Return the frames per second that a printed frame time means.

    A frame time is printed with few digits, and 0.0333333 means 30 a second. A rate *fits* where its own frame time,
    rounded or cut to as many digits as are printed (zeros at the end are none), is the printed one, or equals it in
    float32. The first that fits is taken: a whole rate that is exact (0.008 is 125); else the nearest of the common
    rates (``COMMON_RATES``), of the NTSC rates (30000/1001 and its like, also where 29.97 was meant), of all
    whole rates. Where none fits, it is 1 / time.
    """
    seconds = float(period)
    last_digit = 10.0 ** int(Decimal(period).normalize().as_tuple().exponent)
    whole = round(1 / seconds)

    def fits(rate: float) -> bool:
        if rate != int(rate) and any(abs(seconds * round(rate, digits) - 1) < 1e-8 for digits in (2, 3)):
            return True
        over = 1 / rate - seconds
        return abs(over) <= max(last_digit / 2, 2**-24 * seconds) or 0 <= over < last_digit

    if whole and abs(seconds * whole - 1) < 1e-12:
        return whole
    for rates in (COMMON_RATES, NTSC_RATES, (whole,) if whole else ()):
        near = min(rates, key=lambda rate: abs(1 / rate - seconds), default=None)
        if near is not None and fits(near):
            return near
    return 1 / seconds


class _Hierarchy:
    """Reads the words of a file up to MOTION."""

    def __init__(self, path: Path, text: str):
        self.name, self.text = shown(path), text
        self.words = _words(text)
        self.last = text.rstrip().count("\n") + 1
        self.ahead: tuple[int, str, int] | None = None

    def read(self) -> tuple[list[_Joint], int]:
        """Return the joints and the place in the text after MOTION."""
        self.expect("HIERARCHY")
        joints: list[_Joint] = []
        stack: list[int] = []
        while True:
            line, word, after = self.expect("ROOT", "JOINT", "End", "}", "MOTION")
            if word == "MOTION":
                if stack or not joints:
                    raise self.fault(line, "MOTION comes before the hierarchy is closed", "mend the braces")
                return joints, after
            if word == "}":
                if not stack:
                    raise self.fault(line, "a brace closes nothing", "mend the braces")
                stack.pop()
                continue
            if (word == "ROOT") != (not joints) or (joints and not stack):
                raise self.fault(line, f"{word} outside the root", "exactly one root is read")
            if word == "End":
                self.expect("Site")
                self.named(line)
                self.expect("{")
                self.expect("OFFSET")
                joints[stack[-1]].end = [self.number() for _ in range(3)]
                self.expect("}")
                continue
            if len(joints) == MAX_JOINTS:
                raise self.fault(line, f"more than {MAX_JOINTS} joints", "give the motion of one body")
            joint = _Joint(self.named(line) or f"joint{len(joints)}", stack[-1] if stack else -1)
            self.expect("{")
            self.expect("OFFSET")
            joint.offset = [self.number() for _ in range(3)]
            joint.channels = self.channels()
            stack.append(len(joints))
            joints.append(joint)

    def channels(self) -> list[str]:
        line, _, _ = self.expect("CHANNELS")
        count = self.number()
        if count not in range(7):
            raise self.fault(line, f"{count:g} channels", "a joint has 0 to 6")
        channels: list[str] = []
        for _ in range(int(count)):
            where, word, _ = self.expect()
            channel = word[:1].upper() + word[1:].lower()
            if not re.fullmatch("[XYZ](position|rotation)", channel):
                known = "channels are Xposition … Zposition and Xrotation … Zrotation"
                raise self.fault(where, f"channel {word!r:.40} is unknown", known, truncated=True)
            if channel in channels:
                raise self.fault(where, f"channel {channel!r} stands twice at one joint", "mend the hierarchy")
            channels.append(channel)
        return channels

    def named(self, line: int) -> str:
        """Return the words up to the next brace on their line: a joint's name, which may have blanks."""
        words: list[str] = []
        while (found := self.peek()) is not None and found[1] not in "{}" and (found[0] == line or not words):
            line = found[0]
            words.append(found[1])
            self.ahead = None
        return " ".join(words)

    def number(self) -> float:
        line, word, _ = self.expect()
        value = _number(word)
        if math.isnan(value) and word.lower() != "nan":
            raise self.fault(line, f"{word!r:.40} is not a number", "mend the hierarchy", truncated=True)
        if not abs(value) <= MAX_NUMBER:
            raise self.fault(line, f"{word!r:.40} is not finite, or beyond {MAX_NUMBER:g}", "mend the hierarchy")
        return value

    def expect(self, *wanted: str) -> tuple[int, str, int]:
        """Return the next word's line, the word as wanted (in any case) and the place after it."""
        found = self.peek()
        self.ahead = None
        if found is None:
            before = f", before {' or '.join(wanted)}" if wanted else ""
            raise DataError(
                f"{self.name}: ends within the hierarchy{before}; the file is truncated", code="damaged", path=self.name
            )
        line, word, after = found
        if not wanted:
            return found
        for name in wanted:
            if word.upper() == name.upper():
                return line, name, after
        what = f"{word!r:.40} where {' or '.join(wanted)} was expected"
        raise self.fault(line, what, _FOREIGN, truncated=True)

    def peek(self) -> tuple[int, str, int] | None:
        if self.ahead is None:
            self.ahead = next(self.words, None)
        return self.ahead

    def fault(self, line: int, what: str, fix: str, truncated: bool = False) -> DataError:
        """Name a line; what is odd on the last line (``truncated``) is so because the rest is missing."""
        cut = truncated and line == self.last
        return DataError(
            f"{self.name}, line {line}: {what}; {'the file is truncated' if cut else fix}",
            code="format" if fix == _FOREIGN and not cut else "damaged",
            path=self.name,
            value=line,
        )


def _words(text: str) -> Iterator[tuple[int, str, int]]:
    """Yield each word and brace with its line and the place after it."""
    line, seen = 1, 0
    for found in _WORD.finditer(text):
        line += text.count("\n", seen, found.start())
        seen = found.start()
        yield line, found[0], found.end()


def _number(word: str) -> float:
    """Return a word as a number, NaN where it is none."""
    try:
        return math.nan if "_" in word else float(word)
    except ValueError:
        return math.nan


def _frames(path: Path, text: str, after: int, num_channels: int) -> tuple[Float[np.ndarray, "t c"], float]:
    """Parse what stands below MOTION: the values of all channels, and the frames per second."""
    name, line = shown(path), text.count("\n", 0, after) + 1
    header = _HEADER.match(text, after)
    if header is None or not (header[1].isascii() and header[1].isdecimal()):
        raise DataError(
            f"{name}, line {line + 1}: 'Frames: N' and 'Frame Time: SECONDS' must follow MOTION; "
            "the file is truncated or damaged",
            code="damaged",
            path=path,
            value=line + 1,
        )
    line += text.count("\n", after, header.end())
    seconds = _number(header[2])
    if not SHORTEST <= seconds <= LONGEST:
        raise DataError(
            f"{name}, line {line - 1}: frame time {header[2]!r:.40} must be a number of seconds, "
            f"{SHORTEST:g} to {LONGEST:g}",
            code="range",
            path=path,
            value=header[2],
        )
    rows = [(i, row) for i, row in enumerate(text[header.end() :].split("\n"), line) if row.strip()]
    declared = header[1].lstrip("0") or "0"
    if declared != str(len(rows)):
        fewer = len(declared) >= 19 or len(rows) < int(declared)
        said = declared if len(declared) < 19 else f"{declared[:8]}… ({len(declared)} digits)"
        raise DataError(
            f"{name}: says {said} frames and holds {len(rows)}; "
            + ("the file is truncated" if fewer else "remove the surplus lines"),
            code="damaged",
            path=path,
            value=len(rows),
        )
    if not rows:
        raise DataError(f"{name}: holds no frame; export the motion again", code="empty", path=path)
    values = np.empty((0, 0))
    if "_" not in text[header.end() :]:  # Python's own numbers may have it: 1_000
        with contextlib.suppress(ValueError):
            values = np.array([row.split() for _, row in rows], dtype=np.float64)
    if values.shape != (len(rows), num_channels) or not (np.abs(values) <= MAX_NUMBER).all():
        for number, row in rows:
            fields = row.split()
            if len(fields) != num_channels:
                raise DataError(
                    f"{name}, line {number}: {len(fields)} values for {num_channels} channels; the file is damaged",
                    code="damaged",
                    path=path,
                    value=number,
                )
            for word in fields:
                if not abs(_number(word)) <= MAX_NUMBER:
                    raise DataError(
                        f"{name}, line {number}: {word!r:.40} is not a finite number of at most {MAX_NUMBER:g}; "
                        "mend that frame",
                        code="value",
                        path=path,
                        value=word,
                    )
    return values, frame_rate(header[2])


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
            f"{shown(path)}: joint {worst!r} moves {stretch.max() * 100:.1f} cm on its parent; "
            f"bones keep their length (up to {MAX_STRETCH * 100:g} cm): bake it into the root's position",
            code="unsupported",
            path=path,
            value=worst,
        )
    try:
        skeleton = Skeleton(tuple(names), tuple(parents), offsets, np.array(ends) * scale)
    except DataError as error:
        raise DataError(f"{shown(path)}: {error}", code=error.code, path=path, value=error.value) from None
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
