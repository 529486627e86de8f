"""Streamed motion: BVH files with captions in shards, read when they are needed.

A row of a shard has ``.bvh``, and perhaps ``.txt`` with a caption per line, or ``.json`` with ``caption`` or ``text``
(one or a list); a row of a table the columns ``bvh`` and ``caption`` or ``text``.
"""

import tempfile
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from unisono.data import Audit, Drop, derive_seed, mirrored, words_of
from unisono.data.stream import Examined, Part, Row, StreamData, StreamOptions
from unisono.errors import DataError
from unisono.files import lone_surrogate

from unisono_motion.corpus.data import BVH_UNIT, MAX_HEIGHT, MIN_HEIGHT, ClipOptions
from unisono_motion.corpus.facts import MotionFacts
from unisono_motion.corpus.features import MotionSpec
from unisono_motion.corpus.fit import Mirror, fit, mean_rotations
from unisono_motion.skeleton import Motion, read_bvh

BVH = Part("bvh", (".bvh",), ("bvh",))
CAPTION = Part("caption", (".txt",), ("caption", "text"), needed=False)
FACTS = Part("facts", (".json",), (), needed=False)
NUM_SAMPLES = 8


class ClipStream(StreamData):
    """Motion clips of a stream.

    Args:
        root, stream, val_size, batch_size, num_workers: as of every ``StreamData``.
        clips: which clips are taken, and what they are brought to; without ``skeleton`` and ``fps`` they are brought to
            those of the first training clip. With ``mirror`` a training clip is mirrored every other time.
        crop_frames: length of a training item, cut at random; null leaves clips whole.
    """

    parts: ClassVar[tuple[Part, ...]] = (BVH, CAPTION, FACTS)
    items = "clips"
    unit = "seconds"

    def __init__(
        self,
        root: str,
        *,
        clips: ClipOptions = ClipOptions(),  # noqa: B008
        crop_frames: int | None = 64,
        stream: StreamOptions = StreamOptions(),  # noqa: B008
        val_size: int = 32,
        batch_size: int = 32,
        num_workers: int = 0,
    ):
        super().__init__(root, stream=stream, val_size=val_size, batch_size=batch_size, num_workers=num_workers)
        if crop_frames is not None and crop_frames < 2:
            raise DataError(
                f"data.crop_frames={crop_frames} must be at least 2, or null for whole clips",
                code="range",
                path="data.crop_frames",
                value=crop_frames,
            )
        self.clips, self.crop_frames = clips, crop_frames
        self.spec: MotionSpec
        self.mirror: Mirror | None = None

    @property
    def metres_per_unit(self) -> float:
        """Unit of length of the files, in metres."""
        return BVH_UNIT if self.clips.metres_per_unit is None else self.clips.metres_per_unit

    def version(self) -> str:
        return f"1 {self.metres_per_unit} {self.clips.min_seconds} {self.clips.max_seconds}"

    def examine(self, row: Row) -> Examined:
        captions_of(row)
        seconds = motion_of(row, self.metres_per_unit).seconds
        if seconds < self.clips.min_seconds:
            raise Drop("too short", f"{seconds:.2f} s of at least {self.clips.min_seconds:g} s")
        if self.clips.max_seconds is not None and seconds > self.clips.max_seconds:
            raise Drop("too long", f"{seconds:.1f} s of at most {self.clips.max_seconds:g} s")
        return Examined(max(round(30 * seconds), 1), seconds)

    def maker(self, random: bool) -> "Move":
        mirror, crop = (self.mirror, self.crop_frames) if random else (None, None)
        return Move(self.spec, self.metres_per_unit, crop, mirror, random)

    def settle(self, audit: Audit) -> None:
        assert self.index is not None
        named = next(self.sample())
        first = motion_of(named, self.metres_per_unit)
        skeleton = first.skeleton
        if self.clips.skeleton is not None:
            skeleton = read_bvh(self.clips.skeleton, self.metres_per_unit).skeleton
        if not MIN_HEIGHT <= skeleton.height <= MAX_HEIGHT:
            raise DataError(
                f"{self.clips.skeleton or named.id}: the skeleton is {skeleton.height:.3g} m tall, expected "
                f"{MIN_HEIGHT:g} to {MAX_HEIGHT:g} m; set data.clips.metres_per_unit (now {self.metres_per_unit:g})",
                code="range",
                path="data.clips.metres_per_unit",
                value=self.metres_per_unit,
            )
        self.spec = MotionSpec(skeleton, first.fps if self.clips.fps is None else self.clips.fps)
        motions, captions, longest = [], [], 0
        total, square, count = np.zeros(self.spec.dim), np.zeros(self.spec.dim), 0
        for row in self.sample():
            motion = fit(motion_of(row, self.metres_per_unit), self.spec)
            values = self.spec.encode(motion).astype(np.float64)
            total, square, count = total + values.sum(0), square + np.square(values).sum(0), count + len(values)
            captions += captions_of(row)
            longest = max(longest, len(values))
            if len(motions) < 200:
                motions.append(motion)
        if self.clips.mirror:
            self.mirror = Mirror.learn(skeleton, mean_rotations(motions, self.spec))
        if self.num_measured < len(self.train_set):
            audit.note(f"features are measured on {self.num_measured} of {len(self.train_set)} clips")
        mean = total / count
        std = np.sqrt(np.maximum(square / count - mean**2, 0))
        seconds = np.asarray(self.index.sizes)[self.train_set.rows].max() / 30
        words = {word for caption in captions for word in words_of(caption)}
        words |= {word for caption in captions for word in words_of(mirrored(caption)) if self.clips.mirror}
        held = [self.index.id(int(row)) for row in self.val_set.rows] if self.val_set else []
        self.facts = MotionFacts(
            motion=self.spec,
            mean=tuple(mean.round(8).tolist()),
            std=tuple(std.round(8).tolist()),
            max_frames=max(longest, round(float(seconds) * self.spec.fps)),
            words=tuple(sorted(words)),
            sample_captions=tuple(sorted(set(captions), key=lambda text: derive_seed("sample", text))[:NUM_SAMPLES]),
            held_out=tuple(held),
            hours=float(self.index.amounts.sum()) / 3600,
        )


@dataclass(frozen=True)
class Move:
    """Makes an item of a row, as ``ClipSet`` has it."""

    spec: MotionSpec
    metres_per_unit: float
    crop_frames: int | None
    mirror: Mirror | None
    random: bool

    def __call__(self, row: Row, generator: torch.Generator) -> dict[str, Any]:
        captions = captions_of(row)
        label = derive_seed("label", *(captions or (row.id,)))
        motion = fit(motion_of(row, self.metres_per_unit), self.spec)
        if self.mirror is not None and bool(torch.randint(0, 2, (), generator=generator)):
            motion, captions = self.mirror(motion), [mirrored(text) for text in captions]
            label = derive_seed("label", *(captions or (f"{row.id} mirrored",)))
        features = self.spec.encode(motion)
        size = len(features) if self.crop_frames is None else min(len(features), self.crop_frames)
        start, which = 0, 0
        if self.random:
            start = int(torch.randint(0, len(features) - size + 1, (), generator=generator))
            which = int(torch.randint(0, max(len(captions), 1), (), generator=generator))
        stretch = torch.from_numpy(np.array(features[start : start + size], dtype=np.float32))
        return {"features": stretch, "length": size, "caption": captions[which] if captions else "", "label": label}


def motion_of(row: Row, metres_per_unit: float) -> Motion:
    """Return a row's motion; raises ``Drop`` where its file cannot be read."""
    with tempfile.NamedTemporaryFile(prefix="unisono-", suffix=".bvh") as file:
        file.write(row.parts["bvh"])
        file.flush()
        try:
            capture = read_bvh(file.name, metres_per_unit)
        except DataError as error:
            raise Drop("unreadable", str(error).replace(file.name, row.id)) from None
    if len(capture.root) < 2:
        raise Drop("one frame", "a motion needs at least 2 frames")
    positions = capture.skeleton.positions(capture.rotations, capture.root)
    return Motion(positions, capture.skeleton, capture.fps, capture.rotations)


def captions_of(row: Row) -> list[str]:
    """Return what is said of a row's motion; raises ``Drop``."""
    captions = row.text("caption").split("\n") if "caption" in row.parts else []
    facts = row.json("facts") if "facts" in row.parts else {}
    if isinstance(facts, dict):
        said = facts.get("caption", facts.get("text"))
        captions += [text for text in (said if isinstance(said, list) else [said]) if isinstance(text, str)]
    captions = [text.strip() for text in captions if text.strip()]
    for text in captions:
        if half := lone_surrogate(text):
            raise Drop("half a character", f"{half} alone is half of a character")
    return list(dict.fromkeys(captions))
