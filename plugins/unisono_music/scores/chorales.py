"""Chorales: pieces of a few voices as JSON, one pitch for each voice and sixteenth.

The layout is that in which Bach's chorales are passed round: an object of parts (``train``, ``valid``, ``test``),
each a list of pieces, each a list of steps, each a list of MIDI pitches, highest voice first; -1 is silence. It does
not say whether a pitch that goes on is held or struck again: equal pitches side by side are read as one note.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from unisono.errors import DataError
from unisono.files import read_json, shown

from unisono_music.scores.grid import SILENCE, Grid, score_of
from unisono_music.scores.score import MOST_STEPS, Score, Track

VOICES = ("soprano", "alto", "tenor", "bass")
CHOIR, STEPS_PER_BEAT = 52, 4
MOST_VOICES = 16


@dataclass(frozen=True)
class Piece:
    """A piece of the file: its id (part and number), its part, and the score, or why it is none."""

    id: str
    part: str
    score: Score | None
    reason: str = ""
    detail: str = ""


def read_chorales(path: str | os.PathLike, voices: Sequence[str] = VOICES) -> list[Piece]:
    """Read all pieces of a file, with those that are none and why; raises ``DataError`` for another kind of file."""
    content = read_json(path)
    if not isinstance(content, dict) or not content or not all(isinstance(part, list) for part in content.values()):
        raise DataError(
            f'{shown(path)}: expected {{"train": [piece, …], …}}, a piece a list of steps, each a list of pitches',
            code="format",
            path=path,
            value=type(content).__name__,
        )
    pieces = []
    for part, entries in content.items():
        for number, entry in enumerate(entries):
            pieces.append(_piece(f"{part}-{number:03d}", part, entry, voices))
    return pieces


def _piece(id: str, part: str, entry: Any, voices: Sequence[str]) -> Piece:
    def refused(reason: str, detail: str) -> Piece:
        return Piece(id, part, None, reason, detail)

    if not isinstance(entry, list) or not all(isinstance(step, list) for step in entry):
        return refused("not a piece", "expected a list of steps, each a list of pitches")
    if not entry:
        return refused("empty", "no steps")
    if len(entry) > MOST_STEPS:
        return refused("too long", f"{len(entry)} steps of at most {MOST_STEPS}")
    wrong = next((at for at, step in enumerate(entry) if len(step) != len(voices)), None)
    if wrong is not None:
        return refused("other voices", f"{len(entry[wrong])} pitches at step {wrong}, expected {len(voices)}")
    for at, step in enumerate(entry):
        for pitch in step:
            if type(pitch) is not int or not SILENCE <= pitch <= 127:
                return refused("no pitch", f"{pitch!r:.40} at step {at}: pitches are whole, in [0, 127], or -1")
    pitch = np.array(entry, dtype=np.int64).T
    if (pitch == SILENCE).all():
        return refused("empty", "no notes")
    like = Score(tuple(Track(name, programme=CHOIR) for name in voices), pitch.shape[1], STEPS_PER_BEAT, title=id)
    return Piece(id, part, score_of(Grid.of_pitches(pitch), like))
