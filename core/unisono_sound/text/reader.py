"""Reader: what a front end returns, what it can be told, and what it puts its symbols together with."""

import logging
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from unisono_sound.text.signs import is_picture
from unisono_sound.text.split import Token, nothing_to_speak
from unisono_sound.text.symbols import END, PAUSES, SPACE, START, SymbolTable

__all__ = ["AS_WRITTEN", "Builder", "DirectedFrontEnd", "FrontEnd", "Said", "Symbols", "Word"]

logger = logging.getLogger("unisono")


@dataclass(frozen=True)
class Word:
    """A written word and where it stands: ``text == whole[start:end]``."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Symbols:
    """What a text is read as. ``word_of[i]`` is the index into ``words`` of symbol i; −1 for pauses
    and spaces.

    ``symbols`` opens with ``<start>`` and closes with ``<end>``: the silence around an utterance is
    theirs. ``skipped`` holds the pictures (emoji, ornaments) that were passed over; the log says so, too.
    """

    symbols: tuple[str, ...]
    words: tuple[Word, ...]
    word_of: tuple[int, ...]
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.symbols)


@dataclass(frozen=True)
class Said:
    """How a written word is said where it is not read as it is written.

    Attributes:
        words: other words that are read in its place.
        symbols: its symbols, in groups between which a space stands; they win over ``words``.
        pause: one of ``PAUSES`` that stands behind it, whatever is written.
    """

    words: str | None = None
    symbols: tuple[tuple[str, ...], ...] | None = None
    pause: str | None = None


AS_WRITTEN = Said()
"""How all other words are said."""


class FrontEnd(Protocol):
    """What a model and a corpus need of a front end."""

    name: str
    language: str
    version: str
    table: SymbolTable

    def __call__(self, text: str) -> Symbols:
        """Read a text; ``RequestError`` where there is nothing to speak or a character cannot be
        spoken.
        """
        ...


@runtime_checkable
class DirectedFrontEnd(Protocol):
    """A front end that can be told how words are said."""

    def read(self, text: str, said: Mapping[tuple[int, int], Said]) -> Symbols:
        """Read a text whose words at the given places are said otherwise."""
        ...


class Builder:
    """Collects words and pauses into ``Symbols``."""

    def __init__(self, text: str):
        self.text = text
        self.symbols: list[str] = [START]
        self.word_of: list[int] = [-1]
        self.words: list[Word] = []

    def word(self, token: Token, groups: Sequence[Sequence[str]]) -> None:
        for group in groups:
            if self.symbols[-1] not in (START, SPACE, *PAUSES):
                self._add(SPACE, -1)
            for symbol in group:
                self._add(symbol, len(self.words))
        self.words.append(Word(token.text, token.start, token.end))
        if token.pause:
            self.pauses([token.pause])

    def pauses(self, marks: Sequence[str]) -> None:
        for mark in marks:
            self._add(mark, -1)

    def _add(self, symbol: str, word: int) -> None:
        self.symbols.append(symbol)
        self.word_of.append(word)

    def close(self) -> Symbols:
        if not any(word >= 0 for word in self.word_of):
            raise nothing_to_speak(self.text)
        self._add(END, -1)
        skipped = tuple(dict.fromkeys(c for c in self.text if is_picture(c) and unicodedata.category(c) == "So"))
        if skipped:
            names = ", ".join(unicodedata.name(c, f"U+{ord(c):04X}") for c in skipped[:5])
            logger.warning("not spoken, since pictures have no words: %s", names)
        return Symbols(tuple(self.symbols), tuple(self.words), tuple(self.word_of), skipped)
