"""Audio: sound with its phonemes, words and curves."""

import base64
import html
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from einops import rearrange

from unisono.errors import RequestError
from unisono.media.base import Media
from unisono.media.times import Segment, Times


@dataclass(frozen=True)
class Curve:
    """A named quantity over time, such as pitch in Hz; NaN where undefined. Times in seconds."""

    times: np.ndarray
    values: np.ndarray
    unit: str = ""


@dataclass(frozen=True, eq=False)
class Audio(Media):
    """Sound: ``waveform`` float32 [c, t] in [-1, 1] at ``sample_rate`` Hz, with what is known about it.

    ``segments`` are phonemes and words with their times, ``curves`` quantities such as pitch. ``offset`` is where it
    begins in the stream that it is a piece of, in seconds; times are those within the piece. ``text`` is what is said,
    as it is written: that of a piece its own part, in which words have their ``span``.
    """

    waveform: np.ndarray
    sample_rate: int
    segments: tuple[Segment, ...] = ()
    curves: dict[str, Curve] = field(default_factory=dict)
    offset: float = 0.0
    text: str = ""

    suffixes: ClassVar[tuple[str, ...]] = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".pcm")
    streamed: ClassVar[tuple[str, ...]] = (".wav", ".flac", ".opus", ".mp3", ".pcm")
    shown: ClassVar[str] = "audio"

    def __post_init__(self):
        if self.waveform.ndim != 2:
            raise ValueError(f"waveform must be [channels, samples], got shape {self.waveform.shape}")

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.waveform.shape[1] / self.sample_rate

    @property
    def words(self) -> tuple[Segment, ...]:
        """The words that are said, with their times; none where they are not known."""
        return tuple(segment for segment in self.segments if segment.kind == "word")

    def times(self) -> Times | None:
        """Return the times of phonemes and words, in samples; None where none are known."""
        if not self.segments:
            return None
        return Times(self.segments, self.waveform.shape[1], self.sample_rate, self.text)

    def pcm(self) -> bytes:
        """Return the samples as signed integers of 16 bits, little-endian, channels interleaved: what players of raw
        sound take, and what a .wav file holds behind its header. Samples outside of [-1, 1] are clipped.
        """
        import soundfile

        buffer = io.BytesIO()
        soundfile.write(buffer, self._samples(), self.sample_rate, format="RAW", subtype="PCM_16", endian="LITTLE")
        return buffer.getvalue()

    def following(self, previous: "Audio | None") -> "Audio":
        """Return it with its offset: where the previous piece ends, counted in samples."""
        if previous is None:
            return self
        rate = previous.sample_rate
        return replace(self, offset=(round(previous.offset * rate) + previous.waveform.shape[1]) / rate)

    def sound(self) -> "Audio":
        """Return it itself."""
        return self

    def about(self) -> dict[str, Any]:
        """Return rate and channels, segments with their times, and curves; None where a curve is undefined."""
        curves = {
            name: {"unit": curve.unit, "times": _plain(curve.times), "values": _plain(curve.values)}
            for name, curve in self.curves.items()
        }
        told = {"seconds": self.seconds, "sample_rate": self.sample_rate, "channels": self.waveform.shape[0]}
        return {**told, "text": self.text, "segments": [asdict(segment) for segment in self.segments], "curves": curves}

    def __repr__(self) -> str:
        channels = self.waveform.shape[0]
        return f"Audio({self.seconds:.2f} s, {self.sample_rate} Hz, {channels} channel{'s' * (channels > 1)})"

    def _write(self, path: Path) -> None:
        path.write_bytes(self.encoded(path.suffix))

    def encoded(self, suffix: str) -> bytes:
        """Return the content of a file with this suffix; samples outside of [-1, 1] are clipped.

        ``.pcm`` is that of ``pcm``, without a header. Opus knows five rates: another one is resampled to the next
        higher, or to 48 kHz. It is encoded in memory, because the encoders of Ogg and MP3 do not tell of what a full
        disk takes at the end. Raises ``RequestError`` for a rate or channels that the format does not have.
        """
        import soundfile

        self.check_path(f"x{suffix}")
        kind = suffix.lower().removeprefix(".").upper()
        if kind == "PCM":
            return self.pcm()
        buffer = io.BytesIO()
        samples = self._samples()
        if kind == "OPUS":
            return self._opus(samples)
        subtype = "PCM_16" if kind in ("WAV", "FLAC") else None
        try:
            soundfile.write(buffer, samples, self.sample_rate, format=kind, subtype=subtype)
        except soundfile.LibsndfileError as error:
            raise self._cannot_hold(kind, error.error_string.strip()) from None
        return buffer.getvalue()

    def _opus(self, samples: np.ndarray) -> bytes:
        import soundfile
        import soxr

        from unisono.media.opus import encode_opus, opus_rate

        rate = opus_rate(self.sample_rate)
        if rate != self.sample_rate:
            samples = soxr.resample(samples, self.sample_rate, rate, quality="HQ").clip(-1, 1)
        try:
            return encode_opus(samples, rate)
        except soundfile.LibsndfileError as error:
            raise self._cannot_hold("OPUS", error.error_string.strip()) from None

    def _cannot_hold(self, kind: str, why: str) -> RequestError:
        channels, rate = self.waveform.shape[0], self.sample_rate
        return RequestError(
            f"{kind} cannot hold {channels} channels at {rate} Hz ({why}): use .wav",
            code="unsupported",
            path="waveform",
            value=(channels, rate),
        )

    @classmethod
    def encode_pieces(cls, pieces: "Iterable[Audio]", suffix: str) -> Iterator[bytes]:
        """Yield the bytes of pieces of one rate and number of channels as one file, by one encoder; a header says that
        the length is not known. Raises ``RequestError`` for a suffix that is not among ``streamed``."""
        from unisono.media.encoder import encoded

        cls.check_streamed(suffix)
        yield from encoded(pieces, suffix.lower().removeprefix("."))

    def _samples(self) -> np.ndarray:
        """The samples [t, c] in [-1, 1]; raises ``RequestError`` where there are none, or where it is no sound."""
        if not self.waveform.shape[1]:
            raise RequestError("this sound has no samples: there is nothing to write", code="empty", path="waveform")
        if np.isnan(self.waveform).any():
            raise RequestError(
                "this sound holds samples that are no numbers: the model diverged; train it again",
                code="damaged",
                path="waveform",
            )
        return np.clip(rearrange(self.waveform, "c t -> t c"), -1.0, 1.0)

    def plot(self):
        """Draw the spectrogram with the phonemes' borders and the pitch over it."""
        from unisono.media.spectrogram import spectrogram_figure

        return spectrogram_figure(self)

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.encoded(".wav")).decode() if self.waveform.shape[1] else ""
        label = html.escape(repr(self))
        return f'<audio controls title="{label}" src="data:audio/wav;base64,{data}"></audio>'

    @staticmethod
    def join(pieces: "Sequence[Audio]") -> "Audio":
        """Concatenate pieces in time, and their texts; segments and curves move along."""
        if not pieces:
            raise RequestError("there is no audio to join", code="empty", path="pieces")
        rate = pieces[0].sample_rate
        segments: list[Segment] = []
        curves: dict[str, list[Curve]] = {}
        offset, text = 0, ""
        for piece in pieces:
            if piece.sample_rate != rate:
                raise RequestError(
                    f"cannot join {piece.sample_rate} Hz to {rate} Hz: resample one of them",
                    code="conflict",
                    path="sample_rate",
                    value=piece.sample_rate,
                )
            shift = offset / rate
            segments += [segment.moved(shift, len(text)) for segment in piece.segments]
            text += piece.text
            for name, curve in piece.curves.items():
                curves.setdefault(name, []).append(Curve(curve.times + shift, curve.values, curve.unit))
            offset += piece.waveform.shape[1]
        joined = {
            name: Curve(
                np.concatenate([c.times for c in parts]),
                np.concatenate([c.values for c in parts]),
                parts[0].unit,
            )
            for name, parts in curves.items()
        }
        waveform = np.concatenate([piece.waveform for piece in pieces], axis=1)
        return Audio(waveform, rate, tuple(segments), joined, pieces[0].offset, text)


def _plain(numbers: np.ndarray) -> list[float | None]:
    """Numbers as JSON has them, which knows no NaN."""
    return [float(number) if np.isfinite(number) else None for number in numbers]
