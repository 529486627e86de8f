"""Scan request: what can be asked of a state-space model: so many bars, from nothing or going on from a beginning.

::

    bars             ░░░░░░░░░░░░    from nothing
    score, bars      ████░░░░░░░░    the beginning █ stands, ░ is written
    notes, bars      ███░░░░░░░░░    likewise; a voice without a note is silent, up to the end of the last note

Shapes: n steps, q voices.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor
from unisono import Request
from unisono.errors import RequestError
from unisono.request import FILE

from unisono_music.corpus import ScoreFacts
from unisono_music.models.request import DEFAULT_BARS, MOST_BARS, MOST_NOTES, NoteRow, given_score, score_with
from unisono_music.models.scan.steps import whole_bars
from unisono_music.models.tokens import Coding
from unisono_music.scores import Score, grid_of


class ScanRequest(Request):
    """What can be asked of a state-space model."""

    bars: int | None = Field(
        default=None, ge=1, le=MOST_BARS, description="length in bars, beginning included (default: 8 beyond it)"
    )
    score: str | None = Field(
        default=None, description="path of a MIDI or JSON file that is gone on from", json_schema_extra=FILE
    )
    notes: list[NoteRow] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_NOTES,
        description="instead of a score: the notes of a beginning, [voice, onset, duration, pitch], in steps, such as "
        '[["soprano", 0, 4, 72], ["bass", 0, 4, 48]]',
    )
    bpm: float | None = Field(default=None, ge=4, le=960, description="quarter notes per minute (default: the data's)")
    temperature: float = Field(
        default=1.0, ge=0, le=10, description="of the draw of each note; 0 takes the likeliest ones"
    )


class VSSMRequest(ScanRequest):
    """What can be asked of a VSSM."""

    latent_temperature: float = Field(
        default=1.0, ge=0, le=10, description="what deviations of the latents from 0 are multiplied with"
    )
    block_bars: int | None = Field(
        default=None,
        ge=1,
        le=MOST_BARS,
        description="bars written in one evaluation; those behind them read what was written (default: all bars)",
    )


@dataclass(frozen=True, eq=False)
class Asked:
    """A request as steps: ``tokens`` [n, q], of which the first ``given`` steps stand; where each step is; and
    the score without notes, with velocities of what is given by (voice, onset, pitch)."""

    tokens: Int[Tensor, "n q"]
    given: int
    place: Int[Tensor, " n"]
    bar: Int[Tensor, " n"]
    blank: Score
    velocities: dict[tuple[int, int, int], int]

    def score(self, tokens: Int[Tensor, "n q"], coding: Coding) -> Score:
        """Return the first steps of it, written, as a score."""
        return score_with(coding.decode(tokens), self.blank, self.velocities)


def asked(request: ScanRequest, facts: ScoreFacts, coding: Coding) -> Asked:
    """Return a request as steps; raises ``RequestError`` that names the field."""
    beginning = given_score(facts, request.score, request.notes)
    size = facts.steps_per_bar
    given = 0 if beginning is None else beginning.num_steps
    bars = request.bars if request.bars is not None else min(-(-given // size) + DEFAULT_BARS, MOST_BARS)
    steps = bars * size
    if steps <= given:
        raise RequestError(
            f"bars={bars}, and the beginning has {-(-given // size)}: ask for more, or shorten the beginning",
            code="conflict",
            path="bars",
            value=bars,
        )
    tokens = torch.zeros(steps, len(facts.voices), dtype=torch.int64)
    velocities: dict[tuple[int, int, int], int] = {}
    bpm, title = facts.bpm, ""
    if beginning is not None:
        tokens[:given] = coding.encode(grid_of(beginning), "score" if request.notes is None else "notes")
        bpm, title = beginning.tempos[0].bpm, beginning.title
        for row, track in enumerate(beginning.tracks):
            velocities |= {(row, note.onset, note.pitch): note.velocity for note in track.notes}
    place, bar = whole_bars(steps, size)
    blank = facts.blank(steps, bpm if request.bpm is None else request.bpm, title)
    return Asked(tokens, given, place, bar, blank, velocities)
