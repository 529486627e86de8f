"""Numbers: integers, decimals, years, ordinals and digits in English words; the words are num2words'.

American English has no "and" within a number, the other kinds have it: "one hundred (and) five".
"""

import re
from functools import lru_cache

from unisono.errors import MissingExtra

__all__ = ["NUMBER", "Numbers", "plain"]

NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
"""An integer or decimal as English writes it, thousands grouped or not."""

MOST_DIGITS = 36
"""A longer number is said digit by digit."""


def plain(number: str) -> str:
    """Return a number without its grouping commas."""
    return number.replace(",", "")


class Numbers:
    """Numbers of one kind of English (``en-us``, ``en-gb``, …) in words, parted by spaces."""

    def __init__(self, language: str):
        self.american = language in ("en", "en-us") or language.startswith("en-us-")
        self.cardinal = lru_cache(maxsize=10_000)(self._cardinal)
        self.ordinal = lru_cache(maxsize=10_000)(self._ordinal)

    def _cardinal(self, number: int) -> str:
        if len(str(abs(number))) > MOST_DIGITS:
            return ("minus " if number < 0 else "") + self.digits(str(abs(number)))
        return self._words(number, "cardinal")

    def _ordinal(self, number: int) -> str:
        return self._words(number, "ordinal")

    def _words(self, number: int, kind: str) -> str:
        try:
            from num2words import num2words
        except ImportError as error:
            raise MissingExtra("num2words", "tts") from error
        words = num2words(number, lang="en", to=kind).replace(",", "").replace("-", " ")
        return words.replace(" and ", " ") if self.american else words

    def digits(self, text: str) -> str:
        """Return the digits of a text one by one, its letters too."""
        return " ".join(self.cardinal(int(c)) if c.isdigit() else c for c in text if c.isalnum())

    def number(self, text: str) -> str:
        """Return what matches ``NUMBER`` in words; a leading zero ("007") has its digits said."""
        whole, point, decimals = plain(text).partition(".")
        if len(whole) > 1 and whole[0] == "0":
            said = self.digits(whole)
        else:
            said = self.cardinal(int(whole or 0))
        return f"{said} point {self.digits(decimals)}" if point else said

    def year(self, number: int) -> str:
        """Return a year: 1905 nineteen oh five, 1900 nineteen hundred, 2005 two thousand five, 2024 twenty twenty four.

        Years below 1000, the first ten of a millennium and those above 9999 are said as numbers.
        """
        century, rest = divmod(number, 100)
        if number < 1000 or number > 9999 or (century % 10 == 0 and rest < 10):
            return self.cardinal(number)
        if rest == 0:
            return f"{self.cardinal(century)} hundred"
        return f"{self.cardinal(century)} {'oh ' if rest < 10 else ''}{self.cardinal(rest)}"

    def decade(self, number: int) -> str:
        """Return a decade, of its first year: 1990 nineteen nineties, 90 nineties, 1900 nineteen hundreds."""
        century, rest = divmod(number, 100)
        if rest == 0:
            return self.cardinal(number) + "s" if century % 10 == 0 else f"{self.cardinal(century)} hundreds"
        tens = re.sub("y$", "ies", self.cardinal(rest)) if rest != 10 else "tens"
        return f"{self.cardinal(century)} {tens}" if century else tens

    def fraction(self, above: int, below: int) -> str:
        """Return a fraction: one half, three quarters, five eighths; "over" where it is above 1 or too fine."""
        if not 0 < above < below <= 100:
            return f"{self.cardinal(above)} over {self.cardinal(below)}"
        name = {2: "half", 4: "quarter"}.get(below) or self.ordinal(below)
        if above > 1:
            name = "halves" if below == 2 else name + "s"
        return f"{self.cardinal(above)} {name}"


def roman(text: str) -> int | None:
    """Return the value of a Roman numeral in capitals, as it is correctly written, 1 to 3999; else None."""
    if not re.fullmatch(r"(?=.)M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})", text):
        return None
    values = [{"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}[c] for c in text]
    return sum(-v if v < w else v for v, w in zip(values, [*values[1:], 0], strict=True))
