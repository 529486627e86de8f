"""Transcript: what was heard, with its words, when each was said and how sure the recogniser is of it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from unisono.errors import RequestError
from unisono.media import Segment, Text, Times, TimesWriter

__all__ = ["Transcript"]

TIMED = (".srt", ".vtt", ".textgrid")


@dataclass(frozen=True, eq=False)
class Transcript(Text):
    """A text that was heard.

    Attributes:
        segments: words and units with their times, in seconds, and their places in ``text``.
        confidences: of each segment, in [0, 1].
        length, sample_rate: of the sound, in samples.
        offset: where the sound begins in the stream that it is a piece of, in seconds; times are those within it.
        notes: what was done to the sound, such as that its channels were averaged.
    """

    segments: tuple[Segment, ...] = ()
    confidences: tuple[float, ...] = ()
    length: int = 0
    sample_rate: int = 16000
    offset: float = 0.0
    notes: tuple[str, ...] = ()

    suffixes: ClassVar[tuple[str, ...]] = (".txt", ".json", *TIMED)

    def __post_init__(self):
        super().__post_init__()
        if len(self.segments) != len(self.confidences):
            raise ValueError(f"{len(self.segments)} segments have {len(self.confidences)} confidences: give one each")

    @property
    def seconds(self) -> float:
        """How long the sound lasts."""
        return self.length / self.sample_rate

    @property
    def words(self) -> tuple[Segment, ...]:
        """The words with their times."""
        return tuple(segment for segment in self.segments if segment.kind == "word")

    @property
    def confidence(self) -> float | None:
        """The mean confidence of the words, None where there is none."""
        sure = [c for c, segment in zip(self.confidences, self.segments, strict=True) if segment.kind == "word"]
        return sum(sure) / len(sure) if sure else None

    def times(self) -> Times:
        """Return when words and units are said."""
        return Times(self.segments, self.length, self.sample_rate, self.text)

    def following(self, previous: "Transcript | None") -> "Transcript":
        """Return it with its offset: where the sound of the previous piece ends, counted in samples."""
        if previous is None:
            return self
        return replace(self, offset=(round(previous.offset * self.sample_rate) + previous.length) / self.sample_rate)

    @staticmethod
    def join(pieces: "Sequence[Text]") -> "Transcript":
        """Return the transcripts of a stream's pieces as one, a space between their texts; times move along.

        Raises ``RequestError`` where there is none, or where one is of another rate.
        """
        if not pieces:
            raise RequestError("there are no transcripts to join", code="empty", path="pieces")
        text, length = "", 0
        segments: list[Segment] = []
        confidences: list[float] = []
        parts: dict[str, list[Any]] = {"tokens": [], "pieces": [], "order": []}
        first = pieces[0]
        assert isinstance(first, Transcript)
        for piece in pieces:
            assert isinstance(piece, Transcript)
            if piece.sample_rate != first.sample_rate:
                raise RequestError(
                    f"cannot join {piece.sample_rate} Hz to {first.sample_rate} Hz: resample one of them",
                    code="conflict",
                    path="sample_rate",
                    value=piece.sample_rate,
                )
            text += " " if text and piece.text else ""
            segments += [segment.moved(length / first.sample_rate, len(text)) for segment in piece.segments]
            confidences += piece.confidences
            for name, values in parts.items():
                values += getattr(piece, name)
            text, length = text + piece.text, length + piece.length
        return replace(
            first,
            text=text,
            segments=tuple(segments),
            confidences=tuple(confidences),
            length=length,
            notes=tuple(dict.fromkeys(note for piece in pieces for note in piece.notes)),  # pyright: ignore[reportAttributeAccessIssue]
            **{name: tuple(values) for name, values in parts.items()},
        )

    @classmethod
    def encode_pieces(cls, pieces: "Iterable[Text]", suffix: str) -> Iterator[bytes]:
        """Yield the texts of the pieces in UTF-8, a space between two; raises ``RequestError`` for a suffix not among
        ``streamed``."""
        cls.check_streamed(suffix)
        begun = False
        for piece in pieces:
            yield f"{' ' if begun and piece.text else ''}{piece.text}".encode("utf-8", "replace")
            begun = begun or bool(piece.text)

    def to_dict(self) -> dict[str, Any]:
        """Return text, words and units with times and confidences, as plain JSON."""
        rows = [
            {**asdict(segment), "confidence": round(sure, 6)}
            for segment, sure in zip(self.segments, self.confidences, strict=True)
        ]
        return {
            "text": self.text,
            "seconds": self.seconds,
            "sample_rate": self.sample_rate,
            "confidence": self.confidence,
            "words": [row for row in rows if row["kind"] == "word"],
            "units": [row for row in rows if row["kind"] != "word"],
            "notes": list(self.notes),
            "facts": self.facts,
        }

    def _write(self, path: Path) -> None:
        if path.suffix.lower() in TIMED:
            path.write_bytes(TimesWriter.of(path.suffix).content(self.times()))
        else:
            super()._write(path)

    def __repr__(self) -> str:
        shown = self.text if len(self.text) <= 40 else f"{self.text[:39]}…"
        return f"Transcript({shown!r}, {self.seconds:.2f} s, {len(self.words)} words)"
