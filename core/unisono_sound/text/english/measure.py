"""Measures: numbers with units, ranges, fractions, percentages and feet with inches in English words.

A unit is one only behind a number. "m" is metres, "M" behind a number million, "in" inches where a full stop follows it
or the number is joined to it.
"""

import re
import unicodedata

from unisono_sound.text.english.line import Line
from unisono_sound.text.english.numbers import NUMBER, Numbers, plain

__all__ = ["counted", "fraction", "measure", "span"]

_UNITS = {
    "km": "kilometer", "m": "meter", "cm": "centimeter", "mm": "millimeter", "µm": "micrometer", "μm": "micrometer",
    "nm": "nanometer", "mi": "mile", "ft": "foot", "yd": "yard", "kg": "kilogram", "g": "gram", "mg": "milligram",
    "µg": "microgram", "lb": "pound", "lbs": "pound", "oz": "ounce", "l": "liter", "L": "liter", "ml": "milliliter",
    "mL": "milliliter", "dl": "deciliter", "dL": "deciliter", "gal": "gallon", "s": "second", "sec": "second",
    "secs": "second", "ms": "millisecond", "µs": "microsecond", "ns": "nanosecond", "min": "minute", "mins": "minute",
    "h": "hour", "hr": "hour", "hrs": "hour", "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz",
    "GHz": "gigahertz", "B": "byte", "kB": "kilobyte", "KB": "kilobyte", "MB": "megabyte", "GB": "gigabyte",
    "TB": "terabyte", "kbps": "kilobit per second", "Mbps": "megabit per second", "Gbps": "gigabit per second",
    "W": "watt", "kW": "kilowatt", "MW": "megawatt", "GW": "gigawatt", "kWh": "kilowatt hour", "V": "volt",
    "kV": "kilovolt", "mV": "millivolt", "mA": "milliamp", "mAh": "milliamp hour", "J": "joule", "kJ": "kilojoule",
    "kcal": "kilocalorie", "cal": "calorie", "N": "newton", "Pa": "pascal", "hPa": "hectopascal", "kPa": "kilopascal",
    "dB": "decibel", "ha": "hectare", "mph": "mile per hour", "kph": "kilometer per hour",
    "rpm": "revolution per minute",
    "°C": "degree Celsius", "°F": "degree Fahrenheit", "°": "degree", "℃": "degree Celsius", "℉": "degree Fahrenheit",
    "Ω": "ohm", "kΩ": "kilohm", "px": "pixel", "dpi": "dot per inch", "fps": "frame per second", "in": "inch",
    "sq": "square", "%": "percent",
}  # fmt: skip
_SAME = frozenset(str.split("hertz kilohertz megahertz gigahertz percent square"))
_LETTERS = frozenset("%BJN")
"""Units that are none in one word with their number ("Flat 5B"), and a sign that is read right."""
_POWERS = {"²": "square", "2": "square", "³": "cubic", "3": "cubic"}
_MEASURE = re.compile(rf"([-−+]?)({NUMBER})(?:[-–]({NUMBER}))?-?(.+)")
_RANGE = re.compile(rf"([-−+$€£]?)({NUMBER})(%|°)?[-–—]([-−]?)({NUMBER})(%|°[CF]?)?")
_FRACTION = re.compile(r"(\d{1,4})/(\d{1,4})")
_FEET = re.compile(r"(\d{1,2})['′’](\d{1,2}|(?:\d{1,2})?)[\"″”]?")
_NAMED = {"24/7": "twenty four seven", "9/11": "nine eleven", "50/50": "fifty fifty"}


def unit(text: str, one: bool) -> str | None:
    """Return a unit in words ("km/h", "m²", "mg/dL"), None for what is none."""
    top, slash, bottom = text.partition("/")
    powered = re.fullmatch(r"(k?m|cm|mm|ft|mi|in)([²³23])", top)
    name = _UNITS.get(powered[1] if powered else top)
    if name is None:
        return None
    said = name if one else _many(name)
    if powered:
        said = f"{_POWERS[powered[2]]} {said}"
    if not slash:
        return said
    squared = re.fullmatch(r"(s|m|cm)([²³23])", bottom)
    below = _UNITS.get(squared[1] if squared else bottom) or (bottom if bottom in ("day", "week", "month") else None)
    if below is None:
        return None
    if squared and squared[1] == "s":
        return f"{said} per second {'squared' if squared[2] in '²2' else 'cubed'}"
    return f"{said} per {_POWERS[squared[2]] + ' ' if squared else ''}{below}"


def _many(name: str) -> str:
    first, space, rest = name.partition(" ")
    if name in _SAME:
        return name
    if first in ("kilowatt", "milliamp") and rest == "hour":
        return name + "s"
    plural = {"foot": "feet", "inch": "inches"}.get(first, first + "s")
    return plural + space + rest


def measure(line: Line, at: int) -> list[str | None] | None:
    """Numbers with units, in one word or two: "5km", "5 km/h", "-3 °C", "5-10 kg", "6'2", "5 sq ft"."""
    word, numbers = line.word(at), line.numbers
    if feet := _FEET.fullmatch(word):
        inches = feet[2]
        name = "foot" if inches or feet[1] == "1" else "feet"
        return [f"{numbers.cardinal(int(feet[1]))} {name}" + (f" {numbers.cardinal(int(inches))}" if inches else "")]
    if found := _MEASURE.fullmatch(word):
        sign, first, last, name = found.groups()
        alone = plain(last or first) == "1" or ("-" + name in word and not last and line.joined(at))
        joined = name not in _LETTERS and not (name == "s" and len(plain(first)) == 4)
        if joined and (said := unit(name, alone)):
            return [f"{_signed(numbers, sign, first, last)} {said}"]
    if not line.joined(at) or not (found := re.fullmatch(rf"([-−+]?)({NUMBER})(?:[-–]({NUMBER}))?", word)):
        return None
    name, dotted = line.word(at + 1), line.dot(at + 1)
    if name in ("in",) and not dotted:
        return None
    if len(name) == 1 and name.isupper() and (name not in "VWL" or line.joined(at + 1)):
        return None  # "Flat 5 B", "at 5 L left"
    said = unit(name, plain(found[3] or found[2]) == "1")
    if said is None:
        return None
    number = _signed(numbers, found[1], found[2], found[3])
    if name == "sq":
        further = unit(line.word(at + 2), plain(found[2]) == "1")
        return [number, said, further] if further else None
    return [number, said]


def _signed(numbers: Numbers, sign: str, first: str, last: str | None) -> str:
    said = {"-": "minus ", "−": "minus ", "+": "plus "}.get(sign, "") + numbers.number(first)
    return f"{said} to {numbers.number(last)}" if last else said


def span(line: Line, at: int) -> list[str | None] | None:
    """Ranges: "3-4", "10–20%", "5%-10%", "-5–5". A hyphen between two numbers is never a minus."""
    found = _RANGE.fullmatch(line.word(at))
    if found is None:
        return None
    sign, first, one, minus, last, other = found.groups()
    if sign in "$€£" and sign:
        return None
    numbers = line.numbers
    behind = {"%": " percent", "°": " degrees", "°C": " degrees Celsius", "°F": " degrees Fahrenheit", None: ""}
    low = _signed(numbers, sign, first, None) + (behind[one] if one and one != other else "")
    return [f"{low} to {_signed(numbers, minus, last, None)}{behind[other]}"]


def fraction(line: Line, at: int) -> list[str | None] | None:
    """Fractions: "1/2", "2 3/4", "2½", "¾ cup", "24/7", "9/11"."""
    word, numbers = line.word(at), line.numbers
    if word in _NAMED:
        return [_NAMED[word]]
    vulgar = re.fullmatch(r"(\d*)([¼-¾⅐-⅞])", word)
    if vulgar:
        above, below = map(int, unicodedata.normalize("NFKC", vulgar[2]).split("⁄"))
        said = numbers.fraction(above, below)
        if not vulgar[1]:
            return [said]
        return [f"{numbers.cardinal(int(vulgar[1]))} and {_small(said)}"]
    if found := _FRACTION.fullmatch(word):
        if not int(found[2]):
            return [f"{numbers.number(found[1])} over {numbers.number(found[2])}"]
        return [numbers.fraction(int(found[1]), int(found[2]))]
    behind = _FRACTION.fullmatch(line.word(at + 1)) or re.fullmatch(r"[¼-¾⅐-⅞]", line.word(at + 1))
    if re.fullmatch(r"\d{1,3}", word) and behind and line.joined(at) and not (line.word(at - 1)[-1:].isdigit()):
        (said,) = fraction(line, at + 1) or [None]
        if said and line.word(at + 1) not in _NAMED and " over " not in said:
            return [f"{numbers.cardinal(int(word))} and", _small(said)]
    return None


def _small(said: str) -> str:
    return "a" + said.removeprefix("one") if said.startswith("one ") else said


def counted(line: Line, at: int) -> list[str | None] | None:
    """Numbers with letters or a sign: "5M", "3k", "101st", "10x", "#1", "2:1", "5+", "~5", "10^6", "007"."""
    word, numbers = line.word(at), line.numbers
    if (found := re.fullmatch(rf"({NUMBER})(k|M|bn|mn)", word)) and word != "3M":
        scale = {"k": "thousand", "M": "million", "bn": "billion", "mn": "million"}
        return [f"{numbers.number(found[1])} {scale[found[2]]}"]
    if found := re.fullmatch(r"(\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th)", word):
        return [numbers.ordinal(int(plain(found[1])))]
    if found := re.fullmatch(r"(\d+)(?:st|nd|rd|th)[-–](\d+)(?:st|nd|rd|th)", word):
        return [f"{numbers.ordinal(int(found[1]))} to {numbers.ordinal(int(found[2]))}"]
    if found := re.fullmatch(rf"({NUMBER}):({NUMBER})", word):
        return [f"{numbers.number(found[1])} to {numbers.number(found[2])}"]
    if found := re.fullmatch(rf"({NUMBER})\^([-−]?)(\d+)", word):
        minus = "minus " if found[2] else ""
        return [f"{numbers.number(found[1])} to the power of {minus}{numbers.number(found[3])}"]
    if found := re.fullmatch(rf"({NUMBER})[xX×]", word):
        return [f"{numbers.number(found[1])} times"]
    if found := re.fullmatch(rf"#({NUMBER})", word):
        return [f"number {numbers.number(found[1])}"]
    if found := re.fullmatch(rf"~({NUMBER})", word):
        return [f"about {numbers.number(found[1])}"]
    if found := re.fullmatch(rf"({NUMBER})\+", word):
        return [f"{numbers.number(found[1])} plus"]
    if found := re.fullmatch(r"(\d+)[x×](\d+)", word):
        return [f"{numbers.number(found[1])} by {numbers.number(found[2])}"]
    if re.fullmatch(r"0\d+", word):
        return [numbers.digits(word)]
    return None
