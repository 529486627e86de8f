"""Voice: symbols, speakers and front end of a model that speaks; a text read piece by piece.

A text of any length is cut into pieces, so that memory does not grow with it; each is read as symbols with
the pace of each. Shapes: s symbols.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import Field
from unisono.errors import RequestError, did_you_mean
from unisono.media import Segment
from unisono.request import Request

from unisono_sound.corpus.facts import SpeechFacts
from unisono_sound.text.frontend import FrontEnd, Symbols, front_end_of
from unisono_sound.text.split import split_text, tokenize

__all__ = ["SEAM_SECONDS", "Reading", "SpeechRequest", "Voice", "seams", "segments"]

SEAM_SECONDS = 0.02
"""The silence that stays on either side of a cut within a phrase: 40 ms in all, as long as a stop consonant."""


class SpeechRequest(Request):
    """What can be asked of a voice."""

    text: str = Field(description="what to say; any length")
    speaker: str | None = Field(default=None, description="who says it; default: the voice's first speaker")
    pace: float = Field(default=1.0, ge=0.25, le=4.0, description="speed: 2 is twice as fast")
    word_paces: list[float] | None = Field(
        default=None, description="speed of each written word, times pace; as many numbers (0.25 to 4) as words"
    )


@dataclass
class Reading:
    """One piece of a text, as symbols with their controls.

    ``pace`` is per symbol; ``pause`` in seconds; ``characters`` is the piece's share of the text. ``text`` is the piece
    as it is shown to a reader, and ``spans`` are the places in it of ``symbols.words``.
    ``goes_on_before`` and ``goes_on_after`` hold where the piece was cut off another within a phrase.
    """

    request: Any
    symbols: Symbols
    ids: list[int]
    speaker: int
    pace: list[float]
    pause: float
    characters: int
    goes_on_before: bool = False
    goes_on_after: bool = False
    text: str = ""
    spans: Sequence[tuple[int, int]] = ()


@dataclass
class Voice:
    """What an acoustic model knows of language: its symbols, its speakers, its front end."""

    facts: SpeechFacts
    symbols: list[str]
    speakers: list[str]
    _front_end: FrontEnd | None = field(default=None, repr=False)

    @classmethod
    def from_facts(cls, facts: SpeechFacts) -> "Voice":
        """Return what facts about speech say of a voice."""
        return cls(facts, list(facts.symbols), list(facts.speakers))

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
            message = f"unknown speaker {name!r}{did_you_mean(name, self.speakers)}"
            raise RequestError(message, code="unknown", path="speaker", value=name)
        return self.speakers.index(name)

    def read(self, request: SpeechRequest, limit: int, first_limit: int | None = None) -> Iterator[Reading]:
        """Yield the pieces of a request's text as symbols."""
        speaker = self.speaker_id(request.speaker)
        ids = {symbol: index for index, symbol in enumerate(self.symbols)}
        paces = self._word_paces(request)
        done, cut = 0, False
        for piece in split_text(request.text, limit, first_limit):
            symbols = self.front_end(piece.text)
            unknown = sorted(set(symbols.symbols) - ids.keys())
            if unknown:
                message = f"this voice has no symbol {unknown[0]!r}, needed for {piece.text.strip()[:40]!r}"
                raise RequestError(message, code="unknown", path="text", value=unknown[0])
            pace = [request.pace] * len(symbols)
            if paces is not None:
                if done + len(symbols.words) > len(paces):
                    message = (
                        f"word_paces cannot be told apart in {piece.text.strip()[:40]!r}, which reads as more words "
                        "than are written: set pace instead"
                    )
                    raise RequestError(message, code="unsupported", path="word_paces", value=piece.text.strip())
                for index, word in enumerate(symbols.word_of):
                    if word >= 0:
                        pace[index] *= paces[done + word]
                done += len(symbols.words)
            rows = [ids[s] for s in symbols.symbols]
            reading = Reading(request, symbols, rows, speaker, pace, piece.pause, len(piece.text), cut, piece.cut)
            reading.text, reading.spans = piece.text, [(word.start, word.end) for word in symbols.words]
            yield reading
            cut = piece.cut

    @staticmethod
    def _word_paces(request: SpeechRequest) -> list[float] | None:
        if request.word_paces is None:
            return None
        words = sum(1 for _ in tokenize(request.text))
        if len(request.word_paces) != words:
            message = f"word_paces has {len(request.word_paces)} numbers, the text has {words} words: give one per word"
            raise RequestError(message, code="shape", path="word_paces", value=len(request.word_paces))
        for number in request.word_paces:
            if not 0.25 <= number <= 4.0:
                message = f"word_paces holds {number!r}: each must be from 0.25 to 4"
                raise RequestError(message, code="range", path="word_paces", value=number)
        return request.word_paces


def seams(reading: Reading, borders: np.ndarray) -> tuple[float, float]:
    """Return where the sound of a piece begins and ends, in seconds; ``borders`` as of ``segments``.

    A piece opens and closes with the silence of an utterance. Where it was cut within a phrase, nearly all of that
    silence goes.
    """
    first, last = 0.0, float(borders[-1])
    if reading.goes_on_before:
        first = max(float(borders[1]) - SEAM_SECONDS, 0.0)
    if reading.goes_on_after:
        last = min(float(borders[-2]) + SEAM_SECONDS, last)
    return first, last


def segments(
    symbols: Symbols, borders: np.ndarray, spans: Sequence[tuple[int, int]] | None = None
) -> tuple[Segment, ...]:
    """Return the phonemes and words of what was said; ``borders`` are the symbols' [s + 1], in seconds.

    ``spans`` are the words' places in the text of the sound, as of ``Reading``; None where they are not known.
    """
    phonemes = [
        Segment(symbol, float(borders[i]), float(borders[i + 1]))
        for i, symbol in enumerate(symbols.symbols)
        if borders[i + 1] > borders[i]
    ]
    words = []
    for index, word in enumerate(symbols.words):
        own = [i for i, owner in enumerate(symbols.word_of) if owner == index]
        if own:
            start, end = float(borders[own[0]]), float(borders[own[-1] + 1])
            words.append(Segment(word.text, start, end, "word", spans[index] if spans else None))
    return tuple(phonemes + words)
