"""ScoreData: what all data sets of scores share: the split, random cuts and transpositions, facts, and batches."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from unisono.data import Audit, DataModule, collate_items
from unisono.errors import DataError

from unisono_music.corpus.facts import ScoreFacts, Voice
from unisono_music.corpus.stored import DURATION, ONSET, PADDING, PITCH, TRACK, Stored
from unisono_music.scores import Meter, Score

SAMPLE_BARS = 8


class ScoreSet:
    """Items as `Stored.item` makes them, of ``pieces``. With ``random``, at most ``crop_bars`` bars from any place,
    transposed by any of ``semitones`` with which every voice stays within its range; else all bars of all pieces as
    they are written, ``crop_bars`` in each item."""

    def __init__(
        self, pieces: Sequence[Stored], voices: Sequence[Voice], crop_bars: int | None, semitones: range, random: bool
    ):
        self.pieces = list(pieces)
        self.crop_bars, self.random = crop_bars, random
        self.shifts = [_shifts(piece, voices, semitones) if random else [0] for piece in self.pieces]
        self.places = [
            (number, first)
            for number, piece in enumerate(self.pieces)
            for first in ([0] if random or crop_bars is None else range(0, piece.num_bars, crop_bars))
        ]

    def __len__(self) -> int:
        return len(self.places)

    def size(self, index: int) -> int:
        """How many bars an item has."""
        number, first = self.places[index]
        bars = self.pieces[number].num_bars - first
        return bars if self.crop_bars is None else min(bars, self.crop_bars)

    def item(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        number, first = self.places[index]
        piece, size = self.pieces[number], self.size(index)
        whole, shift = piece.num_bars, 0
        if self.random:
            first = int(torch.randint(whole - size + 1, (), generator=generator))
            shifts = self.shifts[number]
            shift = shifts[int(torch.randint(len(shifts), (), generator=generator))]
        part = piece.cut(first, first + size).transposed(shift)
        return {**part.item(), "begins": first == 0, "ends": first + size == whole}


class ScoreData(DataModule):
    """The base of data for models of scores.

    A subclass reads its pieces in ``prepare`` and ends with ``return self.settle(audit, train, val, …)``. Batches have
    ``notes`` [b, n, 5] as (track, onset, duration, pitch, velocity), -1 behind the last; ``bars`` [b, m + 1], where
    each begins and the last one ends, then -1; what is measured of each bar (`Features`): ``chord`` [b, m, c],
    ``density`` [b, m, k], ``pitch``, ``duration`` and ``velocity`` [b, m, k], NaN where there is none; ``steps`` [b];
    ``begins`` and ``ends`` [b], whether an item has its piece's first and last bar.
    """

    def __init__(self, crop_bars: int | None, transpose: tuple[int, int], batch_size: int, num_workers: int):
        super().__init__(batch_size, num_workers)
        if crop_bars is not None and crop_bars < 1:
            raise DataError(
                f"crop_bars={crop_bars} must be at least 1, or null for whole pieces",
                code="range",
                path="data.crop_bars",
                value=crop_bars,
            )
        low, high = transpose
        if not -48 <= low <= 0 <= high <= 48:
            raise DataError(
                f"transpose={list(transpose)} must be [low, high] with -48 ≤ low ≤ 0 ≤ high ≤ 48",
                code="range",
                path="data.transpose",
                value=list(transpose),
            )
        self.crop_bars = crop_bars
        self.transpose = transpose

    def settle(
        self, audit: Audit, train: Mapping[str, Score], val: Mapping[str, Score], meter: Meter, repeats: bool
    ) -> Audit:
        """Fill the sets with scores by their ids, measure what is trained on, and return the audit."""
        ready, held = ([Stored.of(id, score) for id, score in part.items()] for part in (train, val))
        first = next(iter(train.values()))
        notes = np.concatenate([piece.notes for piece in ready + held])
        voices = []
        for number, track in enumerate(first.tracks):
            pitches = notes[notes[:, TRACK] == number, PITCH]
            if not len(pitches):
                raise DataError(
                    f"the voice {track.name!r} has no note in any piece: leave it out",
                    code="empty",
                    path="data",
                    value=track.name,
                )
            low, high = int(pitches.min()), int(pitches.max())
            voices.append(
                Voice(name=track.name, lowest=low, highest=high, programme=track.programme, drums=track.drums)
            )
        shown = (held or ready)[0]
        shown = shown.cut(0, min(SAMPLE_BARS, shown.num_bars))
        tempos = sorted(score.tempos[0].bpm for score in train.values())
        self.facts = ScoreFacts(
            voices=tuple(voices),
            steps_per_beat=first.steps_per_beat,
            beats=meter.beats,
            unit=meter.unit,
            repeats=repeats,
            polyphonic=any(_overlaps(piece) for piece in ready + held),
            bpm=round(float(tempos[len(tempos) // 2]), 2),
            most_steps=max(piece.num_steps for piece in ready),
            most_notes=max(int(piece.features.density.max()) for piece in ready + held),
            held_out=tuple(val),
            bars=sum(piece.num_bars for piece in ready + held),
            sample=tuple(tuple(int(x) for x in row) for row in shown.notes),
            sample_steps=shown.num_steps,
        )
        low, high = self.transpose
        semitones = range(low, high + 1)
        self.train_set = ScoreSet(ready, voices, self.crop_bars, semitones, random=True)
        self.val_set = ScoreSet(held, voices, self.crop_bars, semitones, random=False) if held else None
        return self.finish(audit)

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return collate_items(items, PADDING)


def scores_of_batch(batch: dict[str, Any], facts: ScoreFacts) -> list[Score]:
    """Return the pieces of a batch as scores, with the facts' voices and tempo."""
    return [
        score_of_rows(notes, int(steps), facts) for notes, steps in zip(batch["notes"], batch["steps"], strict=True)
    ]


def score_of_rows(notes: Tensor, steps: int, facts: ScoreFacts) -> Score:
    """Return notes [n, 5], of which those of track -1 are padding, as a score."""
    rows = tuple(tuple(row) for row in notes.tolist() if row[0] >= 0)
    whole = replace(facts, sample=rows, sample_steps=steps).sample_score()
    return facts.blank(steps) if whole is None else whole


def _shifts(piece: Stored, voices: Sequence[Voice], semitones: range) -> list[int]:
    """The transpositions with which each voice stays within its range; 0 is always one."""
    low, high = -128, 128
    for number, voice in enumerate(voices):
        pitches = piece.notes[piece.notes[:, TRACK] == number, PITCH]
        if not voice.drums and len(pitches):
            low = max(low, voice.lowest - int(pitches.min()))
            high = min(high, voice.highest - int(pitches.max()))
    return [shift for shift in semitones if low <= shift <= high] or [0]


def _overlaps(piece: Stored) -> bool:
    """Whether a track has two notes at once."""
    notes = piece.notes
    same = notes[1:, TRACK] == notes[:-1, TRACK]
    return bool((same & (notes[1:, ONSET] < notes[:-1, ONSET] + notes[:-1, DURATION])).any())
