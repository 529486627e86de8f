"""From a request to sound: reading a text piece by piece, speaking the pieces in batches, joining them.

Every acoustic model of this plugin speaks through here. A text of any length is cut into pieces, so that
memory does not grow with it, and streaming is the same path with a batch of one.

Shapes: b batch, s symbols, t frames, m mel bins, n samples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from pydantic import Field
from unisono import Audio, Request, Segment
from unisono.audio import GriffinLim, MelSpec
from unisono.errors import RecipeError, RequestError, did_you_mean
from unisono.media import Curve
from unisono.model import OnStep

from unisono_tts.text import FrontEnd, Symbols, front_end_of, split_text, tokenize
from unisono_tts.text.symbols import PAUSES, SPECIALS

PIECES_AT_ONCE = 32
"""Pieces in memory at a time; they are sorted by length and spoken in batches of a quarter of it."""

FIRST_PIECE_CHARACTERS = 48
"""The first piece of a stream is short, so that the first sound comes early."""


class SpeechRequest(Request):
    """What can be asked of a voice."""

    text: str = Field(description="what to say; any length")
    speaker: str | None = Field(None, description="who says it; default: the voice's first speaker")
    pace: float = Field(1.0, ge=0.25, le=4.0, description="speed: 2 is twice as fast")
    word_paces: list[float] | None = Field(
        None, description="speed of each written word, times pace; as many numbers (0.25 to 4) as words"
    )


@dataclass
class Reading:
    """One piece of a text, as symbols with their controls.

    ``pace`` is per symbol; ``pause`` in seconds; ``characters`` is the piece's share of the text.
    """

    request: Any
    symbols: Symbols
    ids: list[int]
    speaker: int
    pace: list[float]
    pause: float
    characters: int


@dataclass
class Voice:
    """What an acoustic model knows of language: its symbols, its speakers, its front end."""

    facts: dict[str, Any]
    symbols: list[str]
    speakers: list[str]
    _front_end: FrontEnd | None = field(default=None, repr=False)

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> "Voice":
        return cls(facts, list(facts["symbols"]), list(facts["speakers"]))

    @property
    def front_end(self) -> FrontEnd:
        """The front end that the voice was trained with; made on first use. Assign one to replace it."""
        if self._front_end is None:
            self._front_end = front_end_of(self.facts)
        return self._front_end

    @front_end.setter
    def front_end(self, value: FrontEnd) -> None:
        self._front_end = value

    def speaker_id(self, name: str | None) -> int:
        """Return a speaker's row; None is the first."""
        if name is None:
            return 0
        if name not in self.speakers:
            raise RequestError(f"unknown speaker {name!r}{did_you_mean(name, self.speakers)}")
        return self.speakers.index(name)

    def read(self, request: SpeechRequest, limit: int, first_limit: int | None = None) -> Iterator[Reading]:
        """Yield the pieces of a request's text as symbols."""
        speaker = self.speaker_id(request.speaker)
        ids = {symbol: index for index, symbol in enumerate(self.symbols)}
        paces = self._word_paces(request)
        done = 0
        for piece in split_text(request.text, limit, first_limit):
            symbols = self.front_end(piece.text)
            unknown = sorted(set(symbols.symbols) - ids.keys())
            if unknown:
                raise RequestError(f"this voice has no symbol {unknown[0]!r}, needed for {piece.text.strip()[:40]!r}")
            pace = [request.pace] * len(symbols)
            if paces is not None:
                if done + len(symbols.words) > len(paces):
                    raise RequestError(
                        f"word_paces cannot be told apart in {piece.text.strip()[:40]!r}, which reads as more words "
                        "than are written: set pace instead"
                    )
                for index, word in enumerate(symbols.word_of):
                    if word >= 0:
                        pace[index] *= paces[done + word]
                done += len(symbols.words)
            rows = [ids[s] for s in symbols.symbols]
            yield Reading(request, symbols, rows, speaker, pace, piece.pause, len(piece.text))

    @staticmethod
    def _word_paces(request: SpeechRequest) -> list[float] | None:
        if request.word_paces is None:
            return None
        words = sum(1 for _ in tokenize(request.text))
        if len(request.word_paces) != words:
            raise RequestError(
                f"word_paces has {len(request.word_paces)} numbers, the text has {words} words: give one per word"
            )
        for number in request.word_paces:
            if not 0.25 <= number <= 4.0:
                raise RequestError(f"word_paces holds {number!r}: each must be from 0.25 to 4")
        return request.word_paces

    def check_vocoder(self, vocoder: Any) -> None:
        """Refuse a vocoder made for another mel spectrogram."""
        mine, its = MelSpec.from_dict(self.facts["mel_spec"]), getattr(vocoder, "mel_spec", None)
        if its != mine:
            raise RecipeError(f"the vocoder is for {its}, this model speaks {mine}: train one of them again")


def speak(model: Any, requests: Sequence[SpeechRequest], on_step: OnStep | None = None) -> list[Audio]:
    """Speak requests of any length; pieces of all of them share batches.

    ``on_step`` counts characters: how many pieces a text has is not known before all of it is read.
    """

    def pieces() -> Iterator[tuple[int, Reading]]:
        for owner, request in enumerate(requests):
            for reading in model.voice.read(request, model.max_piece_characters):
                yield owner, reading

    spoken: list[list[Audio]] = [[] for _ in requests]
    source = pieces()
    done, total = 0, sum(len(request.text) for request in requests)
    while window := list(islice(source, PIECES_AT_ONCE)):
        order = sorted(range(len(window)), key=lambda i: len(window[i][1].ids))
        made: dict[int, Audio] = {}
        size = PIECES_AT_ONCE // 4
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            made |= dict(zip(chosen, speak_batch(model, [window[i][1] for i in chosen]), strict=True))
            done += sum(window[i][1].characters for i in chosen)
            if on_step is not None:
                on_step(done, total)
        for index, (owner, _) in enumerate(window):
            spoken[owner].append(made[index])
    return [Audio.join(parts) for parts in spoken]


def stream(model: Any, request: SpeechRequest) -> Iterator[Audio]:
    """Yield the audio of each piece as soon as it is spoken, the first piece a short one."""
    for reading in model.voice.read(request, model.max_piece_characters, FIRST_PIECE_CHARACTERS):
        yield speak_batch(model, [reading])[0]


def speak_batch(model: Any, readings: Sequence[Reading]) -> list[Audio]:
    """Speak pieces in one padded batch and describe what was said."""
    lengths = torch.tensor([len(reading.ids) for reading in readings], device=model.device)
    ids = torch.zeros(len(readings), int(lengths.max()), dtype=torch.int64)
    for row, reading in enumerate(readings):
        ids[row, : len(reading.ids)] = torch.tensor(reading.ids)
    said = model.say(ids.to(model.device), lengths, readings)
    waves = model.vocoder.decode(said.mel, said.alignment.tgt_lengths).float().cpu().numpy()
    rate, hop = model.mel_spec.sample_rate, model.mel_spec.hop_length
    ends = said.alignment.ends.double().cpu().numpy() * hop / rate
    tracks = {name: track.float().cpu().numpy() for name, track in said.tracks.items()}
    audios = []
    for row, reading in enumerate(readings):
        samples = int(said.alignment.tgt_lengths[row]) * hop
        silence = np.zeros(round(reading.pause * rate), dtype=np.float32)
        wave = np.concatenate([waves[row, :samples], silence])[None]
        borders = np.concatenate([[0.0], ends[row, : len(reading.ids)]])
        own = {name: track[row, : len(reading.ids)] for name, track in tracks.items()}
        audios.append(Audio(wave, rate, _segments(reading.symbols, borders), _curves(reading.symbols, borders, own)))
    return audios


def griffin_lim(facts: dict[str, Any]) -> GriffinLim:
    """The built-in vocoder without weights, by explicit choice only."""
    return GriffinLim(MelSpec.from_dict(facts["mel_spec"]))


def _segments(symbols: Symbols, borders: np.ndarray) -> tuple[Segment, ...]:
    phonemes = [
        Segment(symbol, float(borders[i]), float(borders[i + 1]))
        for i, symbol in enumerate(symbols.symbols)
        if borders[i + 1] > borders[i]
    ]
    words = []
    for index, word in enumerate(symbols.words):
        own = [i for i, owner in enumerate(symbols.word_of) if owner == index]
        if own:
            words.append(Segment(word.text, float(borders[own[0]]), float(borders[own[-1] + 1]), "word"))
    return tuple(phonemes + words)


def _curves(symbols: Symbols, borders: np.ndarray, tracks: dict[str, np.ndarray]) -> dict[str, Curve]:
    """Per-symbol pitch and energy as curves over time, undefined in pauses."""
    silent = np.array([symbol in SPECIALS or symbol in PAUSES for symbol in symbols.symbols])
    units = {"pitch": "Hz", "energy": "dB"}
    curves = {}
    for name, unit in units.items():
        if name in tracks:
            values = np.where(silent, np.nan, tracks[name])
            times = np.stack([borders[:-1], borders[1:]], axis=1).ravel()
            curves[name] = Curve(times, np.repeat(values, 2), unit)
    return curves
