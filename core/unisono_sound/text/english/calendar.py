"""Calendar: dates, times, years and decades in English words.

Where a date's order is open, American English has the month first, the other kinds the day; a number above 12 is the
day. Two digits of a year stay two.
"""

import re

from unisono_sound.text.english.line import Line
from unisono_sound.text.english.numbers import Numbers

__all__ = ["clock", "date", "decade", "named_date", "year"]

MONTHS = str.split("january february march april may june july august september october november december")
_SHORT = {m[:3]: m for m in MONTHS} | {"sept": "september"}
_LONGER = {"tuesday": ("tues",), "thursday": ("thur", "thurs"), "wednesday": ("weds",)}
DAYS = {
    short: day
    for day in str.split("monday tuesday wednesday thursday friday saturday sunday")
    for short in (day[:3], *_LONGER.get(day, ()))
}
_DAY = re.compile(r"(\d{1,2})(st|nd|rd|th)?")
_YEAR = re.compile(r"[12]\d{3}")
_DATE = re.compile(r"(\d{1,4})([-/.])(\d{1,2})\2(\d{4}|\d{2})")
_CLOCK = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?")
_HALF = re.compile(r"([ap])\.?m", re.IGNORECASE)
_SPAN = re.compile(r"([\d:]+)([ap]\.?m)?(?:[-–]([\d:]+)([ap]\.?m)?)?", re.IGNORECASE)
_BEFORE_YEAR = frozenset(
    str.split(
        "in since by until till from of before after during around circa c year years spring summer autumn fall winter "
        "early late mid copyright © between class"
    )
)


_BEFORE_DECADE = frozenset(str.split("the early late mid my your his her its our their"))


def month_of(line: Line, at: int) -> str | None:
    """Return the month that a word names; short forms with a full stop or a day beside them, "may" and "mar" with both
    a capital and a day.
    """
    word = line.word(at)
    small = word.lower()
    if not word[:1].isupper():
        return None
    beside = any(_DAY.fullmatch(line.word(i)) for i in (at - 1, at + 1)) or _YEAR.fullmatch(line.word(at + 1))
    if small in MONTHS:
        return small if beside or small not in ("may", "march") else None
    return _SHORT[small] if small in _SHORT and (beside or line.dot(at)) else None


def _day(numbers: Numbers, word: str) -> str | None:
    found = _DAY.fullmatch(word)
    return numbers.ordinal(int(found[1])) if found and 1 <= int(found[1]) <= 31 else None


def named_date(line: Line, at: int) -> list[str | None] | None:
    """Dates with the month's name: "Jan. 5, 2024", "5 January 2024", "Sept. 3", "May 1990", "Fri., Dec. 3"."""
    numbers = line.numbers
    word = line.word(at)
    small = word.lower()
    if small in DAYS and word[0].isupper():  # "the Sun." ends a sentence
        ends = line.tokens[at].pause == "." and small in ("sun", "sat", "wed", "mon")
        if (line.dot(at) and not ends) or month_of(line, at + 1):
            return [DAYS[small]]
    if (both := re.fullmatch(r"([A-Z][a-z]{2,4})[-–]([A-Z][a-z]{2,4})", word)) is not None:
        for names in (DAYS, _SHORT):
            first, last = (names.get(part.lower()) for part in both.groups())
            if first and last:
                return [f"{first} to {last}"]
    day = _day(numbers, word)
    month = month_of(line, at + 1) if day and line.joined(at) else None
    if day and month:
        of = "" if line.word(at - 1).lower() == "of" else " of"
        said: list[str | None] = [f"{'' if line.word(at - 1).lower() == 'the' else 'the '}{day}{of}", month]
        return said + _year_behind(line, at + 2)
    month = month_of(line, at)
    if month is None:
        return None
    said = [month]
    if (day := _day(numbers, line.word(at + 1))) and (line.joined(at) or line.dot(at)):
        said += [day]
    elif both := re.fullmatch(r"(\d{1,2})[-–](\d{1,2})", line.word(at + 1)):
        first, last = (_day(numbers, day) for day in both.groups())
        if first and last:
            said += [f"{first} to {last}"]
    return said + _year_behind(line, at + len(said))


def _year_behind(line: Line, at: int) -> list[str | None]:
    return [line.numbers.year(int(line.word(at)))] if _YEAR.fullmatch(line.word(at)) else []


def date(line: Line, at: int) -> list[str | None] | None:
    """Dates in digits: "2024-11-10", "10/11/2024", "10.11.2024", "1/2/24"."""
    word = line.word(at)
    if iso := re.fullmatch(r"([12]\d{3})([-/.])(\d{1,2})\2(\d{1,2})(?:T([\d:]+)Z?)?", word):
        year, _, month, day, time = iso.groups()
    elif found := _DATE.fullmatch(word):
        first, mark, second, year = found.groups()
        if len(first) > 2 or (mark != "/" and len(year) == 2):
            return None
        month, day = (first, second) if line.american else (second, first)
        if int(month) > 12:
            month, day = day, month
        time = None
    else:
        return None
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return None
    numbers = line.numbers
    name, ordinal = MONTHS[int(month) - 1], numbers.ordinal(int(day))
    said = f"{name} {ordinal}" if line.american else f"the {ordinal} of {name}"
    years = numbers.year(int(year)) if len(year) == 4 else _short_year(numbers, year)
    clocked = _time(numbers, time) if time else None
    if time and clocked is None:
        return None
    return [f"{said} {years}" + (f" {clocked}" if clocked else "")]


def _short_year(numbers: Numbers, year: str) -> str:
    return f"oh {numbers.cardinal(int(year))}" if year[0] == "0" else numbers.cardinal(int(year))


def _time(numbers: Numbers, text: str, half: bool = False) -> str | None:
    """Return a time in words; ``half`` where morning or afternoon are said behind it."""
    found = _CLOCK.fullmatch(text)
    if found is None:
        return None
    hour, minute, second = (int(part) if part else None for part in found.groups())
    assert hour is not None and minute is not None
    said = "zero" if hour == 0 else numbers.cardinal(hour)
    if minute:
        said += f" {'oh ' if minute < 10 else ''}{numbers.cardinal(minute)}"
    elif not half:
        said += " o'clock" if 1 <= hour <= 12 else " hundred"
    if second is not None:
        said += f" and {numbers.cardinal(second)} second{'s' * (second != 1)}"
    return said


def _hour(numbers: Numbers, text: str, half: str | None, behind: bool) -> str | None:
    """Return one side of a time: an hour or a time, with its own "am" or "pm"; ``behind``: the other side has one."""
    said = _time(numbers, text, half=bool(half) or behind)
    if said is None and re.fullmatch(r"1[0-2]|0?[1-9]", text):
        said = numbers.cardinal(int(text))
    return said if said is None or not half else f"{said} {half[0].upper()} M"


def clock(line: Line, at: int) -> list[str | None] | None:
    """Times: "10:30", "10:05 a.m.", "5pm", "14:00", "9am-5pm", "9:00-17:00"; hours alone ("9-5") are none."""
    word, numbers = line.word(at), line.numbers
    following = _HALF.fullmatch(line.word(at + 1)) if line.joined(at) else None
    if following and (said := _hour(numbers, word, None, behind=True)):
        return [said, f"{following[1].upper()} M"]
    found = _SPAN.fullmatch(word)
    if found is None:
        return None
    first, one, last, other = found.groups()
    if last is None:
        said = _hour(numbers, first, one, behind=False) if one or ":" in first else None
        return [said] if said else None
    if not (one or other or following or (":" in first and ":" in last)):
        return None
    sides = [_hour(numbers, first, one, bool(other or following)), _hour(numbers, last, other, bool(following))]
    if None in sides:
        return None
    said = f"{sides[0]} to {sides[1]}"
    return [said, f"{following[1].upper()} M"] if following else [said]


def decade(line: Line, at: int) -> list[str | None] | None:
    """Decades: "1990s", "'90s", "the 80s"; two digits are seconds elsewhere ("a 30s break")."""
    found = re.fullmatch(r"(['’]?)(\d{2}|\d{4})['’]?s", line.word(at))
    if found is None or int(found[2]) % 10 or int(found[2]) < 20:
        return None
    if len(found[2]) == 2 and not found[1] and line.word(at - 1).lower() not in _BEFORE_DECADE:
        return None
    return [line.numbers.decade(int(found[2]))]


def year(line: Line, at: int) -> list[str | None] | None:
    """Years: "1905", "in 2024", "1990-95", "'05", "100 BC".

    1100 to 1999 are years wherever they stand alone; other years from 1000 on, behind a word such as "in" or "since".
    """
    word, numbers = line.word(at), line.numbers
    if found := re.fullmatch(r"([12]\d{3})[-–]([12]\d{3}|\d{2})", word):
        first, last = int(found[1]), int(found[2])
        if len(found[2]) == 4 and first < last:
            return [f"{numbers.year(first)} to {numbers.year(last)}"]
        if len(found[2]) == 2 and first % 100 < last:
            return [f"{numbers.year(first)} to {_short_year(numbers, found[2])}"]
    if found := re.fullmatch(r"['’](\d{2})", word):
        return [_short_year(numbers, found[1])]
    if _YEAR.fullmatch(word):
        before = line.word(at - 1).lower()
        if 1100 <= int(word) <= 1999 or before in _BEFORE_YEAR or line.word(at + 1) in ("BC", "AD", "BCE", "CE"):
            return [numbers.year(int(word))]
    return None
