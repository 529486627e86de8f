"""Front ends: callables from a text to ``Symbols``, the symbols that a voice reads and the words
that they spell.

``espeak``       IPA phonemes with stress, by espeak-ng (extra ``tts``)
``characters``   the letters themselves; needs nothing
``module:attr``  any callable text → list of symbols, or list of words that are lists of symbols;
                 named in a recipe or given in Python, never imported because an export names it

All of them keep punctuation as pause symbols and know which symbols spell which written word.
"""

import importlib
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from unisono.errors import CheckpointError, DataError, RequestError, did_you_mean

from unisono_sound.text.align import align
from unisono_sound.text.reader import AS_WRITTEN, Builder, FrontEnd, Said, Symbols, Word
from unisono_sound.text.signs import is_picture, is_sign
from unisono_sound.text.split import Token, tokenize
from unisono_sound.text.spoken import SpokenForms, Unspoken, simpler
from unisono_sound.text.symbols import (
    CHARACTERS,
    IPA,
    PAUSES,
    SPACE,
    SPECIALS,
    SymbolTable,
)

__all__ = [
    "FRONT_ENDS", "CharacterFrontEnd", "CustomFrontEnd", "EspeakFrontEnd", "FrontEnd", "Symbols", "Word", "front_end",
    "front_end_of", "refuse_unspeakable",
]  # fmt: skip

STAND_IN = "la"
"""What espeak-ng reads for a word that it cannot read and whose symbols are given."""


class EspeakFrontEnd:
    """IPA phonemes by espeak-ng: numbers, abbreviations and signs read out, stress marked,
    punctuation kept.

    Words are those of the written text: espeak-ng runs some together ("of the") and reads others as
    several ("1999"); phonemes are given to the written words by aligning them with each word read
    alone (``align``). What espeak-ng would lose or read by code point is written out, or refused
    (``SpokenForms``). A sentence in capitals is read as words, not letter by letter. Raises
    ``RequestError`` for an unknown language, ``MissingExtra`` where the wheel is absent.
    """

    name = "espeak"
    table = IPA
    normalises = True
    """Its voices say numbers in words by default, where their language has rules."""

    def __init__(self, language: str = "en-us"):
        from unisono_sound.text.espeak import espeak

        self._espeak = espeak()
        if not self._espeak.phonemes("1 a o", language):
            message = (
                f"the espeak-ng that is installed carries no dictionary for {language!r}: "
                "choose another language, or another front end"
            )
            raise RequestError(message, code="unsupported", path="language", value=language)
        self.language = language
        self.version = f"espeak-ng {self._espeak.version}, reading 4"
        self._forms = SpokenForms(lambda text: self._espeak.phonemes(text, language), language)
        self._alone = lru_cache(maxsize=50_000)(self._read_alone)

    def __call__(self, text: str) -> Symbols:
        return self.read(text, {})

    def read(self, text: str, said: Mapping[tuple[int, int], Said]) -> Symbols:
        """Read a text whose words at the given places (start, end) are said otherwise."""
        builder = Builder(text)
        for sentence, forms in self._sentences(text, said):
            for token, groups in zip(sentence, self._read(sentence, forms), strict=True):
                given = said[place].symbols if (place := (token.start, token.end)) in said else None
                builder.word(token, given or groups)
        return builder.close()

    def spoken_text(self, text: str) -> str:
        """Return a text as espeak-ng is given it: signs and letters that it lacks written out."""
        return " ".join(_written(sentence, forms) for sentence, forms in self._sentences(text, {}))

    def _sentences(self, text: str, said: Mapping[tuple[int, int], Said]) -> Iterator[tuple[list[Token], list[str]]]:
        """Yield sentences with the spoken forms of their words."""
        refuse_unspeakable(text, self.name, self.language)
        unknown: list[str] = []
        found = []
        for sentence in _sentences(text):
            forms, tokens, given = [], [], {}
            for token in sentence:
                other = said.get((token.start, token.end), AS_WRITTEN)
                try:
                    form = self._form(token.text)
                except Unspoken as error:
                    if other == AS_WRITTEN or not (other.words or other.symbols):
                        unknown.extend(error.characters)
                        continue
                    form = STAND_IN  # what surrounds a word is read as it would be beside any other
                if other.words and not other.symbols:
                    given[len(forms)] = self._form(self.letters(other.words))
                    token = replace(token, dot=False)
                if other.pause:
                    token = replace(token, pause=other.pause)
                forms.append(form)
                tokens.append(token)
            forms = _as_words(forms)
            found.append((tokens, [given.get(index, form) for index, form in enumerate(forms)]))
        if unknown:
            raise _unspeakable(list(dict.fromkeys(unknown)), self.name, self.language)
        yield from found

    def letters(self, words: str) -> str:
        """A capital A that stands alone is the letter, which English espeak-ng takes for the article."""
        return re.sub(r"\bA\b", "eh", words) if self.language.split("-")[0] == "en" else words

    def _form(self, word: str) -> str:
        form = self._forms.form(word)
        if not self._alone(form):
            raise Unspoken(word)
        return form

    def _read(self, sentence: list[Token], forms: list[str]) -> list[list[list[str]]]:
        """Return, for each written word, its groups (espeak's own words) of symbols."""
        clauses = [
            [[symbol for phoneme in word for symbol in self.table.spell(phoneme)] for word in clause]
            for clause in self._espeak.clauses(_written(sentence, forms), self.language)
        ]
        alone = [self._alone(form) for form in forms]
        paused = [bool(token.pause) for token in sentence]
        parts = _phrases(paused)
        if len(clauses) != len(parts):  # espeak-ng makes no clause of every pause, and others of its own
            clauses, parts = [[word for clause in clauses for word in clause]], [slice(0, len(sentence))]
        groups: list[list[list[str]]] = []
        for clause, part in zip(clauses, parts, strict=True):
            owners = align(clause, alone[part], paused[part])
            if owners is None:
                groups.extend([list(word) for word in words] for words in alone[part])
                continue
            own: list[list[list[str]]] = [[] for _ in alone[part]]
            for word, owner in zip(clause, owners, strict=True):
                previous = None
                for symbol, token in zip(word, owner, strict=True):
                    if token != previous:
                        own[token].append([])
                    own[token][-1].append(symbol)
                    previous = token
            groups.extend(own)
        return groups

    def _read_alone(self, word: str) -> tuple[tuple[str, ...], ...]:
        words = self._espeak.phonemes(word, self.language)
        return tuple(tuple(s for p in spoken for s in self.table.spell(p)) for spoken in words)


class CharacterFrontEnd:
    """The small letters of the text, its digits and signs, and pauses for punctuation; needs no
    package.

    A letter that the table lacks becomes its compatibility form or its base letter, as with
    ``EspeakFrontEnd``; a number with a decimal point is refused, since a point is a pause here.
    """

    name = "characters"
    version = "characters 2"
    table = CHARACTERS
    normalises = False

    def __init__(self, language: str = "en-us"):
        self.language = language

    def __call__(self, text: str) -> Symbols:
        return self.read(text, {})

    def read(self, text: str, said: Mapping[tuple[int, int], Said]) -> Symbols:
        """Read a text whose words at the given places (start, end) are said otherwise."""
        refuse_unspeakable(text, self.name, None)
        builder = Builder(text)
        for token in tokenize(text):
            other = said.get((token.start, token.end), AS_WRITTEN)
            if other.pause:
                token = replace(token, pause=other.pause)
            words = other.words.split() if other.words else [token.text]
            builder.word(token, other.symbols or [self._letters(word) for word in words])
        return builder.close()

    def _letters(self, word: str) -> list[str]:
        letters, unknown = [], []
        written = unicodedata.normalize("NFC", word)
        for index, character in enumerate(written):
            spelled = self._spell(character, written[index + 1 : index + 2])
            (unknown if spelled is None else letters).append(character if spelled is None else spelled)
        if unknown or not "".join(letters):
            raise _unspeakable(list(dict.fromkeys(unknown or word)), self.name, self.language)
        return list("".join(letters))

    def _spell(self, character: str, following: str) -> str | None:
        """Return a character in letters of the table, None where it has no spelling."""
        if character == "." and following.isalnum():
            return None if following.isdigit() else ""
        if character in "’−–":
            return "'" if character == "’" else "-"
        for form in (character, *simpler(character)):
            form = form.lower()
            if all(letter in self.table and letter not in SPECIALS for letter in form):
                return form
        # punctuation within a word ("e.g", "10:30") has no sound of its own here
        silent = unicodedata.category(character)[:2] in _SILENT and not is_sign(character)
        return "" if silent or is_picture(character) or unicodedata.category(character)[0] == "M" else None


class CustomFrontEnd:
    """A front end from any callable: text → symbols, or text → words of symbols.

    The callable may carry ``symbols``, its fixed table; without one, the table is made from the
    corpus. Words are counted from the groups that it returns; a flat list is one word per run
    between spaces.
    """

    version = "1"

    def __init__(
        self,
        function: Callable[[str], Sequence[Any]],
        name: str,
        language: str = "en-us",
        symbols: Sequence[str] | None = None,
    ):
        self.function, self.name, self.language = function, name, language
        self.version = str(getattr(function, "version", "1"))
        known = symbols if symbols is not None else getattr(function, "symbols", None)
        self.table = SymbolTable(dict.fromkeys([*SPECIALS, *(known or ())]))
        self.open_table = known is None

    def __call__(self, text: str) -> Symbols:
        text = unicodedata.normalize("NFC", text)
        words = list(self.function(text))
        if all(isinstance(word, str) for word in words):
            flat, words = words, [[]]
            for symbol in flat:
                if symbol == SPACE:
                    words.append([])
                elif symbol in PAUSES:
                    words.extend([[symbol], []])
                else:
                    words[-1].append(symbol)
        words = [list(word) for word in words if word]
        builder = Builder(text)
        for word in words:
            if all(symbol in PAUSES for symbol in word):
                builder.pauses(word)
            else:
                shown = "".join(word)
                builder.word(Token(shown, 0, 0, 0, "", 0), [word])
        result = builder.close()
        if self.open_table:
            self.table = SymbolTable(dict.fromkeys([*self.table, *result.symbols]))
        self.table.encode(result.symbols)
        return result


FRONT_ENDS: dict[str, type] = {"espeak": EspeakFrontEnd, "characters": CharacterFrontEnd}


def front_end(name: str | Callable[[str], Sequence[Any]], language: str = "en-us") -> FrontEnd:
    """Make a front end from its name, from ``module:attr``, or from a callable. For recipes and
    Python only.
    """
    if callable(name):
        return CustomFrontEnd(
            name,
            f"{name.__module__}:{getattr(name, '__qualname__', type(name).__name__)}",
            language,
        )
    if name in FRONT_ENDS:
        return FRONT_ENDS[name](language)
    if ":" not in name:
        message = f"no front end is named {name!r}{did_you_mean(name, [*FRONT_ENDS, 'module:attr'])}"
        raise DataError(message, code="unknown", path="front_end", value=name)
    module, _, attribute = name.partition(":")
    function: Any
    try:
        function = importlib.import_module(module)
        for part in attribute.split("."):
            function = getattr(function, part)
    except (ImportError, AttributeError) as error:
        raise DataError(
            f"the front end {name!r} cannot be imported: {error}", code="missing", path="front_end", value=name
        ) from error
    return CustomFrontEnd(function, name, language)


def front_end_of(facts: Mapping[str, Any], custom: Callable[[str], Sequence[Any]] | None = None) -> FrontEnd:
    """Make the front end that a trained voice was made with; nothing is imported because ``facts``
    names it.

    A voice whose front end is not one of the toolkit's needs the caller to hand it over as
    ``custom``.
    """
    name, language = facts["front_end"], facts["language"]
    if name in FRONT_ENDS:
        made = FRONT_ENDS[name](language)
        # tables only ever grow at their end
        if list(made.table)[: len(facts["symbols"])] != list(facts["symbols"]):
            message = (
                f"this voice reads {len(facts['symbols'])} symbols, the {name!r} front end of this "
                f"installation writes {len(made.table)} ({made.version}; the voice was made with "
                f"{facts.get('front_end_version')}): install the version it was made with"
            )
            raise CheckpointError(message, code="version", path="front_end", value=made.version)
        return made
    if custom is None:
        message = (
            f"this voice was trained with the front end {name!r}, which no export carries: "
            "pass the same callable as front_end=…"
        )
        raise CheckpointError(message, code="missing", path="front_end", value=name)
    return CustomFrontEnd(custom, name, language, [s for s in facts["symbols"] if s not in SPECIALS])


def refuse_unspeakable(text: str, name: str, language: str | None) -> None:
    """Raise ``RequestError`` that names the characters which no front end can speak: controls, surrogates,
    unassigned ones. None leaves the language out of the message.
    """
    unknown = []
    for character in dict.fromkeys(unicodedata.normalize("NFC", text)):
        if character.isascii() and (character.isprintable() or character.isspace()):
            continue
        if unicodedata.category(character)[0] in "LMNPZ" or unicodedata.category(character) == "Cf":
            continue
        if not (character.isspace() or character == "´" or is_sign(character) or is_picture(character)):
            unknown.append(character)
    if unknown:
        raise _unspeakable(unknown, name, language)


_SILENT = ("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Cf")


def _unspeakable(characters: Sequence[str], name: str, language: str | None) -> RequestError:
    shown = ", ".join(f"{c!r} (U+{ord(c):04X} {unicodedata.name(c, 'unnamed')})" for c in characters[:5])
    more = f" and {len(characters) - 5} more" if len(characters) > 5 else ""
    place = f" for {language!r}" if language else ""
    return RequestError(
        f"the text holds {shown}{more}, which the front end {name!r}{place} cannot speak: "
        "remove it, or spell it out in words",
        code="unsupported",
        path="text",
        value="".join(characters),
    )


def _written(sentence: Sequence[Token], forms: Sequence[str]) -> str:
    """Return a sentence as espeak-ng is given it."""
    return " ".join(
        form + ("." if token.dot and token.pause != "." else "") + token.pause
        for token, form in zip(sentence, forms, strict=True)
    )


def _as_words(forms: list[str]) -> list[str]:
    """Return the words of a sentence in small letters where it has three or more and all are capitals.

    espeak-ng spells some words in capitals ("IT", "US"), which is right for names within a sentence.
    """
    words = [form for form in forms if any(c.isalpha() for c in form)]
    if len(words) < 3 or any(c.islower() for form in words for c in form):
        return forms
    return [form if "." in form or len(form) == 1 else form.lower() for form in forms]


def _phrases(paused: Sequence[bool]) -> list[slice]:
    """Return the stretches of words between pauses."""
    stops = [index + 1 for index, pause in enumerate(paused) if pause]
    if not stops or stops[-1] != len(paused):
        stops.append(len(paused))
    return [slice(start, stop) for start, stop in zip([0, *stops[:-1]], stops, strict=True)]


def _sentences(text: str, most: int = 60) -> Iterator[list[Token]]:
    sentence: list[Token] = []
    for token in tokenize(text):
        sentence.append(token)
        if token.level >= 2 or len(sentence) >= most:
            yield sentence
            sentence = []
    if sentence:
        yield sentence
