"""JSON: a score as plain JSON, read and written whole."""

import json
from pathlib import Path
from typing import Annotated, Any

import pydantic
from unisono.errors import DataError
from unisono.files import read_json

from unisono_music.scores.score import Meter, Note, Score, Tempo, Track


def score_of(values: Any, path: str | Path = "score") -> Score:
    """Return the score that ``Score.to_dict`` described; raises ``DataError`` that names what is wrong in it."""
    try:
        read = _Score.model_validate(values)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "score"
        raise DataError(
            f"{path}: {place} is {first['input']!r:.60}: {first['msg']}; expected what Score.to_dict() gives",
            code="format",
            path=place,
        ) from None
    tracks = tuple(
        Track(track.name, tuple(Note(*note) for note in track.notes), track.programme, track.drums)
        for track in read.tracks
    )
    meters = tuple(Meter(meter.start, meter.beats, meter.unit) for meter in read.meters)
    held = tuple((track, pitch) for track, pitch in read.held)
    tempos = tuple(Tempo(tempo.start, tempo.bpm) for tempo in read.tempos)
    return Score(tracks, read.num_steps, read.steps_per_beat, meters, tempos, read.title, 0, held)


def read_score(path: str | Path) -> Score:
    """Read a JSON file that ``Score.save`` wrote; raises ``DataError``."""
    return score_of(read_json(path), path)


def json_text(score: Score) -> str:
    """Return a score as the text of a JSON file."""
    return json.dumps(score.to_dict(), ensure_ascii=False, separators=(",", ":")) + "\n"


class _Form(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)


class _Meter(_Form):
    start: int = 0
    beats: int = 4
    unit: int = 4


class _Tempo(_Form):
    start: int = 0
    bpm: float = 100.0


class _Track(_Form):
    name: str
    notes: list[Annotated[list[int], pydantic.Field(min_length=4, max_length=4)]]
    programme: int = 0
    drums: bool = False


class _Score(_Form):
    tracks: list[_Track]
    num_steps: int
    steps_per_beat: int = 4
    meters: list[_Meter] = pydantic.Field(default_factory=lambda: [_Meter()])
    tempos: list[_Tempo] = pydantic.Field(default_factory=lambda: [_Tempo()])
    title: str = ""
    held: list[Annotated[list[int], pydantic.Field(min_length=2, max_length=2)]] = []
