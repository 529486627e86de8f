"""Formats: which of a medium's suffixes a client wants, by ``format`` or ``Accept``, and the medium in it."""

import base64
import mimetypes
from typing import Any

from unisono.media import TimesWriter
from unisono.serve.errors import Refused

TYPES = {
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".mp3": "audio/mpeg",
    ".pcm": "audio/pcm",
    ".webp": "image/webp",
    ".txt": "text/plain; charset=utf-8",
    ".json": "application/json",
    ".npz": "application/octet-stream",
}
"""Where the system's table is missing, differs between systems or has none."""

JSON = "json"
"""The format of a medium with what is known about it: ``{about, format, type, data}``."""


def media_type(suffix: str) -> str:
    """Return the media type of a suffix."""
    return TYPES.get(suffix) or mimetypes.guess_type(f"x{suffix}")[0] or "application/octet-stream"


def wanted(media: Any, format: str | None, accept: str | None) -> str:
    """Return a suffix of a kind of medium, or ``JSON``; raises ``Refused`` for what it cannot be written as."""
    suffixes = list(media.suffixes)
    if format is not None:
        if format.lower() == JSON:
            return JSON
        suffix = f".{format.lower().removeprefix('.')}"
        if suffix not in suffixes:
            known = ", ".join(suffix[1:] for suffix in suffixes)
            message = f"format={format[:40]!r}: this model's output is written as {known} or json"
            raise Refused(400, message, code="unsupported", path="format")
        return suffix
    ranges = []
    for part in (accept or "*/*").lower().split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        ranges.append((float(quality) if quality.replace(".", "", 1).isdecimal() else 0.0, kind))
    for quality, kind in sorted(ranges, key=lambda item: -item[0]):
        if not quality:
            continue
        if kind == "*/*":
            return suffixes[0]
        if kind == "application/json":
            return JSON
        own = {suffix: media_type(suffix).partition(";")[0] for suffix in suffixes}
        for suffix, known in own.items():
            if known == kind or (kind.endswith("/*") and known.startswith(kind[:-1])):
                return suffix
    known = ", ".join(dict.fromkeys([*(media_type(suffix) for suffix in suffixes), "application/json"]))
    raise Refused(406, f"accept: {accept!r:.80} is none of {known}", code="unsupported", path="accept")


def encoded(medium: Any, suffix: str, most: int) -> bytes:
    """Return the content of a file of a suffix; raises ``Refused`` (413) where that has more than ``most`` bytes."""
    return checked(medium.encoded(suffix), most)


def checked(content: bytes, most: int) -> bytes:
    """Return an answer's content, or raise ``Refused`` (413) where it is too much."""
    if len(content) > most:
        raise Refused(413, f"the output has {len(content)} bytes, at most {most}: ask for less", code="limit")
    return content


def described(medium: Any, suffix: str, most: int, times: TimesWriter | None = None) -> dict[str, Any]:
    """Return a medium as JSON: what is known about it, itself as base64, and where asked its times as a file's text."""
    data = base64.b64encode(encoded(medium, suffix, most)).decode("ascii")
    told = {"about": medium.about(), "format": suffix[1:], "type": media_type(suffix), "data": data}
    return told if times is None else told | {"times": checked(medium.encoded_times(times), most).decode()}


def wanted_times(media: Any, times: str | None) -> TimesWriter | None:
    """Return what writes the times that a client wants, such as ``srt``; raises ``RequestError`` where none can be."""
    ending = None if times is None else f".{times.removeprefix('.')}"
    return TimesWriter.asked(media, ending, {}, "times")
