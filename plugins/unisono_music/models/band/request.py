"""BandRequest: chords, density, pitch and duration for bars and tracks, and how words are drawn."""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from jaxtyping import Int
from pydantic import Field
from torch import Tensor
from unisono import Request
from unisono.errors import RequestError, did_you_mean, raised_as
from unisono.request import FILE

from unisono_music.corpus.facts import ScoreFacts
from unisono_music.models.band.controls import controls_of
from unisono_music.scores import DENSEST, chord_number

OPEN = "?"
"""What a beat reads whose chord is left open."""
BARS = 8

Notes = Annotated[float, Field(ge=0, le=DENSEST)]
Pitch = Annotated[float, Field(ge=0, le=127)]
Steps = Annotated[float, Field(ge=0.25, le=64)]


class BandRequest(Request):
    """What can be asked of a band. A value for a track holds in all bars; a list has one for each bar, null where it is
    open. What is not asked is the model's choice."""

    chords: str | list[str] | None = Field(
        default=None,
        max_length=1 << 16,
        description='chords, bars apart by | or as a list, as in "C | F G | Am | ?": those of a bar share its beats, '
        "? is open; major and minor triads such as F#m, or other",
    )
    bars: int | None = Field(
        default=None, ge=1, le=1024, description=f"how many bars (default: the chords', or {BARS})"
    )
    density: dict[str, Notes | list[Notes | None]] = Field(
        default_factory=dict, description="notes that begin in a bar, by track, as in {soprano: 4, bass: [8, 8, 4, 1]}"
    )
    mean_pitch: dict[str, Pitch | list[Pitch | None]] = Field(
        default_factory=dict, description="mean MIDI pitch in a bar, by track, as in {soprano: 72}"
    )
    mean_duration: dict[str, Steps | list[Steps | None]] = Field(
        default_factory=dict, description="mean duration of the notes of a bar in sixteenths, by track"
    )
    like: str | None = Field(
        default=None,
        description="path of a score (.mid or .json) of the same tracks, whose bars' codes are followed",
        json_schema_extra=FILE,
    )
    bpm: float | None = Field(default=None, ge=20, le=400, description="tempo (default: the corpus')")
    temperature: float = Field(default=1.0, ge=0, le=10, description="of the words' draw; 0 takes the likeliest")
    top_p: float = Field(default=1.0, gt=0, le=1, description="draw from the likeliest words with this probability")

    @property
    def asks(self) -> bool:
        """Whether anything is asked but length, tempo and draw."""
        return any((self.chords, self.density, self.mean_pitch, self.mean_duration, self.like))

    @property
    def bars_of_chords(self) -> list[str]:
        """The chords of each bar that has any said of it."""
        if self.chords is None:
            return []
        return self.chords.split("|") if isinstance(self.chords, str) else self.chords


def bars_of(request: BandRequest, most: int) -> int:
    """Return how many bars are asked for; raises ``RequestError`` for more than ``most``, or fewer than chords."""
    given = len(request.bars_of_chords)
    count = request.bars if request.bars is not None else given or min(BARS, most)
    if given > count:
        raise RequestError(
            f"chords has {given} bars, of bars={count}: leave bars out, or shorten the chords",
            code="conflict",
            path="chords",
            value=given,
        )
    if count > most:
        raise RequestError(f"{count} bars: this model writes at most {most}", code="limit", path="bars", value=count)
    return count


def asked(request: BandRequest, count: int, facts: ScoreFacts, num_codes: int) -> Int[Tensor, "k m f"]:
    """Return the controls of a request for so many bars; raises ``RequestError`` that names the field."""
    chord = np.full((1, count, facts.beats_per_bar), -1, dtype=np.int64)
    for row, text in zip(chord[0], request.bars_of_chords, strict=False):
        row[:] = _beats(text, facts.beats_per_bar)
    density = np.nan_to_num(_by_track("density", request.density, count, facts), nan=-1).round().astype(np.int64)
    pitch = _by_track("mean_pitch", request.mean_pitch, count, facts)
    duration = _by_track("mean_duration", request.mean_duration, count, facts) * (facts.steps_per_beat / 4)
    for column, voice in enumerate(facts.voices):
        low, high = voice.lowest, voice.highest
        outside = (pitch[..., column] < low) | (pitch[..., column] > high)
        if outside.any():
            value = float(pitch[..., column][outside][0])
            raise RequestError(
                f"mean_pitch of {voice.name}={value:g}: that track has the pitches {low} to {high}",
                code="range",
                path="mean_pitch",
                value=value,
            )
        if voice.drums and voice.name in request.mean_pitch:
            raise RequestError(
                f"mean_pitch of {voice.name}: drums have no mean pitch, leave it out",
                code="unsupported",
                path="mean_pitch",
                value=voice.name,
            )
    return controls_of(chord, density[None], pitch[None], duration[None], facts, num_codes)[:, 0]


def _beats(text: str, beats: int) -> list[int]:
    """The chord of each beat of a bar, -1 where it is open."""
    names = text.split() or [OPEN]
    if beats % len(names):
        raise RequestError(
            f"a bar of {len(names)} chords, {text.strip()!r:.60}: a bar has {beats} beats, which they share evenly",
            code="shape",
            path="chords",
            value=text,
        )
    with raised_as(RequestError, "chords"):
        numbers = [-1 if name == OPEN else chord_number(name) for name in names]
    return [number for number in numbers for _ in range(beats // len(names))]


def _by_track(name: str, given: Mapping[str, Any], count: int, facts: ScoreFacts) -> Any:
    """A value for each bar and track [m, k], NaN where it is open."""
    names = [voice.name for voice in facts.voices]
    values = np.full((count, len(names)), np.nan)
    for track, value in given.items():
        if track not in names:
            raise RequestError(
                f"{name} of {track!r:.60}{did_you_mean(track, names)}: the tracks are {', '.join(names)}",
                code="unknown",
                path=name,
                value=track,
            )
        if isinstance(value, list):
            if len(value) != count:
                raise RequestError(
                    f"{name} of {track} has {len(value)} values for {count} bars: give one for each, or one for all",
                    code="shape",
                    path=name,
                    value=len(value),
                )
            values[:, names.index(track)] = [np.nan if entry is None else entry for entry in value]
        else:
            values[:, names.index(track)] = value
    return values
