"""Grid: a score as one pitch for each voice and step, and what is struck there.

Shapes: v voices, s steps. Pitches are MIDI's, -1 is silence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int
from unisono.errors import DataError

from unisono_music.scores.score import Note, Score, Track

SILENCE = -1


@dataclass(frozen=True, eq=False)
class Grid:
    """``pitch`` [v, s], and ``onset`` [v, s]: True where a note begins, so that a repeat differs from a note that is
    held. A pitch that follows another one, or silence, always begins."""

    pitch: Int[np.ndarray, "v s"]
    onset: Bool[np.ndarray, "v s"]

    def __post_init__(self):
        if self.pitch.ndim != 2 or self.pitch.shape != self.onset.shape:
            raise ValueError(f"pitch {self.pitch.shape} and onset {self.onset.shape} must both be [voices, steps]")
        if not np.array_equal(self.onset, (self.onset | changes(self.pitch)) & (self.pitch != SILENCE)):
            raise ValueError("onset must be True where a pitch begins, and False where there is silence")

    @classmethod
    def of_pitches(cls, pitch: Int[np.ndarray, "v s"]) -> "Grid":
        """Return the grid in which equal pitches side by side are one note: what is known where repeats are not."""
        pitch = np.asarray(pitch, dtype=np.int64)
        return cls(pitch, changes(pitch) & (pitch != SILENCE))


def changes(pitch: Int[np.ndarray, "v s"]) -> Bool[np.ndarray, "v s"]:
    """Return where a pitch differs from that of the step before; the first step does."""
    return np.diff(pitch, axis=1, prepend=np.full((len(pitch), 1), -2, dtype=pitch.dtype)) != 0


def grid_of(score: Score) -> Grid:
    """Return a score of voices as a grid; raises ``DataError`` where a track has two notes at once."""
    pitch = np.full((len(score.tracks), score.num_steps), SILENCE, dtype=np.int64)
    onset = np.zeros_like(pitch, dtype=bool)
    for row, track in enumerate(score.tracks):
        end = 0
        for note in track.notes:
            if note.onset < end:
                raise DataError(
                    f"the track {track.name!r} has two notes at step {note.onset}: a grid holds one for each voice; "
                    "give each voice a track, or take its top notes by unisono_music.scores.top_line",
                    code="conflict",
                    path=f"tracks[{track.name!r}]",
                    value=note.onset,
                )
            pitch[row, note.onset : note.end] = note.pitch
            onset[row, note.onset] = True
            end = note.end
    return Grid(pitch, onset)


def score_of(
    grid: Grid, like: Score | None = None, names: Sequence[str] = (), velocity: int = 80, **fields: object
) -> Score:
    """Return the score of a grid: names, programmes, signatures and tempo are those of ``like``.

    Without ``like``, voices are called by ``names`` and the score is in 4/4; ``fields`` are those of `Score`.
    """
    voices, steps = grid.pitch.shape
    if like is None:
        names = names or [f"voice {number + 1}" for number in range(voices)]
        like = Score(tuple(Track(name) for name in names), steps)
    tracks = tuple(
        replace(track, notes=tuple(_notes(grid.pitch[row], grid.onset[row], velocity)))
        for row, track in zip(range(voices), like.tracks, strict=True)
    )
    return replace(like, tracks=tracks, num_steps=steps, **fields)


def top_line(track: Track) -> Track:
    """Return the highest notes of a track, one at a time: a note ends where a higher or a later one begins.

    A lower note of a chord is left out; of notes that overlap, the earlier one is cut.
    """
    highest = {note.onset: note for note in track.notes}  # sorted by pitch within an onset, so the highest is last
    line: list[Note] = []
    for note in (highest[onset] for onset in sorted(highest)):
        if line and line[-1].end > note.onset:
            line[-1] = replace(line[-1], duration=note.onset - line[-1].onset)
        line.append(note)
    return replace(track, notes=tuple(line))


def _notes(pitch: Int[np.ndarray, " s"], onset: Bool[np.ndarray, " s"], velocity: int) -> list[Note]:
    begins = np.flatnonzero(onset)
    stops = np.flatnonzero(onset | (pitch == SILENCE))
    ends = np.append(stops, len(pitch))[np.searchsorted(stops, begins, side="right")]
    return [Note(int(a), int(b - a), int(pitch[a]), velocity) for a, b in zip(begins, ends, strict=True)]
