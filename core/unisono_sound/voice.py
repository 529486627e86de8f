"""Voice: symbols, speakers and front end of a model that speaks; a text read piece by piece.

A text of any length is cut into pieces, so that memory does not grow with it; each is read as symbols with
the pace of each, and what the text's markup asks for. Shapes: s symbols.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from pydantic import Field
from unisono.errors import RequestError, did_you_mean
from unisono.media import Segment
from unisono.request import FILE, Request

from unisono_sound.corpus.facts import SpeechFacts
from unisono_sound.reading import Directed, Reading, directed, hold, prosodies, shown_words, with_written_words
from unisono_sound.text.direction import Director, written_words
from unisono_sound.text.frontend import front_end_of
from unisono_sound.text.lexicon import Lexicon, read_lexicon
from unisono_sound.text.markup import Script, parse
from unisono_sound.text.normalise import Normaliser, normaliser_of
from unisono_sound.text.reader import DirectedFrontEnd, FrontEnd, Symbols, Word
from unisono_sound.text.split import tokenize
from unisono_sound.text.symbols import END, SymbolTable

__all__ = ["SEAM_SECONDS", "MarkedRequest", "Reading", "SpeechRequest", "Voice", "seams", "segments"]

CLOSING = "."
"""The mark with which a text that ends in none is read, by a voice that learnt from texts with marks."""

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
    normalise: bool | None = Field(
        default=None, description="say dates, amounts, units … in words; default: where the voice's language has rules"
    )
    lexicon: str | None = Field(
        default=None, json_schema_extra=FILE, description="a file of word, tab, phonemes: how these words are said"
    )


class MarkedRequest(SpeechRequest):
    """What can be asked of a voice that follows markup."""

    markup: Literal["inline", "none", "ssml", "html", "markdown"] = Field(
        default="inline",
        description="what the text is: plain with [0.5s] and [word](/phonemes/), without, or of a kind",
    )


@dataclass
class Voice:
    """What an acoustic model knows of language: its symbols, its speakers, its front end.

    ``normaliser`` is that of the language; assign one to replace it, None for none. ``closes`` says that the texts
    which the voice learnt from end in marks, most of them. The silence behind a last word is that mark's then: without
    it the word breaks off, so that a text which ends in none is read as if it ended in a full stop.
    """

    facts: SpeechFacts
    symbols: list[str]
    speakers: list[str]
    _front_end: FrontEnd | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.normaliser: Normaliser | None = normaliser_of(getattr(self.facts, "language", ""))
        known = [*(getattr(self.facts, "held_out", None) or ()), *(getattr(self.facts, "sample_texts", None) or ())]
        self.closes = 2 * sum(map(_ends_in_a_mark, known)) > len(known)
        self._table = SymbolTable(self.symbols)
        self._lexicon = Lexicon.from_rows(getattr(self.facts, "lexicon", None) or (), self._table)

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

    def words(self, request: SpeechRequest) -> list[Word]:
        """Return the written words of a request's text with their places in it: those that ``Audio.words`` times."""
        return list(written_words(script_of(request)))

    def read(self, request: SpeechRequest, limit: int, first_limit: int | None = None) -> Iterator[Reading]:
        """Yield the pieces of a request's text as symbols."""
        speaker, script = self.speaker_id(request.speaker), script_of(request)
        director = self._director(request, script)
        paces = self._word_paces(request, script)
        done, goes_on, first = 0, False, True
        for one in directed(script, director, limit, first_limit):
            piece = one.piece
            read = self._symbols(one)
            told = isinstance(self.front_end, DirectedFrontEnd)
            symbols = with_written_words(read, script, piece.start) if told else read
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
            ids = self._table.encode(symbols.symbols)
            begin, end = script.written(piece.start, piece.end)
            reading = Reading(request, symbols, ids, speaker, pace, piece.pause, end - begin, goes_on, piece.cut)
            reading.text, reading.spans = shown_words(read, script, piece)
            if script.runs:
                found = prosodies(read, script, piece.start)
                reading.pace = [own * prosody.rate for own, prosody in zip(pace, found, strict=True)]
                reading.pitch = [prosody.pitch for prosody in found]
                reading.volume = [prosody.volume for prosody in found]
            if script.breaks:
                spec = self.facts.mel_spec
                last = piece.end == len(script.text)
                reading.held = hold(read, one, spec.hop_length / spec.sample_rate, first, last)
                if one.behind is not None:
                    reading.pause, reading.goes_on_after = 0.0, False
                reading.goes_on_before = goes_on and one.before is None
            yield reading
            goes_on, first = reading.goes_on_after, False

    def _symbols(self, one: Directed) -> Symbols:
        text = one.piece.text
        symbols = self.front_end.read(text, one.said) if one.said else self.front_end(text)  # type: ignore[attr-defined]
        unknown = sorted({symbol for symbol in symbols.symbols if symbol not in self._table})
        if unknown:
            message = f"this voice has no symbol {unknown[0]!r}, needed for {text.strip()[:40]!r}"
            raise RequestError(message, code="unknown", path="text", value=unknown[0])
        marks = isinstance(self.front_end, DirectedFrontEnd)  # another one may leave out what it is given
        return closed(symbols) if self.closes and marks and not one.piece.cut else symbols

    def _director(self, request: SpeechRequest, script: Script) -> Director:
        """Return what says how words are said. Raises ``RequestError`` for what the front end cannot be told."""
        language = getattr(self.front_end, "language", getattr(self.facts, "language", ""))
        lexicon = self._lexicon
        if request.lexicon is not None:
            lexicon = read_lexicon(request.lexicon, self._table).over(lexicon)
        normaliser = self.normaliser if request.normalise is not False else None
        if request.normalise and normaliser is None:
            message = f"there are no rules for {language!r}: leave normalise out, and write numbers in words"
            raise RequestError(message, code="unsupported", path="normalise", value=True)
        if request.normalise is None and not getattr(self.front_end, "normalises", False):
            normaliser = None
        if not isinstance(self.front_end, DirectedFrontEnd):
            asked = {"normalise": bool(request.normalise), "lexicon": bool(lexicon.entries), "markup": script.directs}
            for field_name, wanted in asked.items():
                if wanted:
                    message = f"this voice's front end cannot be told how to say words: leave {field_name} out"
                    raise RequestError(message, code="unsupported", path=field_name, value=True)
        return Director(language, self._table, normaliser, lexicon)

    @staticmethod
    def _word_paces(request: SpeechRequest, script: Script) -> list[float] | None:
        if request.word_paces is None:
            return None
        words = sum(1 for _ in written_words(script))
        if len(request.word_paces) != words:
            message = f"word_paces has {len(request.word_paces)} numbers, the text has {words} words: give one per word"
            raise RequestError(message, code="shape", path="word_paces", value=len(request.word_paces))
        for number in request.word_paces:
            if not 0.25 <= number <= 4.0:
                message = f"word_paces holds {number!r}: each must be from 0.25 to 4"
                raise RequestError(message, code="range", path="word_paces", value=number)
        return request.word_paces


def closed(symbols: Symbols) -> Symbols:
    """Return symbols whose last word has a mark behind it: their own, or a full stop that belongs to no word."""
    if symbols.symbols[-1] != END or symbols.word_of[-2] < 0:
        return symbols
    return replace(
        symbols, symbols=(*symbols.symbols[:-1], CLOSING, END), word_of=(*symbols.word_of[:-1], -1, symbols.word_of[-1])
    )


def _ends_in_a_mark(text: str) -> bool:
    tokens = list(tokenize(text))
    return bool(tokens and tokens[-1].pause)


def script_of(request: SpeechRequest) -> Script:
    """Return what a request's text says, by its markup; a request without the field has none."""
    return parse(request.text, request.markup if isinstance(request, MarkedRequest) else "none")


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
