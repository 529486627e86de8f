"""Data for restorers: crops of clean sound, each with what is made of it, drawn anew each epoch.

Items are ``{"wave": [n], "heard": [n]}``: the clean crop, and the same crop damaged. Which crop, its level and its
damage are functions of (seed, epoch, item), so that runs that go on, or run in several processes, hear the same.

Shapes: n samples of a crop.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.data import Audit, DataModule, Drop, collate_items, prepare_features
from unisono.errors import DataError
from unisono_sound.corpus import AudioLimits, Manifest

from unisono_restore.clips import Clip, MadeClip, Recording, places, read_recordings, read_wave
from unisono_restore.facts import RestorationFacts

__all__ = ["CropOptions", "CropSet", "MadeData", "RecordedData", "RestorationData", "Spoil"]

MAX_SECONDS = 3600.0
Spoil = Callable[[Float[Tensor, "n"], torch.Generator], Float[Tensor, "n"]]
"""Damages a clean crop; all that it chooses comes from the generator. As many samples come out."""


@dataclass(frozen=True, kw_only=True)
class CropOptions:
    """What crops are like.

    samples: of a crop.
    gain_db: training crops are made louder or softer by up to this before they are damaged, so that a restorer serves
        sound of any level; made no louder than full scale.
    """

    samples: int = 8000
    gain_db: float = 0.0

    def __post_init__(self):
        if self.samples < 1:
            message = f"data.crops.samples={self.samples} must be at least 1"
            raise DataError(message, code="range", path="data.crops.samples", value=self.samples)
        if not 0 <= self.gain_db <= 60:
            message = f"data.crops.gain_db={self.gain_db} must be in [0, 60]"
            raise DataError(message, code="range", path="data.crops.gain_db", value=self.gain_db)


class RestorationData(DataModule):
    """The base: a subclass finds clips and says how crops are damaged (``spoiler``).

    Attributes:
        sample_rate: of both sides, in hertz.
        crops: what crops are like.
        held_out: texts (ids, where there is none) of the clips that are kept for validation.
    """

    def __init__(self, sample_rate: int, crops: CropOptions, batch_size: int, num_workers: int):
        super().__init__(batch_size, num_workers)
        if not 1000 <= sample_rate <= 768_000:
            message = f"data.sample_rate={sample_rate} must be from 1000 to 768000 Hz"
            raise DataError(message, code="range", path="data.sample_rate", value=sample_rate)
        self.sample_rate, self.crops = sample_rate, crops
        self.held_out: list[str] = []

    def spoiler(self) -> Spoil:
        """Return what damages a crop; it travels to worker processes."""
        raise TypeError(f"{type(self).__name__} defines no spoiler()")

    def describe(self) -> RestorationFacts:
        return RestorationFacts(sample_rate=self.sample_rate, held_out=tuple(self.held_out))

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return collate_items(items)

    def fill(self, audit: Audit, train: Sequence[Clip], val: Sequence[Clip]) -> Audit:
        """Make the two sets of clips."""
        spoil = self.spoiler()
        self.train_set = CropSet(train, self.crops.samples, spoil, tiled=True, gain_db=self.crops.gain_db)
        self.val_set = CropSet(val, self.crops.samples, spoil, tiled=False)
        return self.finish(audit)


class RecordedData(RestorationData):
    """Crops of recordings: an epoch draws as many as would tile them, each from its own stretch.

    Waveforms are cached at the data's rate in 16 bits and read crop by crop. ``root`` is what ``read_recordings``
    reads; ``val_size`` recordings are held out, the same as other models of the corpus hold out, if that has texts.
    """

    def __init__(
        self,
        root: str | list[str] | dict[str, str],
        sample_rate: int,
        crops: CropOptions,
        batch_size: int,
        val_size: int,
        in_memory: bool,
        num_workers: int,
    ):
        super().__init__(sample_rate, crops, batch_size, num_workers)
        self.root, self.val_size, self.in_memory = root, val_size, in_memory

    def prepare(self, progress: bool = True) -> Audit:
        manifest = read_recordings(self.root)
        results = prepare_features(
            manifest.utterances,
            partial(read_wave, sample_rate=self.sample_rate),
            f"wave-1 {self.sample_rate}",
            file=attrgetter("audio"),
            progress=progress,
            description="reading audio",
        )
        limits = AudioLimits(self.crops.samples / self.sample_rate, MAX_SECONDS)
        audit = Audit("recordings")
        recordings: dict[str, Recording] = {}
        manifest.tell(audit)
        for utterance, result in zip(manifest, results, strict=True):
            if isinstance(result, Drop):
                audit.drop(utterance.id, result.reason, result.detail)
                continue
            facts = result.features.facts
            if found := limits.judge(facts):
                audit.drop(utterance.id, *found)
                continue
            audit.keep(utterance.id, facts["seconds"] / 3600, "hours", utterance.speaker)
            if self.in_memory:
                result.features.hold()
            recordings[utterance.id] = Recording(result.features)
        if not recordings:
            message = f"{self.root}: no usable recording; dropped: {audit.reasons}"
            raise DataError(message, code="empty", path="data.root", value=self.root)
        train, val = Manifest(tuple(u for u in manifest if u.id in recordings)).split(self.val_size)
        self.held_out = sorted({u.text or u.id for u in val})
        return self.fill(audit, [recordings[u.id] for u in train], [recordings[u.id] for u in val])


class MadeData(RestorationData):
    """Crops of buzzes made on the spot, for tests and tiny recipes; no file is read or written."""

    def __init__(
        self, num_items: int, sample_rate: int, crops: CropOptions, batch_size: int, val_size: int, num_workers: int
    ):
        super().__init__(sample_rate, crops, batch_size, num_workers)
        self.num_items, self.val_size = num_items, val_size

    def prepare(self, progress: bool = True) -> Audit:
        length = 2 * self.crops.samples - 1  # one crop of each
        clips = [MadeClip(number, length, self.sample_rate) for number in range(self.num_items + self.val_size)]
        audit = Audit("clips")
        for clip in clips[: self.num_items]:
            audit.keep(f"clip-{clip.number}", clip.num_samples / self.sample_rate, "seconds")
        return self.fill(audit, clips[: self.num_items], clips[self.num_items :])


class CropSet:
    """Crops of clips and what is made of them; ``tiled``, as many of each as it holds, else one of each."""

    def __init__(self, clips: Sequence[Clip], crop_samples: int, spoil: Spoil, tiled: bool, gain_db: float = 0.0):
        self.clips, self.crop_samples, self.spoil, self.gain_db = clips, crop_samples, spoil, gain_db
        self.places = places(clips, crop_samples, tiled)

    def __len__(self) -> int:
        return len(self.places)

    def size(self, index: int) -> int:
        return self.crop_samples

    def item(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        which, stretch, count = self.places[index]
        clip = self.clips[which]
        starts = clip.num_samples - self.crop_samples + 1
        low, high = stretch * starts // count, (stretch + 1) * starts // count
        start = int(torch.randint(low, max(high, low + 1), (), generator=generator))
        wave = clip.load(start, start + self.crop_samples)
        if self.gain_db:
            share = float(torch.rand((), generator=generator))
            gain = 10 ** ((2 * share - 1) * self.gain_db / 20)
            wave = wave * min(gain, 1 / max(float(wave.abs().max()), 1e-9))
        return {"wave": wave, "heard": self.spoil(wave, generator)}
