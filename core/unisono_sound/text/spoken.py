"""Spoken forms: what espeak-ng is given for a written word, so that no letter or sign of it is lost.

espeak-ng passes over signs that its dictionary lacks ("5 < 6" is read "five six"), and reads a letter that it does
not know by its code point. A word is therefore put into a form that it reads whole::

    written ─ compose (NFC) ─ letters ─ signs ─ spoken form

``letters``  a letter or number that espeak-ng does not know in this language becomes its compatibility form
             (Ⅳ → IV, Ａ → A), else its base letter (ễ → e), else it is refused
``signs``    a sign is lost where espeak-ng reads the word alike without it; then its name in words stands for it,
             else its compatibility form, else it is refused
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from unisono_sound.text.scripts import is_script, script_known
from unisono_sound.text.signs import is_picture, is_sign, sign_name

__all__ = ["SpokenForms", "Unspoken", "simpler"]

Read = Callable[[str], Sequence[Sequence[str]]]

_NAMED = re.compile(r"(\w+) (SMALL|CAPITAL) LETTER (?:DOTLESS )?(\w+?)(?: WITH .*)?$")
# sixteen code points that no language reads, for the digits 0 to F, and one of another row: Latin, other letters
_UNKNOWN_BLOCKS = ((0x1D00, 0xAB31), (0xA000, 0x2C30))
# sign at which a minus, a dash of a range or a point is meant, by what stands around it
_MINUS = re.compile(r"(?:(?<=\d[eE])|(?<![\w.)]))[-–](?=[.\d]|\W?\d)|(?<=\d)[-–]$")
_RANGE = re.compile(r"(?<=[\d%°])[-–](?=\W?\d)")
_POINT = re.compile(r"(?<![\w.])\.(?=\w)")
# a point or a middle dot between digits; points that group thousands, or part the fields of a date, are none
_NUMBER = re.compile(r"\d+(?:[.·]\d+)+")
_GROUPED = re.compile(r"\d{1,3}(?:\.\d{3})+|\d{1,2}\.\d{1,2}\.\d{2,4}")


class Unspoken(Exception):
    """Characters that cannot be spoken."""

    def __init__(self, characters: Sequence[str]):
        super().__init__("".join(characters))
        self.characters = list(characters)


class SpokenForms:
    """The spoken forms of one language's words; ``read`` returns espeak-ng's words, each a list of phonemes."""

    def __init__(self, read: Read, language: str):
        self._read, self.language = read, language
        self.form = lru_cache(maxsize=50_000)(self._form)
        self._sound = lru_cache(maxsize=50_000)(self._sound_of)
        self._letter = lru_cache(maxsize=20_000)(self._letter_of)
        self._unread: _Unread | None = None

    def _form(self, word: str) -> str:
        """Return a written word as espeak-ng is to read it; ``Unspoken`` names what it cannot."""
        text = unicodedata.normalize("NFC", word)
        if text.isascii() and text.isalpha():
            return text
        text = re.sub(r"´|(?<=[^\W\d])′(?=[^\W\d])", "'", text)
        text = "".join(" " if is_picture(c) else c for c in text).strip()
        letters, unknown = [], []
        for cluster in re.findall(r".[\u0300-\u036f]*", text, re.DOTALL):
            try:
                letters.append(self._letter(cluster))
            except Unspoken as error:
                unknown.extend(error.characters)
        if unknown:
            raise Unspoken(unknown)
        text = "".join(letters)
        text = re.sub(_POINT, lambda m: "0." if text[m.end()].isdigit() else ".", text)
        try:
            return self._signs(text)
        except Unspoken as error:
            sign = error.characters[0]
            raise Unspoken([c for c in word if sign in (c, *unicodedata.normalize("NFKC", c))][:1] or [sign]) from None

    def _signs(self, text: str) -> str:
        index = 0
        while index < len(text):
            kind = _kind(text, index)
            if kind is None or not (self._is_foreign(text[index]) or self._is_lost(text, index, text[index])):
                index += 1
                continue
            for name in self._names(text[index], kind):
                if name == text[index] and self._is_foreign(name):
                    continue
                said = f" {name} "
                if not self._is_lost(text, index, said):
                    text = text[:index] + said + text[index + 1 :]
                    index += len(said)
                    break
            else:
                raise Unspoken([text[index]])
        return re.sub(r"\s+", " ", text).strip()

    def _is_foreign(self, sign: str) -> bool:
        """Whether a sign is of a script that the language is not written in ("৳"): espeak-ng changes to its voice."""
        script = unicodedata.name(sign, "?").split()[0]
        return is_script(script) and not script_known(sign, self.language)

    def _is_lost(self, text: str, index: int, said: str) -> bool:
        """Whether a word sounds alike without the sign at ``index``, for which ``said`` stands."""
        before, after = text[:index], text[index + 1 :]
        if text[index] in ".·" and before[-1:].isdigit() and after[:1].isdigit():
            digits = re.compile(r"\d+")
            before, after = digits.findall(before)[-1], digits.findall(after)[0]
        sound = self._sound(before + said + after)
        bare = [self._sound(before + after), self._sound(f"{before} {after}")]
        if text[index] == "." and after.isdigit():  # digits one by one, as behind a point, but without it
            bare.append(self._sound(f"{before} {' '.join(after)}"))
        # "247" may be longer than "24/7": shorter than both, it lost more than the sign
        return sound in bare or len(sound) < min(map(len, bare))

    def _names(self, sign: str, kind: str) -> list[str]:
        plain = unicodedata.normalize("NFKC", sign)
        names = [sign_name(kind, self.language), plain if plain != sign else None, sign]
        if kind in "-–":
            names.append("−")  # espeak-ng reads the true minus in every language
        return [name for name in names if name]

    def _letter_of(self, cluster: str) -> str:
        """Return a letter or number, with its marks, as the language can read it."""
        letter, marks = cluster[0], cluster[1:]
        if marks:
            letter = self._letter(letter)
            kept = letter + marks
            return kept if letter == cluster[0] and self._is_known(kept) else letter
        category = unicodedata.category(letter)
        if letter.isascii():
            return letter
        if is_sign(letter):
            plain = unicodedata.normalize("NFKC", letter)
            if plain == letter or not all(c.isascii() or is_sign(c) for c in plain):
                return letter
            if plain.isascii() and plain.isalnum() and letter not in "№™":
                return plain  # ㎏, Ⓐ
            named = not any(c.isalnum() for c in plain) and len(plain) > 1 and sign_name(letter, self.language)
            return letter if named or self._sound(letter) else plain
        if category[0] in "PZCS":
            return letter
        if category == "Nd" and not script_known(letter, self.language):
            return str(unicodedata.decimal(letter))  # espeak-ng would change to a voice of that script
        if category[0] == "M":
            return letter if script_known(letter, self.language, marks=True) else ""
        if self._is_known(letter):
            return letter
        for other in simpler(letter):
            if other != letter and all(c.isascii() or self._is_known(c) or is_sign(c) for c in other):
                return other
        raise Unspoken([letter])

    def _is_known(self, letter: str) -> bool:
        if unicodedata.category(letter[0])[0] == "L" and not script_known(letter[0], self.language):
            return False
        sound = self._sound(letter)
        if not sound:
            return False
        if self._unread is None:
            self._unread = _Unread.of(self._sound)
        return not self._unread.matches(sound, ord(letter[-1]) & 0xF)

    def _sound_of(self, text: str) -> tuple[str, ...]:
        return tuple(phoneme.lstrip("ˈˌ") for word in self._read(text) for phoneme in word)


@dataclass(frozen=True)
class _Unread:
    """How a language's voice reads letters that it does not know.

    ``openings`` are its words for "letter", after which the code follows; ``endings[d::16]`` its words for the
    code's last digit d; ``blanks`` what it says for any ideograph ("Chinese letter").
    """

    openings: frozenset[tuple[str, ...]]
    endings: list[tuple[str, ...]]
    blanks: frozenset[tuple[str, ...]]

    @classmethod
    def of(cls, sound: Callable[[str], tuple[str, ...]]) -> "_Unread":
        openings, endings = set(), []
        for first, second in _UNKNOWN_BLOCKS:
            sounds = [sound(chr(first + digit)) for digit in range(16)]
            endings.extend(one[len(_shared(sounds)) :] for one in sounds)
            opening = _shared([sounds[0], sound(chr(second))])
            if len(opening) >= 3:
                openings.add(opening)
        rare = [sound(letter) for letter in "龥龠靐"]
        blanks = {rare[0]} if rare[0] and len(set(rare)) == 1 else set()
        return cls(frozenset(openings), endings, frozenset(blanks))

    def matches(self, sound: tuple[str, ...], digit: int) -> bool:
        if sound in self.blanks:
            return True
        if any(len(sound) > len(o) + 1 and sound[: len(o)] == o for o in self.openings):
            return True
        return any(e and len(sound) >= len(e) + 4 and sound[-len(e) :] == e for e in self.endings[digit::16])


def _shared(sounds: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the beginning that all of several readings have."""
    count = 0
    while count < min(map(len, sounds)) and len({sound[count] for sound in sounds}) == 1:
        count += 1
    return sounds[0][:count]


def _kind(text: str, index: int) -> str | None:
    """Return the sign that a character is where it stands, None where it is no sign."""
    character = text[index]
    if character in "-–":
        if _RANGE.match(text, index):
            return "–"
        if len(text) == 1:
            return character
        return "-" if _MINUS.match(text, index) else None
    if character in ".·":
        if character == "." and _POINT.match(text, index):
            return "."
        for number in _NUMBER.finditer(text):
            if number.start() < index < number.end() and not _GROUPED.fullmatch(number[0]):
                return character
        return None
    return character if is_sign(character) or unicodedata.category(character) == "No" else None


def simpler(letter: str) -> list[str]:
    """Return what may stand for a letter or number: compatibility form, digit, base letter."""
    plain = unicodedata.normalize("NFKC", letter)
    base = "".join(c for c in unicodedata.normalize("NFKD", letter) if unicodedata.category(c)[0] != "M")
    found = [plain.replace("⁄", "/"), base.replace("⁄", "/")]
    digit = unicodedata.digit(letter, None)
    if digit is not None:
        found.append(str(digit))
    named = _NAMED.match(unicodedata.name(letter, ""))
    if named:
        script, size, base = named.groups()
        with suppress(KeyError):
            found.append(unicodedata.lookup(f"{script} {size} LETTER {base}"))
    return [other for other in found if other]
