"""Rules: the words of an English sentence put through every rule; the first that applies wins.

What no rule knows is left to the front end: plain numbers, ordinals, percentages and most acronyms are read right by
espeak-ng.
"""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from unisono_sound.text.english.calendar import clock, date, decade, named_date, year
from unisono_sound.text.english.line import Line, Rule
from unisono_sound.text.english.measure import counted, fraction, measure, span
from unisono_sound.text.english.money import money
from unisono_sound.text.english.names import abbreviation, letters, numeral
from unisono_sound.text.english.numbers import Numbers
from unisono_sound.text.english.say_as import said_by_kind
from unisono_sound.text.english.web import address, code, telephone
from unisono_sound.text.split import Token

__all__ = ["RULES", "English"]

RULES: tuple[Rule, ...] = (
    address, named_date, date, clock, telephone, money, fraction, decade, measure, year, span, code, counted, numeral,
    abbreviation, letters,
)  # fmt: skip
LONGEST_WORD = 400
"""A longer word is left to the front end."""
WORDS: tuple[Rule, ...] = (named_date, money, numeral, abbreviation, letters)
"""The rules that words of letters alone can be of."""


class English:
    """The normaliser of English, for every region."""

    version = "english 1"

    def __call__(self, tokens: Sequence[Token], language: str) -> list[str | None]:
        """Return what each word of a sentence is said as, None where it is said as it is written."""
        line = _line(tokens, language)
        said: list[str | None] = []
        while len(said) < len(tokens):
            at = len(said)
            word = line.words[at]
            rules = WORDS if word.isalpha() else RULES if len(word) <= LONGEST_WORD else ()
            said += next((forms for rule in rules if (forms := rule(line, at)) is not None), [None])
        return said

    def by_kind(self, tokens: Sequence[Token], language: str, kind: str, form: str) -> list[str | None]:
        """Return what each word is said as where its kind is named (``say-as``); ``RequestError`` where it is none."""
        return said_by_kind(_line(tokens, language), kind, form)


@lru_cache(maxsize=16)
def _numbers(language: str) -> Numbers:
    return Numbers(language)


def _line(tokens: Sequence[Token], language: str) -> Line:
    numbers = _numbers(language)
    return Line([unicodedata.normalize("NFC", token.text) for token in tokens], tokens, numbers, numbers.american)
