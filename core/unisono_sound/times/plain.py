"""Plain: times as JSON, in seconds and in samples, with each word's place in the written text."""

import json
from typing import Any

from unisono.media import Times, TimesFormat

from unisono_sound.times.tiers import tiers


def write_json(times: Times, options: Any = None) -> str:
    """Return ``{text, seconds, sample_rate, samples, tiers}``, a line for each stretch of a tier.

    A stretch is ``{label, start, end, samples, span}``: seconds, the samples [first, last), and its place in ``text``,
    None where that is not known.
    """
    head = {
        "text": times.text,
        "seconds": times.length / times.rate,
        "sample_rate": times.rate,
        "samples": times.length,
    }
    found = []
    for name, stretches in tiers(times).items():
        lines = []
        for stretch in stretches:
            told = {
                "label": stretch.label,
                "start": stretch.first / times.rate,
                "end": stretch.last / times.rate,
                "samples": [stretch.first, stretch.last],
                "span": list(stretch.span) if stretch.span is not None and times.text else None,
            }
            lines.append(f"\n   {_json(told)}")
        found.append(f"\n  {_json(name)}: [{','.join(lines)}]")
    return f'{_json(head)[:-1]},\n "tiers": {{{",".join(found)}}}}}\n'


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


JSON = TimesFormat(write_json)
"""Words and phones as JSON."""
