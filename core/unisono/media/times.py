"""Times: what of a medium is when, counted in the medium's own units, and the formats that plugins write it in."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from unisono.errors import RequestError

SLACK = 2
"""Units by which a stretch may reach over another one or over the end, by rounding: it is cut there."""


@dataclass(frozen=True)
class Segment:
    """A labelled stretch of time, such as a phoneme or a word; seconds.

    ``span`` is the label's place in the written text, ``text[span[0]:span[1]]``; None where that is not known.
    """

    label: str
    start: float
    end: float
    kind: str = "phoneme"
    span: tuple[int, int] | None = None

    def moved(self, seconds: float, characters: int = 0) -> "Segment":
        """Return it as of a longer whole, in which what it is a part of begins so much later."""
        span = None if self.span is None else (self.span[0] + characters, self.span[1] + characters)
        return replace(self, start=self.start + seconds, end=self.end + seconds, span=span)


@dataclass(frozen=True)
class Stretch:
    """A segment in whole units [first, last) of its medium."""

    label: str
    first: int
    last: int
    span: tuple[int, int] | None = None


@dataclass(frozen=True)
class Times:
    """What of a medium is when.

    Attributes:
        segments: labelled stretches of any kinds; of one kind they follow one another.
        length: of the medium, in its own units, such as samples.
        rate: units a second.
        text: as it is written, which the segments' ``span`` are places in; empty where it is not known.
    """

    segments: tuple[Segment, ...]
    length: int
    rate: int
    text: str = ""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of segments, in the order in which they first come."""
        return tuple(dict.fromkeys(segment.kind for segment in self.segments))

    def stretches(self, kind: str) -> list[Stretch]:
        """Return the segments of a kind in whole units, in order, none over another one or over the end.

        A border that two segments share is one number. Raises ``RequestError`` where a segment ends before it begins,
        begins before the one before it ends, or ends behind the end.
        """
        found: list[Stretch] = []
        end = 0
        for segment in self.segments:
            if segment.kind != kind:
                continue
            first, last = round(segment.start * self.rate), round(segment.end * self.rate)
            if last < first or first < end - SLACK or last > self.length + SLACK:
                raise RequestError(
                    f"the {kind} {segment.label!r:.80} is said to be from {segment.start:.6f} to {segment.end:.6f} s, "
                    f"where {end / self.rate:.6f} to {self.length / self.rate:.6f} s are left: its times are wrong",
                    code="value",
                    path="segments",
                    value=(segment.start, segment.end),
                )
            first = min(max(first, end), self.length)
            end = min(max(last, first), self.length)
            found.append(Stretch(segment.label, first, end, segment.span))
        return found

    @staticmethod
    def join(pieces: "Iterable[Times]") -> "Times":
        """Return the times of pieces that follow one another; raises ``RequestError`` where there is none."""
        segments: list[Segment] = []
        length, rate, text = 0, 0, ""
        for piece in pieces:
            rate = rate or piece.rate
            if piece.rate != rate:
                raise RequestError(
                    f"cannot join {piece.rate} Hz to {rate} Hz: resample one of them",
                    code="conflict",
                    path="sample_rate",
                    value=piece.rate,
                )
            segments += [segment.moved(length / rate, len(text)) for segment in piece.segments]
            length, text = length + piece.length, text + piece.text
        if not rate:
            raise RequestError("there are no times to join", code="empty", path="pieces")
        return Times(tuple(segments), length, rate, text)


class TimesOptions(BaseModel):
    """The base of what a format of times can be asked; without fields of its own, nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class TimesFormat:
    """A format of times, as ``Plugin.times`` names it.

    Attributes:
        write: returns the content of a file: ``write(times, options)``; raises ``RequestError`` for what it has no
            place for, such as times without words.
        options: what it can be asked.
    """

    write: Callable[[Times, Any], str]
    options: type[TimesOptions] = TimesOptions


@dataclass(frozen=True)
class TimesWriter:
    """A format that was chosen by a suffix, with its options, checked before what it is to write is made."""

    suffix: str
    format: TimesFormat
    options: TimesOptions

    @classmethod
    def of(cls, suffix: str, options: Mapping[str, Any] | None = None, path: Any = None) -> "TimesWriter":
        """Return the writer of a suffix, by capitals or small letters; raises ``RequestError`` where there is none, or
        for an option that it does not know or that is out of its range. ``path`` is what the error is about."""
        from unisono.plugin import times_format, times_suffixes
        from unisono.request import sentence_of

        known = times_suffixes()
        named = {own.lower(): own for own in known}
        if suffix.lower() not in named:
            raise RequestError(
                f"times are not written as {suffix!r:.80}"
                + (f": use one of {', '.join(known)}" if known else ": no plugin that is installed writes any"),
                code="unsupported",
                path=suffix if path is None else path,
                value=suffix,
            )
        own = named[suffix.lower()]
        format: TimesFormat = times_format(own)
        try:
            return cls(own, format, format.options(**(options or {})))
        except ValidationError as error:
            raise sentence_of(format.options, error) from None

    @classmethod
    def asked(cls, media: Any, suffix: str | None, options: Mapping[str, Any], path: Any = "--times") -> Any:
        """Return the writer that a user asks for of a kind of medium; None where no suffix is given.

        Raises ``RequestError`` as ``of`` does, where the kind never has times, and for options without a suffix.
        """
        if suffix is None:
            if options:
                raise RequestError(
                    "--times-option is of --times: give --times too", code="missing", path=path, value=list(options)
                )
            return None
        media.check_times()
        return cls.of(suffix, options, path)

    @property
    def beside(self) -> str:
        """The suffix beside outputs, of which ``.json`` says what they were made from."""
        return ".times.json" if self.suffix == ".json" else self.suffix

    def content(self, times: Times) -> bytes:
        """Return a file's content, in UTF-8; raises ``RequestError`` where the format has no place for the times."""
        # A lone surrogate, which JSON can smuggle into a str, has no UTF-8.
        return self.format.write(times, self.options).encode("utf-8", "replace")
