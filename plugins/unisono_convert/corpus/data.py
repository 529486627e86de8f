"""Corpora to train conversion on: recordings of speakers (``convert/speakers``).

From a recording to an item::

    audio ─ read, mono, resample ─ judge ─ trim silence ─ level ─┬─ log mel [t, m]
                                                                 └─ pitch [t], hertz, 0 unvoiced

Features are cached by the recording's content. Texts are not needed; where there are some, their letters can teach a
recogniser (``convert/tutor``), and the same sentence never stands in training and validation.

Shapes: t frames, m mel channels.
"""

import math
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from unisono.data import Audit, DataModule, Drop, collate_items, prepare_features
from unisono.errors import DataError, did_you_mean
from unisono_sound.corpus import AudioLimits, Manifest, SoundOptions, Utterance
from unisono_sound.corpus.recording import moments
from unisono_sound.signal import MelSpec

from unisono_convert.corpus.facts import ConversionFacts, Spread
from unisono_convert.corpus.items import BESIDE, Recording, SpeakerSet
from unisono_convert.corpus.read import channels_of, extract, letters_of, recordings_of

HOLD_BYTES = 2**30
"""A corpus with features below this size is kept in memory."""


class SpeakerData(DataModule):
    """Recordings of speakers, ready to train conversion.

    Args:
        root: a folder of audio files, folders in it naming speakers, a corpus in LJSpeech layout, a table or JSONL of
            ``audio|text|speaker``, spoken digits; several as a list, or as ``{speaker: path}``.
        labelled: speakers are told apart by name. False takes recordings as nobody's: such a model is asked by prompt.
        held_out_speakers: nothing of them is trained on, or known by name.
        crop_frames: frames of a training stretch, and
        reference_frames: of the recordings beside it, at most.
        val_size: recordings held out where the corpus does not say: a share below 1, or a number.
        mel: the mel spec; recordings are resampled to its rate.
        limits: what a usable recording is.
        sound: how recordings are trimmed and levelled.
        num_processes: for preparing features; all cores where None.
        batch_size, num_workers: as in ``unisono.data.DataModule``.
    """

    def __init__(
        self,
        root: str | list[str] | dict[str, str],
        *,
        labelled: bool = True,
        held_out_speakers: tuple[str, ...] = (),
        crop_frames: int = 128,
        reference_frames: int = 128,
        val_size: float = 0.05,
        mel: MelSpec = MelSpec(),  # noqa: B008
        limits: AudioLimits = AudioLimits(max_seconds=20.0),  # noqa: B008
        sound: SoundOptions = SoundOptions(),  # noqa: B008
        num_processes: int | None = None,
        batch_size: int = 16,
        num_workers: int = 0,
    ):
        super().__init__(batch_size, num_workers)
        for name, value in (("crop_frames", crop_frames), ("reference_frames", reference_frames)):
            if value < 1:
                raise _refused(name, value, "must be at least 1", "range")
        if val_size < 0 or (val_size >= 1 and val_size != int(val_size)):
            raise _refused("val_size", val_size, "must be a share below 1 or a whole number", "range")
        self.root, self.labelled, self.held_out_speakers = root, labelled, tuple(held_out_speakers)
        self.crop_frames, self.reference_frames, self.val_size = crop_frames, reference_frames, val_size
        self.mel, self.limits, self.sound, self.num_processes = mel, limits, sound, num_processes

    def prepare(self, progress: bool = True) -> Audit:
        """Read recordings, make what the cache lacks, split; return what was kept and dropped."""
        audit = Audit("recordings")
        manifest = recordings_of(self.root)
        manifest.tell(audit)
        self._check_speakers(manifest)
        sound, told = self.sound, [utterance for utterance in manifest if self._wanted(utterance, audit)]
        prepared = prepare_features(
            told,
            partial(
                extract,
                spec=self.mel,
                limits=self.limits,
                trim_db=sound.trim_db,
                pad_seconds=sound.pad_seconds,
                loudness_dbfs=sound.loudness_dbfs,
            ),
            f"convert 1 {self.mel} {self.limits} {sound.trim_db} {sound.pad_seconds} {sound.loudness_dbfs}",
            file=attrgetter("audio"),
            num_processes=self.num_processes,
            progress=progress,
            note=audit.note,
        )
        kept: dict[str, tuple[Utterance, Any]] = {}
        for utterance, result in zip(told, prepared, strict=True):
            if isinstance(result, Drop):
                audit.drop(utterance.id, result.reason, result.detail)
                continue
            kept[utterance.id] = (utterance, result.features)
            audit.keep(utterance.id, result.features.facts["seconds"] / 3600, "hours", utterance.speaker)
        self._split(kept, audit)
        return self.finish(audit)

    def _wanted(self, utterance: Utterance, audit: Audit) -> bool:
        if utterance.speaker in self.held_out_speakers:
            audit.drop(utterance.id, "held-out speaker", utterance.speaker)
            return False
        return True

    def _check_speakers(self, manifest: Manifest) -> None:
        known = manifest.speakers
        for name in self.held_out_speakers:
            if name not in known:
                message = f"data.held_out_speakers names {name!r}{did_you_mean(name, known)}"
                raise DataError(message, code="unknown", path="data.held_out_speakers", value=name)

    def _split(self, kept: dict[str, tuple[Utterance, Any]], audit: Audit) -> None:
        if not kept:
            message = f"no usable recording in {self.root}: see what was dropped, and why, with unisono data"
            raise DataError(message, code="empty", path="data.root", value=self.root)
        manifest = Manifest(tuple(utterance for utterance, _ in kept.values()))
        size = round(self.val_size * len(kept)) if self.val_size < 1 else int(self.val_size)
        size = max(size, 1) if self.val_size and len(kept) > 1 else size
        train, val = manifest.split(size)
        self.speakers = sorted({u.speaker for u in train}) if self.labelled else []
        if self.labelled and len(self.speakers) < 2:
            message = (
                f"{self.root} has one speaker to train on, {', '.join(map(repr, self.speakers))}: conversion needs "
                "two; give several, or data.labelled=false for recordings whose speakers are not named"
            )
            raise DataError(message, code="empty", path="data.root", value=self.speakers)
        if not self.labelled and len(train) < 2:
            message = f"{self.root} has one recording to train on: conversion needs two"
            raise DataError(message, code="empty", path="data.root", value=len(train))
        if sum(4 * math.prod(shape) for _, f in kept.values() for shape in f.shapes.values()) <= HOLD_BYTES:
            for _, features in kept.values():
                features.hold()

        def told(part: Manifest) -> list[Recording]:
            numbers = {name: number for number, name in enumerate(self.speakers)}
            return [Recording(u, numbers.get(u.speaker, 0), kept[u.id][1]) for u in part if self._known(u)]

        unknown = sorted({u.speaker for u in val if not self._known(u)})
        if unknown:
            audit.note(f"not validated on, since nothing of the speaker is trained on: {', '.join(unknown)}")
        pool = told(train)
        sizes = (self.crop_frames, self.reference_frames, self.labelled)
        self.train_set = SpeakerSet(pool, pool, *sizes)
        self.val_set = SpeakerSet(told(val), pool, *sizes)

    def _known(self, utterance: Utterance) -> bool:
        """A speaker of whom all recordings are held out has no number."""
        return not self.labelled or utterance.speaker in self.speakers

    def describe(self) -> ConversionFacts:
        """Return the corpus' facts; reads it where ``prepare`` has not."""
        self.setup()
        rows = [(recording, recording.features.facts) for recording in self.train_set.recordings]
        everyone = [facts["pitch"] for _, facts in rows]
        pitches, voices = {}, {}
        for number, name in enumerate(self.speakers):
            own = [facts for recording, facts in rows if recording.speaker == number]
            voiced = [facts["pitch"] for facts in own]
            mean, std = moments(voiced if sum(row[2] for row in voiced) else everyone)
            pitches[name] = Spread(float(mean), float(std))
            voices[name] = channels_of([facts["mel"] for facts in own])
        return ConversionFacts(
            speakers=tuple(self.speakers),
            mel_spec=self.mel,
            mel=channels_of([facts["mel"] for _, facts in rows]),
            pitch=pitches,
            voices=voices,
            loudness_dbfs=self.sound.loudness_dbfs,
            longest_seconds=max(facts["seconds"] for _, facts in rows),
            letters=letters_of([recording.utterance.text for recording, _ in rows]),
            held_out=tuple(sorted(recording.utterance.id for recording in self.val_set.recordings)),
            held_out_speakers=self.held_out_speakers,
            hours=sum(facts["seconds"] for _, facts in rows) / 3600,
        )

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Pad to the longest with 0 and add the lengths of each mel."""
        batch = collate_items(items)
        for name in BESIDE:
            batch[f"{name}_lengths"] = torch.tensor([len(item[name]) for item in items])
        return batch


def _refused(name: str, value: Any, why: str, code: Any) -> DataError:
    return DataError(f"data.{name}={value} {why}", code=code, path=f"data.{name}", value=value)
