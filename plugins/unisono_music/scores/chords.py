"""Chords: 24 triads and what is none of them, by templates over pitch classes.

A stretch of music is the triad that most of its sounding time belongs to, where at least two of its three tones sound,
one of them the third, and at least ``LEAST_SHARE`` of the time is theirs. Of equal ones, that of the bass as its root
comes first, then the lower number.

Shapes: s steps, p 12 pitch classes.
"""

import numpy as np
from jaxtyping import Float, Int
from unisono.errors import DataError, did_you_mean

from unisono_music.scores.score import Score

NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
FLATS = {"Db": "C#", "Eb": "D#", "Gb": "F#", "Ab": "G#", "Bb": "A#", "Cb": "B", "Fb": "E", "E#": "F", "B#": "C"}
CHORDS = (*NAMES, *(f"{name}m" for name in NAMES), "other")
"""What a chord can be: 12 major triads from C on, 12 minor ones, and anything else, silence included."""
OTHER = len(CHORDS) - 1
LEAST_SHARE = 0.6

_TONES = np.array(
    [[(r + t) % 12 for t in (0, 4, 7)] for r in range(12)] + [[(r + t) % 12 for t in (0, 3, 7)] for r in range(12)]
)


def chord_number(name: str) -> int:
    """Return the number of a chord in ``CHORDS``: ``C``, ``F#m``, ``Bb``, ``other``; raises ``DataError``."""
    minor = name.endswith("m")
    root = FLATS.get(name.removesuffix("m"), name.removesuffix("m"))
    plain = root + "m" * minor
    if plain not in CHORDS:
        raise DataError(
            f"no chord {name!r:.40}{did_you_mean(name, CHORDS)}: use a major or minor triad such as C, F#m or Bb, "
            "or other",
            code="unknown",
            path="chords",
            value=name,
        )
    return CHORDS.index(plain)


def chord_of(weights: Float[np.ndarray, " p"], bass: int | None = None) -> int:
    """Return the chord of sounding times of each pitch class, in any unit; ``bass`` is the lowest pitch's class."""
    total = weights.sum()
    if total <= 0:
        return OTHER
    tones = weights[_TONES]  # [24, 3]: root, third, fifth
    share = tones.sum(1) / total
    fit = share + 1e-6 * (np.arange(24) % 12 == bass)
    fit[(tones[:, 1] <= 0) | ((tones > 0).sum(1) < 2) | (share < LEAST_SHARE)] = 0
    best = int(fit.argmax())
    return best if fit[best] > 0 else OTHER


def chords_of(score: Score) -> list[Int[np.ndarray, " beats"]]:
    """Return the chord of each beat of each bar, of all tracks but drums; a beat is a quarter note, the last of a bar
    may be shorter. A chord depends on what sounds within its beat, and on nothing later."""
    weights = np.zeros((score.num_steps, 12))
    lowest = np.full(score.num_steps, 128)
    for track in score.tracks:
        for note in () if track.drums else track.notes:
            weights[note.onset : note.end, note.pitch % 12] += 1
            lowest[note.onset : note.end] = np.minimum(lowest[note.onset : note.end], note.pitch)
    return [
        np.array(
            [
                _chord_within(weights, lowest, at, min(at + score.steps_per_beat, bar.stop))
                for at in range(bar.start, bar.stop, score.steps_per_beat)
            ]
        )
        for bar in score.bars
    ]


def _chord_within(weights: Float[np.ndarray, "s p"], lowest: Int[np.ndarray, " s"], start: int, stop: int) -> int:
    bass = int(lowest[start:stop].min())
    return chord_of(weights[start:stop].sum(0), bass % 12 if bass < 128 else None)


def chords_within(pitch: Int[np.ndarray, "v s"], start: int, stop: int) -> int:
    """Return the chord of the steps [start, stop) of a grid's pitches (-1 is silence)."""
    sounding = pitch[:, start:stop]
    sounding = sounding[sounding >= 0]
    bass = int(sounding.min()) % 12 if sounding.size else None
    return chord_of(np.bincount(sounding % 12, minlength=12).astype(np.float64), bass)
