"""Prosody values: rate, pitch, volume, strength and time as SSML 1.1 writes them, in numbers.

A keyword is one of the lists below. A percentage is of the default ("120%"), or more or less than it with a sign
("+20%"). Pitch is relative, in semitones or percent: what a voice's own pitch in hertz is, is the voice's.
"""

import math
import re

from unisono.errors import RequestError, did_you_mean

from unisono_sound.text.markup.script import Prosody

__all__ = ["EMPHASIS", "PITCHES", "RATES", "STRENGTHS", "VOLUMES", "prosody_of", "seconds_of", "strength_of"]

RATES = {"x-slow": 0.5, "slow": 0.75, "medium": 1.0, "default": 1.0, "fast": 1.25, "x-fast": 1.75}
PITCHES = {"x-low": -6.0, "low": -3.0, "medium": 0.0, "default": 0.0, "high": 3.0, "x-high": 6.0}
VOLUMES = {
    "silent": -math.inf,
    "x-soft": -12.0,
    "soft": -6.0,
    "medium": 0.0,
    "default": 0.0,
    "loud": 4.0,
    "x-loud": 8.0,
}
STRENGTHS = {"none": 0.0, "x-weak": 0.0, "weak": 0.25, "medium": 0.5, "strong": 1.0, "x-strong": 1.5}
EMPHASIS = {
    "strong": Prosody(0.85, 2.0, 3.0), "moderate": Prosody(0.92, 1.0, 1.5), "none": Prosody(),
    "reduced": Prosody(1.1, -1.0, -2.0),
}  # fmt: skip
LIMITS = {"rate": (0.25, 4.0), "pitch": (-12.0, 12.0), "volume": (-60.0, 12.0)}
_NUMBER = r"([-+−]?)(\d+(?:\.\d*)?|\.\d+)"


def prosody_of(attributes: dict[str, str], where: str) -> Prosody:
    """Return the prosody of an element's attributes; ``where`` names it in errors."""
    found = {name: _READ[name](value.strip(), f"{where} {name}={value!r}") for name, value in attributes.items()}
    for name, value in found.items():
        check(name, value, f"{where} {name}={attributes[name]!r}")
    return Prosody(**found)


def check(name: str, value: float, where: str) -> None:
    """Refuse a rate, pitch or volume outside of its limits; the volume may be none at all."""
    low, high = LIMITS[name]
    if not low <= value <= high and not (name == "volume" and value == -math.inf):
        message = f"{where} makes a {name} of {value:g}: it must be in [{low:g}, {high:g}]"
        raise RequestError(message, code="range", path="text", value=value)


def seconds_of(text: str, where: str) -> float:
    """Return a time designation ("500ms", "0.5s") in seconds; it may be negative, which callers refuse."""
    found = re.fullmatch(_NUMBER + r"(ms|s)", text.strip())
    if found is None:
        raise _unreadable(where, 'a time such as "0.5s" or "500ms"', text)
    return _signed(found) / (1000 if found[3] == "ms" else 1)


def strength_of(text: str, where: str) -> float:
    """Return the seconds of a break's strength."""
    return _keyword(STRENGTHS, text.strip(), where)


def _rate(text: str, where: str) -> float:
    if text in RATES:
        return RATES[text]
    found = re.fullmatch(_NUMBER + "(%?)", text)
    if found is None:
        raise _unreadable(where, f'one of {", ".join(RATES)}, a percentage such as "80%" or "+20%", or a factor', text)
    number = _signed(found)
    if not found[3]:
        return number
    return 1 + number / 100 if found[1] else number / 100


def _pitch(text: str, where: str) -> float:
    if text in PITCHES:
        return PITCHES[text]
    found = re.fullmatch(_NUMBER + "(st|%)", text)
    if found is None:
        if re.fullmatch(_NUMBER + "Hz", text):
            message = f"{where}: hertz are the voice's own; give semitones or percent, such as +2st or -10%"
            raise RequestError(message, code="unsupported", path="text", value=text)
        raise _unreadable(where, f'one of {", ".join(PITCHES)}, or a change such as "+2st" or "-10%"', text)
    number = _signed(found)
    if found[3] == "st":
        return number
    factor = 1 + number / 100 if found[1] else number / 100
    return 12 * math.log2(factor) if factor > 0 else -math.inf


def _volume(text: str, where: str) -> float:
    if text in VOLUMES:
        return VOLUMES[text]
    found = re.fullmatch(_NUMBER + "dB", text)
    if found is None:
        raise _unreadable(where, f'one of {", ".join(VOLUMES)}, or a change such as "+6dB"', text)
    return _signed(found)


def _signed(found: re.Match) -> float:
    return float(found[2]) * (-1 if found[1] in ("-", "−") else 1)


def _keyword(table: dict[str, float], text: str, where: str) -> float:
    if text not in table:
        message = f"{where}: unknown {text!r}{did_you_mean(text, table)}"
        raise RequestError(message, code="unknown", path="text", value=text)
    return table[text]


def _unreadable(where: str, wanted: str, text: str) -> RequestError:
    return RequestError(f"{where} cannot be read: give {wanted}", code="value", path="text", value=text)


_READ = {"rate": _rate, "pitch": _pitch, "volume": _volume}
