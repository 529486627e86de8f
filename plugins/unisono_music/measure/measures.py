"""Measures of scores that no network is asked for: melody, harmony, rhythm, and what is copied or repeated.

All of them read voices on a grid, drums left out, and of a track with chords its top line. Distances between
distributions are total variation, in [0, 1]; they compare with a reference, such as the pieces that were trained on.

Shapes: v voices, s steps.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from jaxtyping import Int

from unisono_music.corpus import Voice
from unisono_music.scores import OTHER, SILENCE, Grid, Score, chords_of, grid_of, top_line

PERFECT = (0, 7)
"""Octaves and fifths, in semitones within an octave."""
DISSONANT = (1, 2, 6, 10, 11)
"""Seconds, sevenths and the tritone."""
BETTER = {
    "pitch classes": "lower",
    "melodic intervals": "lower",
    "intervals between voices": "lower",
    "durations": "lower",
    "crossed voices": "",
    "parallel fifths and octaves": "",
    "dissonant beats": "",
    "beats without a triad": "",
    "pitches out of range": "0",
    "repeated bars": "",
    "bars of the corpus": "",
    "nearest bar": "",
}
"""Each measure, and which way is good: "" where it should come near that of real pieces."""

UNITS = {
    "parallel fifths and octaves": ("of 100 moves", 2),
    "pitches out of range": ("cells", 0),
    "nearest bar": ("share of its cells", 3),
}
"""Unit and digits of measures that are no share."""


def lines(score: Score) -> Grid:
    """Return a score's voices on a grid, without drums; of a track with chords the highest notes."""
    tracks = tuple(top_line(track) for track in score.tracks if not track.drums)
    return grid_of(replace(score, tracks=tracks, held=()))


@dataclass(frozen=True, eq=False)
class Reference:
    """What scores are compared with: the distributions of a corpus, and its bars."""

    counts: dict[str, Counter[int]]
    bars: Int[np.ndarray, "n cells"]
    voices: Sequence[Voice]
    steps_per_bar: int

    @classmethod
    def of(cls, scores: Sequence[Score], voices: Sequence[Voice], steps_per_bar: int) -> "Reference":
        """Measure the scores of a corpus."""
        grids = [lines(score) for score in scores]
        every = [bar for grid in grids for bar in _bars(grid.pitch, steps_per_bar)]
        bars = np.unique(np.array([_plain(bar) for bar in every]).reshape(len(every), -1), axis=0)
        sounding = [voice for voice in voices if not voice.drums]
        return cls({name: _count(name, grids) for name in COUNTED}, bars, sounding, steps_per_bar)

    def measure(self, scores: Sequence[Score]) -> dict[str, float]:
        """Return all measures of some scores together."""
        grids = [lines(score) for score in scores]
        found = {name: _distance(_count(name, grids), counts) for name, counts in self.counts.items()}
        found["crossed voices"] = _mean(_crossed(grid.pitch) for grid in grids)
        found["parallel fifths and octaves"] = parallels(grids)
        found["dissonant beats"] = _mean(
            _dissonant(grid.pitch, score.steps_per_beat) for grid, score in zip(grids, scores, strict=True)
        )
        found["beats without a triad"] = _mean(
            float(chord == OTHER) for score in scores for beats in chords_of(score) for chord in beats
        )
        found["pitches out of range"] = float(sum(_beyond(grid.pitch, self.voices) for grid in grids))
        found["repeated bars"] = _mean(_repeated(grid.pitch, self.steps_per_bar) for grid in grids)
        found |= self.copied([bar for grid in grids for bar in _bars(grid.pitch, self.steps_per_bar)])
        return found

    def copied(self, bars: Sequence[Int[np.ndarray, "v s"]]) -> dict[str, float]:
        """Return the share of bars that the corpus has, in any key, and the share of cells as in the nearest one."""
        if not len(bars) or not len(self.bars):
            return {"bars of the corpus": float("nan"), "nearest bar": float("nan")}
        nearest = np.array([(self.bars == _plain(bar).reshape(1, -1)).mean(1).max() for bar in bars])
        return {"bars of the corpus": float((nearest == 1).mean()), "nearest bar": float(nearest.mean())}


def parallels(grids: Sequence[Grid]) -> float:
    """Return how many pairs of voices go on in fifths or octaves, for 100 steps at which two or more voices move."""
    found = moves = 0
    for grid in grids:
        pitch = grid.pitch
        moved = (np.diff(pitch) != 0) & (pitch[:, 1:] != SILENCE) & (pitch[:, :-1] != SILENCE)
        moves += int((moved.sum(0) > 1).sum())
        for upper, lower in combinations(range(len(pitch)), 2):
            between = np.abs(pitch[upper] - pitch[lower]) % 12
            same = (between[1:] == between[:-1]) & np.isin(between[1:], PERFECT)
            found += int((same & moved[upper] & moved[lower]).sum())
    return 100 * found / moves if moves else 0.0


def _count(name: str, grids: Iterable[Grid]) -> Counter[int]:
    counts: Counter[int] = Counter()
    for grid in grids:
        counts.update(COUNTED[name](grid))
    return counts


def _pitch_classes(grid: Grid) -> list[int]:
    return (grid.pitch[grid.pitch != SILENCE] % 12).tolist()


def _melodic(grid: Grid) -> list[int]:
    """Intervals from a note to the next of its voice, repeats left out, so that data without them compare."""
    found: list[int] = []
    for row in grid.pitch:
        sung = row[row != SILENCE]
        steps = np.diff(sung)
        found += np.clip(steps[steps != 0], -24, 24).tolist()
    return found


def _between(grid: Grid) -> list[int]:
    upper, lower = grid.pitch[:-1], grid.pitch[1:]
    both = (upper != SILENCE) & (lower != SILENCE)
    return np.clip((upper - lower)[both], -24, 36).tolist()


def _durations(grid: Grid) -> list[int]:
    """Steps for which a pitch goes on, repeats as one."""
    found: list[int] = []
    for row in grid.pitch:
        starts = np.flatnonzero(np.diff(row, prepend=-2))
        lengths = np.diff(np.append(starts, len(row)))
        found += np.minimum(lengths[row[starts] != SILENCE], 64).tolist()
    return found


COUNTED = {
    "pitch classes": _pitch_classes,
    "melodic intervals": _melodic,
    "intervals between voices": _between,
    "durations": _durations,
}


def _distance(one: Counter[int], other: Counter[int]) -> float:
    """Total variation of two counted distributions; 1 where one of them is empty."""
    if not one or not other:
        return 1.0
    first, second = one.total(), other.total()
    return 0.5 * sum(abs(one[key] / first - other[key] / second) for key in one.keys() | other.keys())


def _crossed(pitch: Int[np.ndarray, "v s"]) -> float:
    """The share of steps and neighbours of which the upper voice is lower."""
    upper, lower = pitch[:-1], pitch[1:]
    both = (upper != SILENCE) & (lower != SILENCE)
    return float((upper < lower)[both].mean()) if both.any() else 0.0


def _dissonant(pitch: Int[np.ndarray, "v s"], steps_per_beat: int) -> float:
    """The share of beats on which two voices are a second, a seventh or a tritone apart."""
    beats = pitch[:, ::steps_per_beat]
    clash = np.zeros(beats.shape[1], dtype=bool)
    for upper, lower in combinations(range(len(beats)), 2):
        both = (beats[upper] != SILENCE) & (beats[lower] != SILENCE)
        clash |= both & np.isin(np.abs(beats[upper] - beats[lower]) % 12, DISSONANT)
    return float(clash.mean()) if len(clash) else 0.0


def _beyond(pitch: Int[np.ndarray, "v s"], voices: Sequence[Voice]) -> int:
    """How many cells lie outside of their voice's range."""
    low, high = (np.array([getattr(v, name) for v in voices])[:, None] for name in ("lowest", "highest"))
    return int(((pitch != SILENCE) & ((pitch < low) | (pitch > high))).sum())


def _repeated(pitch: Int[np.ndarray, "v s"], size: int) -> float:
    """The share of bars that the piece has had before."""
    bars = [bar.tobytes() for bar in _bars(pitch, size)]
    return 1 - len(set(bars)) / len(bars) if bars else 0.0


def _bars(pitch: Int[np.ndarray, "v s"], size: int) -> list[Int[np.ndarray, "v s"]]:
    """The whole bars of a piece in one signature."""
    return [np.ascontiguousarray(pitch[:, at : at + size]) for at in range(0, pitch.shape[1] - size + 1, size)]


def _plain(bar: Int[np.ndarray, "v s"]) -> Int[np.ndarray, "v s"]:
    """A bar in a key of its own: above its first pitch, silence as a number that no interval is."""
    first = next((int(pitch) for pitch in bar.T.ravel() if pitch != SILENCE), 0)
    return np.where(bar == SILENCE, -1000, bar - first)


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return float(np.mean(known)) if known else float("nan")
