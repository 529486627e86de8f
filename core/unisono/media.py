"""Media: what a model makes. Each kind saves itself, plots itself and shows itself in a notebook."""

import base64
import html
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from unisono.errors import RequestError, writing


class Media:
    """The base of every output: ``save(path)``, ``plot()``, ``_repr_html_``."""

    suffixes: ClassVar[tuple[str, ...]] = ()

    def save(self, path: str | Path) -> Path:
        """Write the output to a file and return its path; the suffix chooses the format."""
        path = self.check_path(path)
        with writing(path, RequestError):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write(path)
        return path

    @classmethod
    def check_path(cls, path: str | Path) -> Path:
        """Raise ``RequestError`` unless the suffix is one that this kind of output can be written as."""
        path = Path(path)
        if path.suffix.lower() not in cls.suffixes:
            shown = repr(path.suffix) if path.suffix else "a file without suffix"
            raise RequestError(
                f"cannot write {cls.__name__} as {shown} ({path.name}): use one of {', '.join(cls.suffixes)}"
            )
        return path

    def _write(self, path: Path) -> None:
        raise TypeError(f"{type(self).__name__} does not say how it is written")

    def plot(self) -> Any:
        """Return a matplotlib figure."""
        raise TypeError(f"{type(self).__name__} does not say how it is drawn")


@dataclass(frozen=True)
class Segment:
    """A labelled stretch of time, such as a phoneme or a word; seconds."""

    label: str
    start: float
    end: float
    kind: str = "phoneme"


@dataclass(frozen=True)
class Curve:
    """A named quantity over time, such as pitch in Hz; NaN where undefined. Times in seconds."""

    times: np.ndarray
    values: np.ndarray
    unit: str = ""


@dataclass(frozen=True, eq=False)
class Audio(Media):
    """Sound: ``waveform`` float32 [c, t] in [-1, 1] at ``sample_rate`` Hz, with what is known about it.

    ``segments`` are phonemes and words with their times, ``curves`` quantities such as pitch.
    """

    waveform: np.ndarray
    sample_rate: int
    segments: tuple[Segment, ...] = ()
    curves: dict[str, Curve] = field(default_factory=dict)

    suffixes: ClassVar[tuple[str, ...]] = (".wav", ".flac", ".ogg", ".mp3")

    def __post_init__(self):
        if self.waveform.ndim != 2:
            raise ValueError(f"waveform must be [channels, samples], got shape {self.waveform.shape}")

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.waveform.shape[1] / self.sample_rate

    def __repr__(self) -> str:
        channels = self.waveform.shape[0]
        return f"Audio({self.seconds:.2f} s, {self.sample_rate} Hz, {channels} channel{'s' * (channels > 1)})"

    def _write(self, path: Path) -> None:
        import soundfile

        samples = np.clip(self.waveform.T, -1.0, 1.0)
        subtype = "PCM_16" if path.suffix.lower() in (".wav", ".flac") else None
        try:
            soundfile.write(path, samples, self.sample_rate, subtype=subtype)
        except soundfile.LibsndfileError as error:
            raise OSError(error.error_string) from None

    def plot(self):
        """Draw the spectrogram with the phonemes' borders and the pitch over it."""
        from unisono.audio.plot import spectrogram_figure

        return spectrogram_figure(self)

    def _repr_html_(self) -> str:
        import soundfile

        buffer = io.BytesIO()
        soundfile.write(buffer, np.clip(self.waveform.T, -1, 1), self.sample_rate, format="WAV")
        data = base64.b64encode(buffer.getvalue()).decode()
        label = html.escape(repr(self))
        return f'<audio controls title="{label}" src="data:audio/wav;base64,{data}"></audio>'

    @staticmethod
    def join(pieces: "list[Audio]") -> "Audio":
        """Concatenate pieces in time; segments and curves move along."""
        if not pieces:
            raise RequestError("there is no audio to join")
        rate = pieces[0].sample_rate
        segments: list[Segment] = []
        curves: dict[str, list[Curve]] = {}
        offset = 0
        for piece in pieces:
            if piece.sample_rate != rate:
                raise RequestError(f"cannot join {piece.sample_rate} Hz to {rate} Hz: resample one of them")
            shift = offset / rate
            segments += [Segment(s.label, s.start + shift, s.end + shift, s.kind) for s in piece.segments]
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
        return Audio(waveform, rate, tuple(segments), joined)
