"""Stored: a piece as arrays, which are cut at bars and transposed without its notes being made again.

Shapes: n notes, m bars, k tracks, c beats of the longest bar.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from unisono_music.scores import OTHER, Features, Score, features_of

TRACK, ONSET, DURATION, PITCH, VELOCITY = range(5)
"""The columns of ``notes``."""
PADDING = {"notes": -1, "bars": -1, "chord": -1, "density": -1, "pitch": float("nan"), "duration": float("nan"),
           "velocity": float("nan")}  # fmt: skip
"""What stands behind an item of a batch that is shorter than others."""


@dataclass(frozen=True, eq=False)
class Stored:
    """A piece: ``notes`` [n, 5] as (track, onset, duration, pitch, velocity), sorted; ``bars`` [m + 1], where each
    begins and the last ends; and what is measured of each bar and track, see `Features`. ``drums`` [k] is True for
    tracks whose pitches are no tones."""

    id: str
    notes: Int[np.ndarray, "n 5"]
    bars: Int[np.ndarray, " m+1"]
    features: Features
    drums: np.ndarray

    @classmethod
    def of(cls, id: str, score: Score) -> "Stored":
        """Return a score as arrays."""
        rows = [
            (number, note.onset, note.duration, note.pitch, note.velocity)
            for number, track in enumerate(score.tracks)
            for note in track.notes
        ]
        bars = np.array([bar.start for bar in score.bars] + [score.num_steps], dtype=np.int64)
        notes = np.array(rows, dtype=np.int64).reshape(-1, 5)
        return cls(id, notes, bars, features_of(score), np.array([track.drums for track in score.tracks], dtype=bool))

    @property
    def num_bars(self) -> int:
        """How many bars it has; the last may be shorter."""
        return len(self.bars) - 1

    @property
    def num_steps(self) -> int:
        """How many steps it has."""
        return int(self.bars[-1] - self.bars[0])

    def cut(self, first: int, last: int) -> "Stored":
        """Return the bars [first, last), counted from step 0: notes are cut at both ends, and what is measured stays
        that of the whole."""
        start, stop = self.bars[first], self.bars[last]
        notes = self.notes
        notes = notes[(notes[:, ONSET] < stop) & (notes[:, ONSET] + notes[:, DURATION] > start)].copy()
        onset = np.maximum(notes[:, ONSET], start)
        end = np.minimum(notes[:, ONSET] + notes[:, DURATION], stop)
        notes[:, ONSET], notes[:, DURATION] = onset - start, end - onset
        notes = notes[np.lexsort((notes[:, PITCH], notes[:, ONSET], notes[:, TRACK]))]
        own = self.features
        parts = (x[first:last] for x in (own.chord, own.density, own.pitch, own.duration, own.velocity))
        return replace(self, notes=notes, bars=self.bars[first : last + 1] - start, features=Features(*parts))

    def transposed(self, semitones: int) -> "Stored":
        """Return it higher by some semitones, chords along; drums stay."""
        if not semitones:
            return self
        notes = self.notes.copy()
        notes[:, PITCH] += semitones * ~self.drums[notes[:, TRACK]]
        chord = self.features.chord
        minor = (chord >= 12) & (chord < OTHER)
        moved = np.where(minor, 12 + (chord - 12 + semitones) % 12, (chord + semitones) % 12)
        chord = np.where((chord >= 0) & (chord < OTHER), moved, chord)
        return replace(
            self, notes=notes, features=replace(self.features, chord=chord, pitch=self.features.pitch + semitones)
        )

    def item(self) -> dict[str, Tensor | int]:
        """Return ``notes``, ``bars``, ``chord``, ``density``, ``pitch``, ``duration``, ``velocity``, and ``steps``."""
        own = self.features
        floats = {"pitch": own.pitch, "duration": own.duration, "velocity": own.velocity}
        whole: dict[str, Any] = {"notes": self.notes, "bars": self.bars, "chord": own.chord, "density": own.density}
        return {
            **{name: torch.from_numpy(np.array(value)) for name, value in whole.items()},
            **{name: torch.from_numpy(value.astype(np.float32)) for name, value in floats.items()},
            "steps": self.num_steps,
        }
