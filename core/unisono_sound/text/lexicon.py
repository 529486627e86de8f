"""Lexicon: how words are said, by hand: a file of ``word<TAB>phonemes`` lines, with the language as a third field.

::

    # word      phonemes       language (every one, where it is left out)
    Nguyen      wˈɪn           en
    Siobhan     ʃɪvˈɔːn
    read        ɹˈɛd           en-us

Phonemes are IPA as espeak-ng writes it; a space parts them into words. A stress mark may stand before the syllable or
its vowel. An entry in small letters is for the word however it is written, another only for it as it is written. A
language without its region is for all regions; the more exact entry wins.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from unisono.errors import RequestError, UnisonoError
from unisono.files import read_lines

from unisono_sound.text.split import tokenize
from unisono_sound.text.symbols import SPECIALS, STRESS, SymbolTable

__all__ = ["Lexicon", "phonemes_as_symbols", "read_lexicon"]

Groups = tuple[tuple[str, ...], ...]

_MARKS = {":": "ː", "g": "ɡ", "'": "ˈ", "͡": "", "͜": "", "‿": ""}
_UNSPOKEN = frozenset('^`"#~@[]-.*+=ABCDEFGHIJKLMNOPQRSTUVWXYZ')
MOST_ENTRIES = 500_000


@dataclass(frozen=True)
class Lexicon:
    """Words and their symbols; ``entries[(word, language)]``, the language empty for every one."""

    entries: Mapping[tuple[str, str], Groups] = field(default_factory=dict)

    def of(self, word: str, language: str) -> Groups | None:
        """Return the symbols of a word as it is written, None where the lexicon has none."""
        if not self.entries:
            return None
        for place in dict.fromkeys((language, language.split("-")[0], "")):
            for form in dict.fromkeys((word, word.lower())):
                if (found := self.entries.get((form, place))) is not None:
                    return found
        return None

    def over(self, other: "Lexicon") -> "Lexicon":
        """Return both; its own entries win."""
        return Lexicon({**other.entries, **self.entries})

    @property
    def version(self) -> str:
        """A name for what it holds; empty for an empty one."""
        return hashlib.sha256(repr(sorted(self.entries.items())).encode()).hexdigest()[:16] if self.entries else ""

    def rows(self) -> tuple[tuple[str, str, str], ...]:
        """Return it as plain rows, (word, phonemes, language)."""
        return tuple((word, " ".join("".join(group) for group in groups), language)
                     for (word, language), groups in sorted(self.entries.items()))  # fmt: skip

    @classmethod
    def from_rows(cls, rows: tuple[tuple[str, str, str], ...], table: SymbolTable) -> "Lexicon":
        """Return the lexicon of such rows."""
        return cls({(word, language): phonemes_as_symbols(said, table) for word, said, language in rows})


def read_lexicon(path: str | os.PathLike, table: SymbolTable, kind: type[UnisonoError] = RequestError) -> Lexicon:
    """Read a lexicon; raises ``kind`` with the file and the line of what is wrong: a word twice, unknown phonemes."""
    path = Path(path)
    entries: dict[tuple[str, str], Groups] = {}
    lines: dict[tuple[str, str], int] = {}
    for number, line in enumerate(read_lines(path, kind, fix="check the lexicon's path"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        fields = [part.strip() for part in line.split("\t")]
        where = f"{path}, line {number}:"
        if not 2 <= len(fields) <= 3 or not all(fields[:2]):
            message = (
                f"{where} {line.strip()[:60]!r} is no entry: write word, tab, phonemes, and if need be tab, language"
            )
            raise kind(message, code="format", path=path, value=line[:60])
        word, said, language = fields[0], fields[1], (fields[2].lower() if len(fields) == 3 else "")
        tokens = list(tokenize(word))
        if len(tokens) != 1 or tokens[0].text != word:
            message = f"{where} {word[:60]!r} is not one word: give each word an entry of its own"
            raise kind(message, code="value", path=path, value=word)
        key = (word, language)
        if key in lines:
            message = f"{where} {word!r} stands already in line {lines[key]}: take one of them out"
            raise kind(message, code="conflict", path=path, value=word)
        if len(entries) >= MOST_ENTRIES:
            raise kind(f"{path}: more than {MOST_ENTRIES} entries: take some out", code="limit", path=path,
                       value=MOST_ENTRIES)  # fmt: skip
        try:
            entries[key] = phonemes_as_symbols(said, table)
        except RequestError as error:
            raise kind(f"{where} {error}", code=error.code, path=path, value=error.value) from None
        lines[key] = number
    return Lexicon(entries)


def phonemes_as_symbols(phonemes: str, table: SymbolTable) -> Groups:
    """Return phonemes in IPA as symbols, in groups where spaces part them; ``RequestError`` for what is no phoneme.

    A stress mark before a syllable's consonants moves to its vowel, where espeak-ng writes it.
    """
    if "ˈ" not in table:
        message = f"{phonemes!r:.60}: this voice reads letters and knows no phonemes; say the word by other letters"
        raise RequestError(message, code="unsupported", path="text", value=phonemes)
    plain = phonemes.strip().strip("/")
    for mark, other in _MARKS.items():
        plain = plain.replace(mark, other)
    groups = []
    for word in plain.split():
        unknown = [c for c in word if c in _UNSPOKEN or c in SPECIALS]
        if unknown:
            raise _no_phoneme(phonemes, unknown[0])
        bare, stressed = _stress_at_vowels(word)
        if bare:
            raise _no_phoneme(phonemes, bare)
        try:
            groups.append(tuple(table.spell(stressed)))
        except RequestError as error:
            raise _no_phoneme(phonemes, str(error.value)) from None
    if not groups:
        raise RequestError("no phonemes are given: write at least one", code="empty", path="text", value=phonemes)
    return tuple(groups)


def _stress_at_vowels(word: str) -> tuple[str, str]:
    """Move each stress mark to the next vowel; returns a mark without one, and the word."""
    said, waiting = "", ""
    for character in word:
        if character in STRESS:
            if waiting:
                return waiting, word
            waiting = character
            continue
        if waiting and character in _VOWELS:
            said, waiting = said + waiting, ""
        said += character
    return waiting, said


_VOWELS = frozenset("iyɨʉɯuɪʏʊeøɘɵɤoəɛœɜɞʌɔæɐaɶɑɒᵻɚɝãẽĩõũ")


def _no_phoneme(phonemes: str, found: str) -> RequestError:
    message = (
        f"{found!r} in {phonemes!r:.60} is no phoneme in IPA as espeak-ng writes it: "
        "see `espeak-ng --ipa`, or leave it to the front end"
    )
    return RequestError(message, code="unknown", path="text", value=found)
