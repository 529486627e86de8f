"""Grid request: what can be asked of a model of voices over time, and how it becomes a grid to fill.

::

    bars                                   ░░░░░░░░░░░░    nothing known
    score, keep_voices                     ████████████    a voice harmonised: █ stands, ░ is made
                                           ░░░░░░░░░░░░
    score, keep_bars                       ████░░░░████    a gap filled
    score, bars (more than it has)         ████░░░░░░░░    the score goes on
    notes                                  █░░█░░░░█░░░    single notes that stand

What stands is frozen on the canvas, so that no sampler can touch it. Controls say what the rest should be like: a
chord for each bar or beat, notes in a bar and mean pitch of each voice.

Shapes: s steps, q voices, m bars. Masks are True where a cell is known.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor
from unisono import Request
from unisono.errors import RequestError, did_you_mean, raised_as
from unisono.masked import ChoiceTemperatureField, TemperatureField, TopKField, TopPField
from unisono.request import FILE

from unisono_music.corpus import ScoreFacts
from unisono_music.models.tokens import Coding
from unisono_music.scores import Grid, Note, Score, Track, chord_number, density_bin, grid_of, pitch_bin, score_of

MOST_BARS = 1000
MOST_NOTES = 20_000
DEFAULT_BARS = 8
NoteRow = tuple[str, int, int, int]
PerBar = float | list[float | None]


class GridRequest(Request):
    """What can be asked of a grid model."""

    bars: int | None = Field(
        default=None, ge=1, le=MOST_BARS, description="length in bars (default: the score's, else 8)"
    )
    score: str | None = Field(
        default=None, description="path of a MIDI or JSON file of which parts stand", json_schema_extra=FILE
    )
    notes: list[NoteRow] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_NOTES,
        description="instead of a score: notes that stand, [voice, onset, duration, pitch], in steps, such as "
        '[["soprano", 0, 4, 72]]',
    )
    keep_voices: list[str] | None = Field(
        default=None, min_length=1, description="voices of the score, or of notes, that stand wholly"
    )
    keep_bars: list[tuple[int, int]] | None = Field(
        default=None, min_length=1, description="bars of the score that stand, [first, behind the last], from 0"
    )
    chords: list[str] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_BARS,
        description='chords of each bar, such as ["C", "F G", "", "Am"]; spread over its beats, "" is free',
    )
    density: dict[str, PerBar] | None = Field(
        default=None, description="notes in a bar of some voices: a number for all bars, or a list with one for each"
    )
    mean_pitch: dict[str, PerBar] | None = Field(
        default=None, description="mean MIDI pitch of some voices in a bar: a number, or a list with one for each bar"
    )
    bpm: float | None = Field(default=None, ge=4, le=960, description="quarter notes per minute (default: the data's)")
    num_steps: int | None = Field(
        default=None, ge=1, le=1000, description="evaluations for each window (default 32), where a sampler counts them"
    )
    sampler: str = Field(default="choose_then_draw", description="how cells are chosen: a preset of masked decoding")
    guidance_scale: float = Field(
        default=1.0, ge=1, le=20, description="how much more controls count; above 1 every step costs two evaluations"
    )
    temperature: TemperatureField = None
    top_k: TopKField = None
    top_p: TopPField = None
    choice_temperature: ChoiceTemperatureField = None


@dataclass
class Asked:
    """A request as a grid: ``tokens`` [s, q], which of them are ``known``, and controls of each step, 0 where untold.

    ``blank`` is the score without notes; ``given`` are the notes that stand, by (voice, onset, pitch), with the
    velocity that they keep.
    """

    request: GridRequest
    blank: Score
    tokens: Int[Tensor, "s q"]
    known: Bool[Tensor, "s q"]
    place: Int[Tensor, " s"]
    chord: Int[Tensor, " s"]
    density: Int[Tensor, "s q"]
    mean_pitch: Int[Tensor, "s q"]
    given: dict[tuple[int, int, int], int] = field(default_factory=dict)

    def __post_init__(self):
        self.frozen = self.known.clone()

    def score(self, grid: Grid) -> Score:
        """Return a filled grid as a score: notes that were given begin where they did, as loud as they were."""
        return score_with(grid, self.blank, self.given)


def score_with(grid: Grid, blank: Score, given: Mapping[tuple[int, int, int], int]) -> Score:
    """Return a grid as a score in which notes that were ``given``, velocities by (voice, onset, pitch), stand."""
    onset = grid.onset.copy()
    for row, step, pitch in given:
        if step < onset.shape[1] and grid.pitch[row, step] == pitch:
            onset[row, step] = True
    made = score_of(replace(grid, onset=onset), blank)
    tracks = []
    for row, track in enumerate(made.tracks):
        loud = [replace(n, velocity=given.get((row, n.onset, n.pitch), n.velocity)) for n in track.notes]
        tracks.append(replace(track, notes=tuple(loud)))
    return replace(made, tracks=tuple(tracks))


def read_request(facts: ScoreFacts, coding: Coding, request: GridRequest) -> Asked:
    """Return what a request asks, as a grid; raises ``RequestError`` that names the field."""
    given = given_score(facts, request.score, request.notes, request.keep_voices)
    size = facts.steps_per_bar
    length = -(-given.num_steps // size) if given is not None else 0
    bars = _bars(request, length)
    if bars < length:
        raise RequestError(
            f"bars={bars}, and what is given has {length}: ask for at least that, or cut it",
            code="conflict",
            path="bars",
            value=bars,
        )
    steps = bars * size
    blank = facts.blank(steps, _bpm(facts, request, given), given.title if given is not None else "")
    tokens = torch.zeros(steps, len(facts.voices), dtype=torch.int64)
    known = torch.zeros_like(tokens, dtype=torch.bool)
    velocities: dict[tuple[int, int, int], int] = {}
    if given is not None:
        grid = grid_of(given)
        tokens[: given.num_steps] = coding.encode(grid, "score" if request.notes is None else "notes")
        known = _known(facts, request, grid, length, known)
        for row, track in enumerate(given.tracks):
            for note in track.notes:
                if known[note.onset, row]:
                    velocities[row, note.onset, note.pitch] = note.velocity
        tokens = torch.where(known, tokens, 0)
    elif request.keep_voices or request.keep_bars:
        name = "keep_voices" if request.keep_voices else "keep_bars"
        raise RequestError(
            f"{name} says what of a score stands: give one, or notes",
            code="conflict",
            path=name,
            value=getattr(request, name),
        )
    bar = torch.arange(steps) // size
    chord = torch.zeros(steps, dtype=torch.int64)
    if request.chords is not None:
        chord = torch.from_numpy(_chords(facts, request.chords, bars))
    return Asked(
        request, blank, tokens, known, torch.arange(steps) % size, chord,
        _per_bar(facts, request.density, "density", bars)[bar],
        _per_bar(facts, request.mean_pitch, "mean_pitch", bars)[bar], velocities,
    )  # fmt: skip


def _bars(request: GridRequest, length: int) -> int:
    """How many bars the result has."""
    if request.bars is not None:
        return request.bars
    if length:
        return length
    return len(request.chords) if request.chords is not None else DEFAULT_BARS


def _bpm(facts: ScoreFacts, request: GridRequest, given: Score | None) -> float:
    if request.bpm is not None:
        return request.bpm
    return facts.bpm if given is None else given.tempos[0].bpm


# ---- what stands -------------------------------------------------------------------------------


def given_score(
    facts: ScoreFacts, path: str | None, notes: list[NoteRow] | None, keep: list[str] | None = None
) -> Score | None:
    """Return the score at a path, or notes, with a track for each of the model's voices; None where neither is given.

    Raises ``RequestError`` of the field ``score`` or ``notes``. ``keep`` names the voices of a score whose tracks are
    not called so.
    """
    if path is not None and notes is not None:
        raise RequestError(
            "score and notes exclude each other: give one of them", code="conflict", path="notes", value=None
        )
    if notes is not None:
        return _of_notes(facts, notes)
    if path is None:
        return None
    with raised_as(RequestError, "score"):
        score = Score.read(Path(path), facts.steps_per_beat)
    if score.steps_per_beat != facts.steps_per_beat:
        raise RequestError(
            f"the score has {score.steps_per_beat} steps to a beat, this model {facts.steps_per_beat}: "
            "give it as MIDI, which is read on the model's grid",
            code="conflict",
            path="score",
            value=score.steps_per_beat,
        )
    if not score.num_notes:
        raise RequestError("the score has no notes: give one with some", code="empty", path="score")
    for meter in score.meters:
        if meter.steps(score.steps_per_beat) != facts.steps_per_bar:
            raise RequestError(
                f"the score has bars of {meter.beats}/{meter.unit}, this model knows {facts.beats}/{facts.unit}: "
                "give a score, or a part of one, in that signature",
                code="conflict",
                path="score",
                value=f"{meter.beats}/{meter.unit}",
            )
    if score.num_steps > MOST_BARS * facts.steps_per_bar:
        raise RequestError(
            f"the score has {score.num_steps // facts.steps_per_bar} bars: at most {MOST_BARS}; cut it",
            code="limit",
            path="score",
            value=score.num_steps // facts.steps_per_bar,
        )
    voiced = _voiced(facts, score, keep)
    with raised_as(RequestError, "score"):
        grid_of(voiced)
    return voiced


def _of_notes(facts: ScoreFacts, rows: list[NoteRow]) -> Score:
    """Single notes as a score that ends with the last of them."""
    names = [voice.name for voice in facts.voices]
    notes: list[list[Note]] = [[] for _ in names]
    for name, onset, duration, pitch in rows:
        notes[_voice(facts, name, "notes")].append(Note(onset, duration, pitch))
        if not 0 <= onset < MOST_BARS * facts.steps_per_bar or not 1 <= duration <= MOST_BARS * facts.steps_per_bar:
            raise RequestError(
                f"notes hold onset {onset} and duration {duration}: within {MOST_BARS} bars, lasting at least a step",
                code="range",
                path="notes",
                value=(onset, duration),
            )
    end = max(note.end for own in notes for note in own)
    blank = facts.blank(end)
    with raised_as(RequestError, "notes"):
        tracks = tuple(replace(t, notes=tuple(sorted(own))) for t, own in zip(blank.tracks, notes, strict=True))
        score = replace(blank, tracks=tracks)
        grid_of(score)
    return score


def _voiced(facts: ScoreFacts, score: Score, keep: list[str] | None) -> Score:
    """A score's tracks as the model's voices: by their names, else by their order."""
    tracks = [track for track in score.tracks if track.notes]
    names = [voice.name.casefold() for voice in facts.voices]
    own = [track.name.casefold() for track in tracks]
    if set(own) <= set(names) and len(set(own)) == len(own):
        place = {names.index(name): track for name, track in zip(own, tracks, strict=True)}
    elif len(tracks) == len(names):
        place = dict(enumerate(tracks))
    elif keep is not None and len(keep) == len(tracks):
        place = {_voice(facts, name, "keep_voices"): track for name, track in zip(keep, tracks, strict=True)}
    else:
        listed, known = (", ".join(part.name for part in parts) for parts in (tracks[:8], facts.voices))
        raise RequestError(
            f"the score has {len(tracks)} tracks with notes ({listed}), this model the voices {known}: "
            "name the tracks so, give as many, or as many keep_voices",
            code="shape",
            path="score",
            value=len(tracks),
        )
    voices = [
        Track(voice.name, place[row].notes if row in place else (), voice.programme, voice.drums)
        for row, voice in enumerate(facts.voices)
    ]
    return replace(score, tracks=tuple(voices))


def _known(
    facts: ScoreFacts, request: GridRequest, grid: Grid, length: int, known: Bool[Tensor, "s q"]
) -> Bool[Tensor, "s q"]:
    """Which cells stand: of notes their own; of a score the kept voices and bars, or all of it where it goes on."""
    known = known.clone()
    size, given = facts.steps_per_bar, grid.pitch.shape[1]
    if request.notes is not None:
        known[:given] = torch.from_numpy(grid.pitch.T >= 0)
    elif not request.keep_voices and not request.keep_bars:
        if length * size == len(known):
            raise RequestError(
                "say what of the score stands: keep_voices or keep_bars; or ask for more bars than it has, to go on",
                code="missing",
                path="keep_voices",
            )
        known[:given] = True
    for name in request.keep_voices or []:
        known[: length * size, _voice(facts, name, "keep_voices")] = True
    for first, last in request.keep_bars or []:
        if not 0 <= first < last <= length:
            raise RequestError(
                f"keep_bars holds [{first}, {last}]: bars of the score are [0, {length})",
                code="range",
                path="keep_bars",
                value=(first, last),
            )
        known[first * size : last * size] = True
    return known


# ---- controls ----------------------------------------------------------------------------------


def _chords(facts: ScoreFacts, chords: list[str], bars: int) -> Int[np.ndarray, " s"]:
    """The chord of each step, one more than its number; 0 where it is free."""
    if len(chords) != bars:
        raise RequestError(
            f'chords has {len(chords)} bars, the result {bars}: give one entry for each, "" where it is free',
            code="conflict",
            path="chords",
            value=len(chords),
        )
    size, each, beats = facts.steps_per_bar, facts.steps_per_beat, facts.beats_per_bar
    told = np.zeros(bars * size, dtype=np.int64)
    for bar, entry in enumerate(chords):
        names = entry.split()
        if names and beats % len(names):
            raise RequestError(
                f"chords: bar {bar} has {len(names)}, and {beats} beats: give a number that divides them",
                code="shape",
                path="chords",
                value=entry,
            )
        for beat in range(beats if names else 0):
            with raised_as(RequestError, "chords"):
                number = chord_number(names[beat * len(names) // beats])
            told[bar * size + beat * each : min(bar * size + (beat + 1) * each, (bar + 1) * size)] = 1 + number
    return told


def _per_bar(facts: ScoreFacts, asked: dict[str, PerBar] | None, name: str, bars: int) -> Int[Tensor, "m q"]:
    """A control of each bar and voice, one more than its number; 0 where it is free."""
    told = torch.zeros(bars, len(facts.voices), dtype=torch.int64)
    for voice_name, value in (asked or {}).items():
        row = _voice(facts, voice_name, name)
        voice = facts.voices[row]
        values = value if isinstance(value, list) else [value] * bars
        if len(values) != bars:
            raise RequestError(
                f"{name} of {voice.name} has {len(values)} bars, the result {bars}: give a number, or one for each bar",
                code="conflict",
                path=name,
                value=len(values),
            )
        low, high = (0, facts.steps_per_bar) if name == "density" else (voice.lowest, voice.highest)
        for bar, number in enumerate(values):
            if number is None:
                continue
            if not low <= number <= high:
                raise RequestError(
                    f"{name} of {voice.name} is {number:g} in bar {bar}: give {low} to {high}",
                    code="range",
                    path=name,
                    value=number,
                )
            measured = np.array([float(number)])
            if name == "density":
                told[bar, row] = 1 + int(density_bin(measured.round().astype(np.int64))[0])
            else:
                told[bar, row] = 1 + int(pitch_bin(measured, voice.lowest, voice.highest)[0])
    return told


def _voice(facts: ScoreFacts, name: str, path: str) -> int:
    names = [voice.name for voice in facts.voices]
    for row, known in enumerate(names):
        if known.casefold() == name.casefold():
            return row
    raise RequestError(f"no voice {name!r:.40}{did_you_mean(name, names)}", code="unknown", path=path, value=name)
