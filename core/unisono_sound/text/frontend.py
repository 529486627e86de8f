"""Front ends: callables from a text to ``Symbols``, the symbols that a voice reads and the words
that they spell.

``espeak``       IPA phonemes with stress, by espeak-ng (extra ``tts``)
``characters``   the letters themselves; needs nothing
``module:attr``  any callable text → list of symbols, or list of words that are lists of symbols;
                 named in a recipe or given in Python, never imported because an export names it

All of them keep punctuation as pause symbols and know which symbols spell which written word.
"""

import importlib
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from unisono.errors import CheckpointError, DataError, RequestError, did_you_mean

from unisono_sound.text.split import Token, nothing_to_speak, spoken_sign, tokenize
from unisono_sound.text.symbols import (
    CHARACTERS,
    END,
    IPA,
    PAUSES,
    SPACE,
    SPECIALS,
    START,
    SymbolTable,
)


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
    theirs.
    """

    symbols: tuple[str, ...]
    words: tuple[Word, ...]
    word_of: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.symbols)


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


class EspeakFrontEnd:
    """IPA phonemes by espeak-ng: numbers, abbreviations and signs read out, stress marked,
    punctuation kept.

    Words are those of the written text: espeak-ng runs some together ("of the") and reads others as
    several ("1999"); phonemes are given to the written words by aligning them with each word read
    alone. Raises ``RequestError`` for an unknown language, ``MissingExtra`` where the wheel is
    absent.
    """

    name = "espeak"
    table = IPA

    def __init__(self, language: str = "en-us"):
        from unisono_sound.text.espeak import espeak

        self._espeak = espeak()
        if not self._espeak.phonemes("1 a o", language):
            raise RequestError(
                f"the espeak-ng that is installed carries no dictionary for {language!r}: "
                "choose another language, or another front end"
            )
        self.language = language
        self.version = f"espeak-ng {self._espeak.version}, reading 2"
        self._alone = lru_cache(maxsize=50_000)(self._read_alone)

    def __call__(self, text: str) -> Symbols:
        refuse_unspeakable(text, self.name, self.language)
        builder = _Builder(text)
        for sentence in _sentences(text):
            for token, groups in zip(sentence, self._read(sentence), strict=True):
                builder.word(token, groups)
        return builder.close()

    def _read(self, sentence: list[Token]) -> list[list[list[str]]]:
        """Return, for each written word, its groups (espeak's own words) of symbols."""
        written = " ".join(t.text + ("." if t.dot and t.pause != "." else "") + t.pause for t in sentence)
        spoken = [
            [symbol for phoneme in word for symbol in self.table.spell(phoneme)]
            for word in self._espeak.phonemes(written, self.language)
        ]
        owners = _align(spoken, [self._alone(token.text) for token in sentence])
        groups: list[list[list[str]]] = [[] for _ in sentence]
        for word, owner in zip(spoken, owners, strict=True):
            previous = None
            for symbol, token in zip(word, owner, strict=True):
                if token != previous:
                    groups[token].append([])
                groups[token][-1].append(symbol)
                previous = token
        return groups

    def _read_alone(self, word: str) -> tuple[tuple[str, ...], ...]:
        words = self._espeak.phonemes(word, self.language)
        return tuple(tuple(s for p in spoken for s in self.table.spell(p)) for spoken in words)


class CharacterFrontEnd:
    """The small letters of the text, its digits and signs, and pauses for punctuation; needs no
    package.
    """

    name = "characters"
    version = "characters 1"
    table = CHARACTERS

    def __init__(self, language: str = "en-us"):
        self.language = language

    def __call__(self, text: str) -> Symbols:
        builder = _Builder(text)
        for token in tokenize(text):
            letters = unicodedata.normalize("NFC", token.text.replace("’", "'").replace("−", "-")).lower()
            # punctuation within a word ("e.g", "3.14") has no sound of its own here
            letters = "".join(c for c in letters if c in self.table or unicodedata.category(c)[:2] not in _SILENT)
            unknown = [c for c in dict.fromkeys(letters) if c not in self.table]
            if unknown:
                raise _unspeakable(unknown, self.name, self.language)
            builder.word(token, [list(letters)])
        refuse_unspeakable(text, self.name, None)
        return builder.close()


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
        builder = _Builder(text)
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
        raise DataError(f"no front end is named {name!r}{did_you_mean(name, [*FRONT_ENDS, 'module:attr'])}")
    module, _, attribute = name.partition(":")
    function: Any
    try:
        function = importlib.import_module(module)
        for part in attribute.split("."):
            function = getattr(function, part)
    except (ImportError, AttributeError) as error:
        raise DataError(f"the front end {name!r} cannot be imported: {error}") from error
    return CustomFrontEnd(function, name, language)


def front_end_of(facts: dict[str, Any], custom: Callable[[str], Sequence[Any]] | None = None) -> FrontEnd:
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
            raise CheckpointError(
                f"this voice reads {len(facts['symbols'])} symbols, the {name!r} front end of this "
                f"installation writes {len(made.table)} ({made.version}; the voice was made with "
                f"{facts.get('front_end_version')}): install the version it was made with"
            )
        return made
    if custom is None:
        raise CheckpointError(
            f"this voice was trained with the front end {name!r}, which no export carries: "
            "pass the same callable as front_end=…"
        )
    return CustomFrontEnd(custom, name, language, [s for s in facts["symbols"] if s not in SPECIALS])


def refuse_unspeakable(text: str, name: str, language: str | None) -> None:
    """Raise ``RequestError`` that names the characters which a front end cannot speak; None skips
    the scripts.
    """
    unknown = []
    for character in dict.fromkeys(text):
        if character.isascii() and (character.isprintable() or character.isspace()):
            continue
        category = unicodedata.category(character)
        if category[0] == "L" and language is not None:
            known = _script_known(character, language)
        else:
            known = category[0] in "LMNPZ" or category == "Cf" or character.isspace() or spoken_sign(character)
        if category[0] == "M" and unicodedata.name(character, "").startswith("VARIATION"):
            known = True
        if not known:
            unknown.append(character)
    if unknown:
        raise _unspeakable(unknown, name, language)


_SILENT = ("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Cf")
# Scripts other than Latin, by the language that is written in them (ISO 639)
_SCRIPTS = {
    "CYRILLIC": "ru uk be bg sr mk kk ky tt ba cv nog kaa uz tk az",
    "ARABIC": "ar fa ur sd ug ku",
    "DEVANAGARI": "hi mr ne kok",
    "BENGALI": "bn as bpy",
    "GREEK": "el grc",
    "HEBREW": "he",
    "GURMUKHI": "pa",
    "GUJARATI": "gu",
    "ORIYA": "or",
    "TAMIL": "ta",
    "TELUGU": "te",
    "KANNADA": "kn",
    "MALAYALAM": "ml",
    "SINHALA": "si",
    "THAI": "th",
    "MYANMAR": "my shn",
    "GEORGIAN": "ka",
    "ARMENIAN": "hy hyw",
    "ETHIOPIC": "am ti",
    "HANGUL": "ko",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "KATAKANA-HIRAGANA": "ja",
    "CJK": "ja cmn zh yue hak",
    "IDEOGRAPHIC": "ja cmn zh yue hak",
    "CHEROKEE": "chr",
    "SHAVIAN": "en-shaw",
}
_SCRIPTS = {script: frozenset(languages.split()) for script, languages in _SCRIPTS.items()}


def _script_known(character: str, language: str) -> bool:
    words = unicodedata.name(character, "?").split()
    if words[0] in ("LATIN", "MODIFIER", "FEMININE", "MASCULINE", "MICRO"):
        return True
    languages = _SCRIPTS.get(words[0], frozenset())
    return language in languages or language.split("-")[0] in languages


def _unspeakable(characters: Sequence[str], name: str, language: str | None) -> RequestError:
    shown = ", ".join(f"{c!r} (U+{ord(c):04X} {unicodedata.name(c, 'unnamed')})" for c in characters[:5])
    more = f" and {len(characters) - 5} more" if len(characters) > 5 else ""
    place = f" for {language!r}" if language else ""
    return RequestError(
        f"the text holds {shown}{more}, which the front end {name!r}{place} cannot speak: "
        "remove it, or spell it out in words"
    )


class _Builder:
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
        return Symbols(tuple(self.symbols), tuple(self.words), tuple(self.word_of))


def _sentences(text: str, most: int = 60) -> Iterator[list[Token]]:
    sentence: list[Token] = []
    for token in tokenize(text):
        sentence.append(token)
        if token.level >= 2 or len(sentence) >= most:
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def _align(spoken: Sequence[Sequence[str]], alone: Sequence[Sequence[Sequence[str]]]) -> list[list[int]]:
    """Give every symbol of a spoken sentence to a written word, by edit distance to the words read
    alone.
    """

    def plain(symbol: str) -> str:
        return symbol.lstrip("ˌˈ")

    if len(alone) == 1:
        return [[0] * len(word) for word in spoken]
    parts = [[plain(s) for word in words for s in word] for words in alone]
    if len(spoken) == len(alone) and all(
        word and part and (plain(word[0]) == part[0] or plain(word[-1]) == part[-1])
        for word, part in zip(spoken, parts, strict=True)
    ):
        return [[index] * len(word) for index, word in enumerate(spoken)]
    heard = [plain(s) for word in spoken for s in word]
    read = [(s, index) for index, part in enumerate(parts) for s in part]
    if not read:
        return [[0] * len(word) for word in spoken]
    row = [float(j) for j in range(len(read) + 1)]
    table = [row]
    for i, symbol in enumerate(heard, 1):
        previous, row = row, [float(i)]
        for j, (other, _) in enumerate(read, 1):
            # letters in common make a substitution cheap: əl for oʊl, ɾ for t it is not, but ɐ for
            # eɪ neither
            change = 0.0 if symbol == other else 0.7 if set(symbol) & set(other) else 1.1
            row.append(min(previous[j - 1] + change, previous[j] + 1.0, row[j - 1] + 1.0))
        table.append(row)
    owner, i, j = [0] * len(heard), len(heard), len(read)
    while i:
        symbol = heard[i - 1]
        if j:
            other = read[j - 1][0]
            change = 0.0 if symbol == other else 0.7 if set(symbol) & set(other) else 1.1
            if table[i][j] == table[i - 1][j - 1] + change:
                i, j = i - 1, j - 1
                owner[i] = read[j][1]
                continue
            if table[i][j] == table[i][j - 1] + 1.0:
                j -= 1
                continue
        i -= 1
        owner[i] = read[min(j, len(read) - 1)][1] if j == 0 else read[j - 1][1]
    flat = iter(owner)
    return [[next(flat) for _ in word] for word in spoken]
