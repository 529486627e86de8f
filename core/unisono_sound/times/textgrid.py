"""TextGrid: tiers of words and phones in Praat's long text format, read by Praat, ELAN and aligners.

Borders are whole samples, written as the shortest decimal number that is read back as the same one. The intervals of a
tier follow one another without a gap from 0 to the end of the sound; what is silent is an empty interval.
"""

from typing import Any

import numpy as np
from unisono.errors import RequestError
from unisono.media import Stretch, Times, TimesFormat

from unisono_sound.text.symbols import SPECIALS
from unisono_sound.times.tiers import NAMES, tiers


def write_textgrid(times: Times, options: Any = None) -> str:
    """Return the content of a file. A segment that lasts no sample has no interval; raises ``RequestError`` for a sound
    without samples."""
    if not times.length:
        raise RequestError("this sound has no samples: a TextGrid has no tier for it", code="empty", path="waveform")
    end = _seconds(times.length, times.rate)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end}"]
    found = tiers(times)
    lines += ["tiers? <exists>", f"size = {len(found)}", "item []:"]
    for number, (name, stretches) in enumerate(found.items(), 1):
        parts = intervals(stretches, times.length, SPECIALS if name == NAMES["phoneme"] else ())
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {_quoted(name)}"]
        lines += ["        xmin = 0", f"        xmax = {end}", f"        intervals: size = {len(parts)}"]
        for index, (label, first, last) in enumerate(parts, 1):
            lines.append(f"        intervals [{index}]:")
            lines.append(f"            xmin = {_seconds(first, times.rate)}")
            lines.append(f"            xmax = {_seconds(last, times.rate)}")
            lines.append(f"            text = {_quoted(label)}")
    return "\n".join(lines) + "\n"


def intervals(stretches: list[Stretch], length: int, silent: tuple[str, ...] = ()) -> list[tuple[str, int, int]]:
    """Return ``(label, first, last)`` in samples, which tile [0, length): what lies between stretches, and what is
    ``silent``, is labelled with nothing, and is one interval."""
    parts: list[tuple[str, int, int]] = []
    at = 0
    for stretch in stretches:
        label = "" if stretch.label in silent else stretch.label
        if stretch.last > stretch.first and label:
            if stretch.first > at:
                parts.append(("", at, stretch.first))
            parts.append((label, stretch.first, stretch.last))
            at = stretch.last
    if at < length:
        parts.append(("", at, length))
    return parts


def _seconds(sample: int, rate: int) -> str:
    return np.format_float_positional(np.float64(sample / rate), trim="-")


def _quoted(text: str) -> str:
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


TEXTGRID = TimesFormat(write_textgrid)
"""Praat's TextGrid."""
