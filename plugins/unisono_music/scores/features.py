"""Features: what is said of each bar and track, measured of scores and asked of models.

Shapes: m bars, k tracks, c beats of the longest bar.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from unisono_music.scores.chords import chords_of
from unisono_music.scores.score import Bar, Note, Score

UNKNOWN = -1
DENSEST = 16
DURATION_EDGES = (2, 3, 4, 6, 8)
PITCH_BINS, VELOCITY_BINS = 8, 8


@dataclass(frozen=True, eq=False)
class Features:
    """What is measured of each bar.

    Attributes:
        chord: of each beat, of all tracks but drums; -1 behind the last beat of a shorter bar.
        density: notes that begin in the bar, of each track; 0 where it rests or only holds.
        pitch: mean MIDI pitch over the time that the track sounds in the bar; NaN where it rests, and for drums.
        duration: mean length in steps, also beyond the bar, of the notes that begin in it; NaN where none does.
        velocity: mean of the notes that begin in it; NaN where none does.
    """

    chord: Int[np.ndarray, "m c"]
    density: Int[np.ndarray, "m k"]
    pitch: Float[np.ndarray, "m k"]
    duration: Float[np.ndarray, "m k"]
    velocity: Float[np.ndarray, "m k"]


def features_of(score: Score) -> Features:
    """Measure the features of all bars and tracks of a score."""
    chords = chords_of(score)
    width = max(map(len, chords), default=0)
    chord = np.full((len(chords), width), UNKNOWN, dtype=np.int64)
    for row, beats in zip(chord, chords, strict=True):
        row[: len(beats)] = beats
    shape = len(score.bars), len(score.tracks)
    density = np.zeros(shape, dtype=np.int64)
    pitch, duration, velocity = (np.full(shape, np.nan) for _ in range(3))
    for column, track in enumerate(score.tracks):
        for row, (bar, notes) in enumerate(zip(score.bars, notes_by_bar(track.notes, score.bars), strict=True)):
            begun = [note for note in notes if note.onset >= bar.start]
            density[row, column] = len(begun)
            if begun:
                duration[row, column] = np.mean([note.duration for note in begun])
                velocity[row, column] = np.mean([note.velocity for note in begun])
            if notes and not track.drums:
                times = [min(note.end, bar.stop) - max(note.onset, bar.start) for note in notes]
                pitch[row, column] = np.average([note.pitch for note in notes], weights=times)
    return Features(chord, density, pitch, duration, velocity)


def notes_by_bar(notes: tuple[Note, ...], bars: tuple[Bar, ...]) -> list[list[Note]]:
    """Return the notes that sound in each bar, those included that began before it."""
    found: list[list[Note]] = [[] for _ in bars]
    if not bars:
        return found
    starts = np.array([bar.start for bar in bars])
    for note in notes:
        first = int(np.searchsorted(starts, note.onset, side="right")) - 1
        last = int(np.searchsorted(starts, note.end - 1, side="right")) - 1
        for number in range(first, last + 1):
            found[number].append(note)
    return found


def density_bin(density: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    """Return notes in a bar as 0 to ``DENSEST``, which stands for more as well."""
    return np.minimum(density, DENSEST)


def pitch_bin(pitch: Float[np.ndarray, "..."], lowest: int, highest: int) -> Int[np.ndarray, "..."]:
    """Return a mean pitch as one of ``PITCH_BINS`` equal parts of a range of pitches; -1 where it is NaN.

    Pitches outside of the range are in its first or last part.
    """
    part = (pitch - lowest) / max(highest + 1 - lowest, 1) * PITCH_BINS
    return _whole(np.clip(part, 0, PITCH_BINS - 1), pitch)


def duration_bin(duration: Float[np.ndarray, "..."], steps_per_beat: int = 4) -> Int[np.ndarray, "..."]:
    """Return a mean duration in steps as one of 6 (below 2, 3, 4, 6, 8 sixteenths, or longer); -1 where it is NaN."""
    return _whole(np.digitize(duration * (4 / steps_per_beat), DURATION_EDGES), duration)


def velocity_bin(velocity: Float[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    """Return a mean velocity as one of ``VELOCITY_BINS`` parts of [0, 128); -1 where it is NaN."""
    return _whole(np.nan_to_num(velocity) * VELOCITY_BINS // 128, velocity)


def _whole(values: Float[np.ndarray, "..."], measured: Float[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    return np.where(np.isnan(measured), UNKNOWN, np.nan_to_num(values, nan=UNKNOWN)).astype(np.int64)
