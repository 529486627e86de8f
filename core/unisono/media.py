"""Media: what a model makes. Each kind saves itself, plots itself and shows itself in a notebook."""

import base64
import html
import io
import json
from collections.abc import Sequence
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
        from unisono.spectrogram import spectrogram_figure

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


@dataclass(frozen=True, eq=False)
class Image(Media):
    """A picture: ``pixels`` uint8 [3, h, w], or float [3, h, w] from 0 to 1; red, green, blue, top row first.

    Raises ``ValueError`` for another shape or type.
    """

    pixels: np.ndarray

    suffixes: ClassVar[tuple[str, ...]] = (".png", ".jpg", ".jpeg", ".webp")

    def __post_init__(self):
        kind, shape = self.pixels.dtype, self.pixels.shape
        if len(shape) != 3 or shape[0] != 3 or 0 in shape:
            raise ValueError(f"pixels must be [3, height, width], got shape {shape}")
        if kind != np.uint8 and kind.kind != "f":
            raise ValueError(f"pixels must be uint8, or float from 0 to 1, got {kind}")

    @property
    def height(self) -> int:
        """Rows."""
        return self.pixels.shape[1]

    @property
    def width(self) -> int:
        """Columns."""
        return self.pixels.shape[2]

    @property
    def bytes(self) -> np.ndarray:
        """The picture as uint8 [h, w, 3], as files have it; floats are cut to 0..1 and rounded."""
        pixels = self.pixels
        if pixels.dtype != np.uint8:
            pixels = (np.nan_to_num(pixels).clip(0, 1) * 255).round().astype(np.uint8)
        return np.ascontiguousarray(pixels.transpose(1, 2, 0))

    def __repr__(self) -> str:
        return f"Image({self.width} × {self.height})"

    def enlarged(self, times: int) -> "Image":
        """Return it with every pixel as a square of ``times`` × ``times``; for small pictures on large screens."""
        if times < 1:
            raise RequestError(f"times={times} must be at least 1")
        return Image(self.pixels.repeat(times, 1).repeat(times, 2))

    @staticmethod
    def grid(images: "Sequence[Image]", columns: int | None = None, gap: int = 2) -> "Image":
        """Lay pictures of one size out in rows, on white; ``columns`` defaults to a square, ``gap`` is in pixels."""
        if not images:
            raise RequestError("there is no image to lay out")
        sizes = sorted({(image.width, image.height) for image in images})
        if len(sizes) > 1:
            shown = ", ".join(f"{width} × {height}" for width, height in sizes)
            raise RequestError(f"a grid takes images of one size, these are {shown}: resize them first")
        columns = columns or int(np.ceil(np.sqrt(len(images))))
        if columns < 1 or gap < 0:
            raise RequestError(f"columns={columns} must be at least 1, gap={gap} at least 0")
        columns = min(columns, len(images))
        (width, height), rows = sizes[0], -(-len(images) // columns)
        shape = (3, rows * (height + gap) - gap, columns * (width + gap) - gap)
        sheet = np.full(shape, 255, np.uint8)
        for index, image in enumerate(images):
            top, left = (height + gap) * (index // columns), (width + gap) * (index % columns)
            sheet[:, top : top + height, left : left + width] = image.bytes.transpose(2, 0, 1)
        return Image(sheet)

    def _picture(self) -> Any:
        from PIL import Image as Pillow

        return Pillow.fromarray(self.bytes)

    def _write(self, path: Path) -> None:
        self._picture().save(path, **({"quality": 95} if path.suffix.lower() in (".jpg", ".jpeg") else {}))

    def plot(self):
        """Draw it, small ones with visible pixels."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4, 4 * min(max(self.height / self.width, 0.25), 4)))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.imshow(self.bytes, interpolation="nearest" if max(self.width, self.height) <= 128 else "antialiased")
        axes.set_axis_off()
        return figure

    def _repr_html_(self) -> str:
        buffer = io.BytesIO()
        self._picture().save(buffer, format="PNG")
        data = base64.b64encode(buffer.getvalue()).decode()
        shown = max(self.width, 4 * 32 if self.width <= 64 else 0)
        label = html.escape(repr(self))
        style = "image-rendering: pixelated" if shown > self.width else ""
        return f'<img alt="{label}" width="{shown}" style="{style}" src="data:image/png;base64,{data}">'


@dataclass(frozen=True, eq=False)
class Text(Media):
    """A text, with the tokens that it was made of and the step at which each was settled.

    ``tokens`` are ids of the model's tokenizer, ``pieces`` what each of them reads (a character that spans several
    tokens shows as ``�`` in each), ``order`` the step, counted from 0, at which each was settled, −1 for those that
    were given. All three are as long as one another, or empty. ``facts`` is whatever else the model says of it, as
    plain JSON. Raises ``ValueError`` where the lengths differ.
    """

    text: str
    tokens: tuple[int, ...] = ()
    pieces: tuple[str, ...] = ()
    order: tuple[int, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    suffixes: ClassVar[tuple[str, ...]] = (".txt", ".json")

    def __post_init__(self):
        lengths = {name: len(value) for name, value in self._parts().items() if value}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{count} {name}" for name, count in lengths.items())
            raise ValueError(f"a text has one piece and one step for each token, not {shown}")

    def _parts(self) -> dict[str, tuple]:
        return {"tokens": self.tokens, "pieces": self.pieces, "steps": self.order}

    @property
    def num_steps(self) -> int:
        """In how many steps it was filled; 0 where that is not known."""
        return max(self.order, default=-1) + 1

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        shown = self.text if len(self.text) <= 40 else f"{self.text[:39]}…"
        steps = f", {self.num_steps} steps" if self.num_steps else ""
        return f"Text({shown!r}, {len(self.text)} characters{steps})"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON."""
        order = {"tokens": list(self.tokens), "pieces": list(self.pieces), "order": list(self.order)}
        return {"text": self.text, **order, "facts": self.facts}

    def _write(self, path: Path) -> None:
        # A lone surrogate, which JSON can smuggle into a str, has no UTF-8.
        text = self.text
        if path.suffix.lower() == ".json":
            text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False)
        # Bytes, so that line ends stay what they are on every system.
        path.write_bytes(text.encode("utf-8", "replace"))

    def __rich__(self) -> Any:
        """For terminals: what was given is dim, what was settled last stands out."""
        from rich.text import Text as Line

        line = Line()
        parts = zip(self.pieces, self.order, strict=True) if self.order and self.pieces else [(self.text, 0)]
        for piece, step in parts:
            style = "dim" if step < 0 else "bold green" if step + 1 == self.num_steps else ""
            line.append(piece.replace("\x1b", "␛"), style)  # a text must not command the terminal
        return line

    def plot(self):
        """Draw when each token was settled: place along, step upwards, with the tokens where they fit.

        A text that ended before it began is drawn as an empty page. Raises ``ValueError`` where there is a text whose
        order is not known.
        """
        if self.text and not self.order:
            raise ValueError("this text does not say in which order it was filled, so there is nothing to draw")
        from matplotlib.figure import Figure

        count = len(self.order)
        figure = Figure(figsize=(min(4 + 0.12 * count, 24), 4), layout="constrained")
        axes = figure.add_subplot()
        given = np.array(self.order, int) < 0
        places = np.arange(count)
        axes.scatter(places[~given], np.array(self.order, int)[~given], c="tab:blue", s=12, label="filled")
        axes.scatter(places[given], np.full(given.sum(), -1), c="tab:gray", s=12, marker="s", label="given")
        if self.pieces and count <= 160:
            # "$" would be taken for the beginning of a formula
            names = [repr(piece)[1:-1].replace("$", r"\$") for piece in self.pieces]
            axes.set_xticks(places, names, rotation=90, fontsize=6, family="monospace")
        axes.set(xlabel="token" if self.pieces and count <= 160 else "place", ylabel="step", xlim=(-1, max(count, 1)))
        axes.legend(loc="upper right", fontsize=8)
        return figure

    def _repr_html_(self) -> str:
        label = html.escape(repr(self), quote=True)
        style = "white-space: pre-wrap; font-family: monospace"
        if not (self.order and self.pieces):
            return f'<div title="{label}" style="{style}">{html.escape(self.text)}</div>'
        spans = []
        for piece, step in zip(self.pieces, self.order, strict=True):
            # The later, the darker; what was given stands on white.
            shade = "" if step < 0 else f"background: rgba(65, 105, 225, {0.08 + 0.52 * step / self.num_steps:.2f})"
            name = "given" if step < 0 else f"step {step}"
            spans.append(f'<span title="{name}" style="{shade}">{html.escape(piece)}</span>')
        return f'<div title="{label}" style="{style}">{"".join(spans)}</div>'
