"""Subtitles: SubRip (.srt) and WebVTT (.vtt, W3C) of what is said.

Both have hours of two digits or more. WebVTT takes ``<``, ``>`` and ``&`` for its own, so that they are escaped, and
with them ``-->``; SubRip has no escapes. White space in a line is one space: no line of a cue is empty, which would
end it.
"""

from unisono.media import Times, TimesFormat

from unisono_sound.times.cues import CueOptions, cues

_ESCAPED = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;"}


def write_srt(times: Times, options: CueOptions) -> str:
    """Return the content of a SubRip file; raises ``RequestError`` as ``cues`` does."""
    shown = [
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n" + "\n".join(cue.lines) + "\n"
        for number, cue in enumerate(cues(times, options), 1)
    ]
    return "\n".join(shown)


def write_vtt(times: Times, options: CueOptions) -> str:
    """Return the content of a WebVTT file; raises ``RequestError`` as ``cues`` does."""
    shown = [
        f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n" + "\n".join(cue.lines).translate(_ESCAPED) + "\n"
        for cue in cues(times, options)
    ]
    return "\n".join(["WEBVTT\n", *shown])


def _clock(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{point}{rest:03d}"


SRT = TimesFormat(write_srt, CueOptions)
"""SubRip."""
VTT = TimesFormat(write_vtt, CueOptions)
"""WebVTT."""
