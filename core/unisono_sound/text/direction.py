"""Direction: how each word of a script is said: as it is written, by other words, by phonemes, or in another language.

For each written word the first of these that there is: its phonemes within the text, those of a lexicon, the words of
``say-as`` or of the normaliser, and else what the front end makes of it.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from unisono.errors import RequestError

from unisono_sound.text.frontend import EspeakFrontEnd, FrontEnd
from unisono_sound.text.lexicon import Lexicon, phonemes_as_symbols
from unisono_sound.text.markup import Script
from unisono_sound.text.normalise import Normaliser, normaliser_of, said_as, said_by_kind
from unisono_sound.text.reader import Said, Symbols, Word
from unisono_sound.text.split import Token, tokenize
from unisono_sound.text.symbols import SPACE, SymbolTable

__all__ = ["Director", "PronouncingFrontEnd", "lexicon_rows", "symbols_of_words", "written_words"]

MOST_TOKENS = 400
"""A sentence of more words is normalised in parts."""


def written_words(script: Script) -> Iterator[Word]:
    """Yield the words of a script as they are written, with their places in the text as given."""
    last = None
    for token in tokenize(script.text):
        atom = script.atom(token.start)
        if atom is None:
            yield Word(token.text, *script.written(token.start, token.end))
        elif atom != last:
            written = script.atoms[atom]
            yield Word(written.label, written.at, written.stop)
        last = atom


@dataclass
class Director:
    """Decides how the words of a text are said, for one language, one table of symbols and one lexicon.

    ``normaliser`` is None where words are not normalised.
    """

    language: str
    table: SymbolTable
    normaliser: Normaliser | None = None
    lexicon: Lexicon = field(default_factory=Lexicon)
    _others: dict[str, tuple[FrontEnd, "Director"]] = field(default_factory=dict, repr=False)

    def sentences(self, script: Script) -> Iterator[list[tuple[Token, Said | None]]]:
        """Yield the words of each sentence with how they are said, None as they are written."""
        sentence: list[Token] = []
        for token in tokenize(script.text):
            self._check_edges(script, token)
            sentence.append(token)
            if token.level >= 2 or len(sentence) >= MOST_TOKENS:
                yield self._directed(script, sentence)
                sentence = []
        if sentence:
            yield self._directed(script, sentence)

    def _directed(self, script: Script, sentence: list[Token]) -> list[tuple[Token, Said | None]]:
        if not self.lexicon.entries and self.normaliser is None and script.places is None:
            return [(token, None) for token in sentence]
        said: list[Said | None] = []
        for language, group in groupby(sentence, lambda token: script.language(token.start)):
            tokens = list(group)
            if language and language != self.language:
                said += self._spoken(script, tokens, language)
            else:
                said += self._said(script, tokens)
        return list(zip(sentence, said, strict=True))

    def _said(self, script: Script, tokens: Sequence[Token]) -> list[Said | None]:
        shown = [self._as_labelled(script, token) for token in tokens]
        words: list[str | None] = [None] * len(tokens)
        kinds = [_kind_at(script, token) for token in tokens]
        for number, group in groupby(range(len(tokens)), lambda index: kinds[index]):
            own = list(group)
            stretch = shown[own[0] : own[-1] + 1]
            if number is not None:
                kind = script.says[number]
                words[own[0] : own[-1] + 1] = said_by_kind(stretch, self.language, kind.kind, kind.format)
            elif self.normaliser is not None:
                words[own[0] : own[-1] + 1] = said_as(self.normaliser, stretch, self.language)
        said: list[Said | None] = []
        for token, form in zip(tokens, words, strict=True):
            atom = script.atom(token.start)
            phonemes = None if atom is None else script.atoms[atom].phonemes
            groups = self.lexicon.of(token.text, self.language) if phonemes is None else self._symbols(phonemes)
            said.append(Said(form, groups) if form or groups else None)
        return said

    def _symbols(self, phonemes: str) -> tuple[tuple[str, ...], ...]:
        return phonemes_as_symbols(phonemes, self.table)

    @staticmethod
    def _as_labelled(script: Script, token: Token) -> Token:
        """A word that phonemes are given for is, for its neighbours, what is written."""
        atom = script.atom(token.start)
        if atom is None or script.atoms[atom].phonemes is None:
            return token
        return replace(token, text=script.atoms[atom].label)

    def _spoken(self, script: Script, tokens: Sequence[Token], language: str) -> list[Said | None]:
        """Read a stretch in another language; its words are said by the symbols that it has there."""
        reader, director = self._other(language)
        start, end = tokens[0].start, tokens[-1].after
        said = {
            (token.start - start, token.end - start): one
            for token, one in zip(tokens, director._said(script, tokens), strict=True)
            if one is not None
        }
        read = reader.read(script.text[start:end], said)  # type: ignore[attr-defined]
        groups = symbols_of_words(read)
        if len(groups) != len(tokens):
            shown = script.text[start:end].strip()[:60]
            message = (
                f"{shown!r} has {len(tokens)} words, and {len(groups)} in {language!r}: put <lang> around fewer words"
            )
            raise RequestError(message, code="shape", path="text", value=shown)
        return [Said(symbols=own) for own in groups]

    def _other(self, language: str) -> tuple[FrontEnd, "Director"]:
        if language not in self._others:
            if "ˈ" not in self.table:
                message = f"this voice reads letters, not phonemes, and cannot change to {language!r}: leave <lang> out"
                raise RequestError(message, code="unsupported", path="text", value=language)
            try:
                reader = EspeakFrontEnd(language)
            except RequestError:
                reader = EspeakFrontEnd(language.split("-")[0])  # of a region that it has no dictionary for
            normaliser = None if self.normaliser is None else normaliser_of(reader.language)
            self._others[language] = reader, Director(reader.language, self.table, normaliser, self.lexicon)
        return self._others[language]

    @staticmethod
    def _check_edges(script: Script, token: Token) -> None:
        if script.places is None:
            return
        edges = script.edges
        found = bisect_right(edges, token.start)
        if found < len(edges) and edges[found] < token.end:
            message = f"an element begins or ends within the word {token.text[:40]!r}: put it around whole words"
            raise RequestError(message, code="value", path="text", value=token.text)


class PronouncingFrontEnd:
    """A front end whose words are said as a director says; its version names lexicon and rules."""

    def __init__(self, reader: FrontEnd, director: Director):
        self.reader, self.director = reader, director
        self.name, self.language, self.table = reader.name, reader.language, reader.table
        parts = [reader.version]
        if director.lexicon.entries:
            parts.append(f"lexicon {director.lexicon.version}")
        if director.normaliser is not None:
            parts.append(director.normaliser.version)
        self.version = ", ".join(parts)

    def __call__(self, text: str) -> Symbols:
        said = {
            (token.start, token.end): one
            for sentence in self.director.sentences(Script.plain(text))
            for token, one in sentence
            if one is not None
        }
        return self.reader.read(text, said)  # type: ignore[attr-defined]


def lexicon_rows(reader: FrontEnd) -> tuple[tuple[str, str, str], ...] | None:
    """Return the rows of a front end's lexicon; None where it has none."""
    rows = reader.director.lexicon.rows() if isinstance(reader, PronouncingFrontEnd) else ()
    return rows or None


def symbols_of_words(read: Symbols) -> list[tuple[tuple[str, ...], ...]]:
    """Return the symbols of each word, in groups between which a space stands."""
    groups: list[list[list[str]]] = [[] for _ in read.words]
    previous = -1
    for symbol, word in zip(read.symbols, read.word_of, strict=True):
        if word >= 0:
            if word != previous:
                groups[word].append([])
            groups[word][-1].append(symbol)
        if word >= 0 or symbol == SPACE:
            previous = word
    return [tuple(map(tuple, own)) for own in groups]


def _kind_at(script: Script, token: Token) -> int | None:
    found = bisect_right(script.says, token.start, key=lambda item: item.start) - 1
    return found if found >= 0 and token.start < script.says[found].end else None
