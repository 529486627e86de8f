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
_ORDERS = {"mdy": "md", "dmy": "dm", "ymd": "", "md": "md", "dm": "dm", "ym": "", "my": "", "y": "", "": ""}


def said_by_kind(line: Line, kind: str, form: str) -> list[str | None]:
    """Return the words of each token; ``RequestError`` where they are not of the kind."""
    words, numbers = line.words, line.numbers
    if kind in _EACH:
        said = [_EACH[kind](numbers, word) for word in words]
    elif kind == "address":
        return [None] * len(words)
    else:
        if kind == "date" and form:
            line = _ordered(line, form)
        said = _EACH["year"](numbers, words[0]) if kind == "date" and form == "y" and len(words) == 1 else None
        said = [said] if said else next((s for rule in _RULES[kind] if (s := rule(line, 0)) is not None), [None])
        if len(said) != len(words):
            said = [None]
    if any(one is None for one in said):
        shown = " ".join(words)
        message = (
            f"{shown[:60]!r} is no {kind}{f' of the format {form!r}' if form else ''}: mend it, or take say-as away"
        )
        raise RequestError(message, code="value", path="text", value=shown)
    return said


def _ordered(line: Line, form: str) -> Line:
    if form not in _ORDERS:
        message = f"say-as format {form!r} is none: give one of {', '.join(filter(None, _ORDERS))}"
        raise RequestError(message, code="unknown", path="text", value=form)
    words = list(line.words)
    if form in ("md", "dm", "ym", "my") and (found := re.fullmatch(r"(\d+)[-/.](\d+)", words[0])):
        first, second = found.groups()
        if form in ("ym", "my"):
            month, years = (second, first) if form == "ym" else (first, second)
            words[:1] = [MONTHS[int(month) - 1].capitalize() if 1 <= int(month) <= 12 else "?", years]
            return replace(line, words=words)
        words[0] = f"{first}/{second}/2000"
    return replace(line, words=words, american=_ORDERS[form] != "dm" if form != "ymd" else line.american)


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
