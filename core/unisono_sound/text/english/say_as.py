"""Say as: what the content of SSML's ``say-as`` is in English words, by the kind that is named."""

import re
from dataclasses import replace

from unisono.errors import RequestError

from unisono_sound.text.english.calendar import MONTHS, clock, date, named_date, year
from unisono_sound.text.english.line import Line, Rule
from unisono_sound.text.english.measure import fraction, measure
from unisono_sound.text.english.money import money
from unisono_sound.text.english.numbers import NUMBER, Numbers, plain, roman
from unisono_sound.text.english.web import SIGNS

__all__ = ["said_by_kind"]

_RULES: dict[str, tuple[Rule, ...]] = {
    "date": (named_date, date, year), "time": (clock,), "currency": (money,), "unit": (measure,),
    "fraction": (fraction,),
}  # fmt: skip
_ORDERS = ("mdy", "dmy", "ymd")
_PARTS = ("md", "dm", "my", "ym", "y")


def said_by_kind(line: Line, kind: str, form: str) -> list[str | None]:
    """Return the words of each token; ``RequestError`` where they are not of the kind."""
    words, numbers = line.words, line.numbers
    said: list[str | None] = [None]
    if kind == "address":
        return [None] * len(words)
    if kind in _EACH:
        said = [_EACH[kind](numbers, word) for word in words]
    elif kind == "date" and form in _PARTS:
        said = [_part_of_date(numbers, words[0], form)] if len(words) == 1 else said
    else:
        line = _ordered(line, form) if kind == "date" and form else line
        found = next((forms for rule in _RULES[kind] if (forms := rule(line, 0)) is not None), said)
        said = found if len(found) == len(words) else said
    if any(one is None for one in said):
        shown = " ".join(words)
        message = (
            f"{shown[:60]!r} is no {kind}{f' of the format {form!r}' if form else ''}: mend it, or take say-as away"
        )
        raise RequestError(message, code="value", path="text", value=shown)
    return said


def _ordered(line: Line, form: str) -> Line:
    if form not in _ORDERS:
        message = f"say-as format {form!r} is none: give one of {', '.join([*_ORDERS, *_PARTS])}"
        raise RequestError(message, code="unknown", path="text", value=form)
    return replace(line, american=line.american if form == "ymd" else form == "mdy")


def _part_of_date(numbers: Numbers, word: str, form: str) -> str | None:
    """Return a date without a year or a day in words: "10/11" of the format "md", "5/2024" of "my", "2024" of "y"."""
    found = re.fullmatch(r"(\d+)" + r"[-/.](\d+)" * (len(form) - 1), word)
    if found is None:
        return None
    parts = dict(zip(form, map(int, found.groups()), strict=True))
    if not 1 <= parts.get("m", 1) <= 12 or not 1 <= parts.get("d", 1) <= 31:
        return None
    month, years = MONTHS[parts.get("m", 1) - 1], numbers.year(parts.get("y", 1))
    if form == "y":
        return years
    if "y" in form:
        return f"{month} {years}"
    day = numbers.ordinal(parts["d"])
    return f"{month} {day}" if form == "md" else f"the {day} of {month}"


def _characters(numbers: Numbers, word: str) -> str:
    return " ".join(
        numbers.cardinal(int(c)) if c.isdigit() and c.isascii() else c.upper() if c.isalpha() else SIGNS.get(c, c)
        for c in word
    )


def _digits(numbers: Numbers, word: str) -> str | None:
    if not re.fullmatch(r"\+?[\d().\-/x ]*\d[\d().\-/ ]*|\+?[\dA-Z().-]+", word):
        return None
    return ("plus " if word.startswith("+") else "") + numbers.digits(word)


def _cardinal(numbers: Numbers, word: str) -> str | None:
    found = re.fullmatch(rf"([-−]?)({NUMBER})", word)
    if found is None:
        value = roman(word)
        return None if value is None else numbers.cardinal(value)
    return ("minus " if found[1] else "") + numbers.number(found[2])


def _ordinal(numbers: Numbers, word: str) -> str | None:
    found = re.fullmatch(r"(\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th)?", word)
    value = roman(word) if found is None else int(plain(found[1]))
    return None if value is None else numbers.ordinal(value)


def _year(numbers: Numbers, word: str) -> str | None:
    return numbers.year(int(word)) if re.fullmatch(r"\d{1,4}", word) else None


def _roman(numbers: Numbers, word: str) -> str | None:
    return None if (value := roman(word)) is None else numbers.cardinal(value)


_EACH = {
    "characters": _characters, "spell-out": _characters, "verbatim": _characters, "digits": _digits,
    "telephone": _digits, "cardinal": _cardinal, "number": _cardinal, "ordinal": _ordinal, "year": _year,
    "roman": _roman,
}  # fmt: skip
