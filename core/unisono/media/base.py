"""Media: the base of every output, and the hooks by which the core treats all kinds alike."""

from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from unisono.errors import RequestError
from unisono.files import writing_to, written_aside
from unisono.media.times import Times, TimesWriter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from unisono.media.audio import Audio


class Media:
    """The base of every output. A kind defines ``suffixes``, ``_write`` and ``plot``; the hooks below have defaults.

    ``seconds``: how long it lasts. ``amount``: how much it is, in its own unit. ``sound``: what of it can be heard.
    ``log``: what a training log keeps of it. ``__rich__``: what a terminal shows of it, live views included.
    ``_repr_html_``: what a notebook shows. ``about``: what a program is told of it, as plain JSON. ``times``: what of
    it is when. ``encode_pieces``: how it is written while it is made.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    """The formats it can be written in; previews take the first."""
    streamed: ClassVar[tuple[str, ...]] = ()
    """Those of them that ``encode_pieces`` writes."""
    shown: ClassVar[str] = "file"
    """How the page of ``unisono serve`` shows it: a view of `unisono.serve.page` (``"file"`` goes by the media type of
    the first suffix), or a script of the kind's own package, as ``"package:file.js"``."""

    def save(self, path: str | Path) -> Path:
        """Write the output to a file and return its path; the suffix chooses the format.

        The file is written beside its place and moved there when it is whole; what was there before stays until then.
        Raises ``RequestError`` where it cannot be written.
        """
        path = self.check_path(path)
        with written_aside(path, RequestError) as aside:
            self._write(aside)
        return path

    def encoded(self, suffix: str) -> bytes:
        """Return the bytes of the output as a file with this suffix; raises ``RequestError`` for an unknown one."""
        self.check_path(f"x{suffix}")
        with TemporaryDirectory(prefix="unisono-") as folder:
            path = Path(folder) / f"output{suffix}"
            with writing_to(path, RequestError):
                self._write(path)
                return path.read_bytes()

    @classmethod
    def check_path(cls, path: str | Path) -> Path:
        """Raise ``RequestError`` unless the suffix is one that this kind of output can be written as."""
        path = Path(path)
        if path.suffix.lower() not in cls.suffixes:
            shown = repr(path.suffix) if path.suffix else "a file without suffix"
            raise RequestError(
                f"cannot write {cls.__name__} as {shown} ({path.name}): use one of {', '.join(cls.suffixes)}",
                code="unsupported",
                path=path,
                value=path.suffix,
            )
        return path

    @classmethod
    def encode_pieces(cls, pieces: "Iterable[Any]", suffix: str) -> Iterator[bytes]:
        """Yield the bytes of the pieces of a stream as one file, as soon as there are any.

        Raises ``RequestError`` for a suffix that is not among ``streamed``.
        """
        cls.check_streamed(suffix)
        raise TypeError(f"{cls.__name__} does not say how its pieces are written")

    @classmethod
    def check_streamed(cls, suffix: str) -> None:
        """Raise ``RequestError`` unless pieces can be written with this suffix while they are made."""
        cls.check_path(f"x{suffix}")
        if suffix.lower() not in cls.streamed:
            known = f"use one of {', '.join(cls.streamed)}" if cls.streamed else "make it whole"
            raise RequestError(
                f"{cls.__name__} cannot be written as {suffix!r:.80} piece by piece: {known}",
                code="unsupported",
                path="stream",
                value=suffix,
            )

    @staticmethod
    def join(pieces: "Sequence[Any]") -> Any:
        """Return the pieces of a stream as one output; a kind that is streamed in several pieces says how.

        Raises ``RequestError`` where there is none, or more than one and the kind does not say.
        """
        if len(pieces) != 1:
            raise RequestError(
                f"{len(pieces)} outputs cannot be joined to one: this kind does not say how",
                code="unsupported" if pieces else "empty",
                path="pieces",
                value=len(pieces),
            )
        return pieces[0]

    def as_file(self, suffix: str | None = None) -> BytesIO:
        """Return the output as a file in memory; the suffix chooses the format, the first of ``suffixes`` without one.

        Raises ``RequestError`` where it cannot be written so.
        """
        suffix = self.suffixes[0] if suffix is None else suffix
        self.check_path(f"output{suffix}")
        return BytesIO(self.encoded(suffix))

    def times(self) -> Times | None:
        """Return what of it is when; None where that is not known, as of every kind that does not say."""
        return None

    def save_times(self, path: str | Path, **options: Any) -> Path:
        """Write what of it is when to a file and return its path; the suffix chooses the format, as ``save`` does.

        ``options`` are the format's. Raises ``RequestError`` where the times are not known, where there is no such
        format or option, or where the file cannot be written.
        """
        path = Path(path)
        content = self.encoded_times(TimesWriter.of(path.suffix, options, path))
        with written_aside(path, RequestError) as aside:
            aside.write_bytes(content)
        return path

    def encoded_times(self, writer: TimesWriter) -> bytes:
        """Return the content of a file of its times; raises ``RequestError`` where they are not known."""
        self.check_times()
        times = self.times()
        if times is None:
            raise self.without_times()
        return writer.content(times)

    @classmethod
    def encoded_times_of(cls, pieces: "Sequence[Times | None]", writer: TimesWriter) -> bytes:
        """Return the content of a file of the times of a stream's pieces, each as ``times`` says; raises
        ``RequestError`` where those of one of them are not known."""
        known = [times for times in pieces if times is not None]
        if len(known) < len(pieces) or not known:
            raise cls.without_times()
        return writer.content(Times.join(known))

    @classmethod
    def without_times(cls) -> RequestError:
        """Return the error of an output of this kind whose times are not known."""
        return RequestError(
            f"this {cls.__name__} has no times: its model does not tell what is when, so leave times out",
            code="unsupported",
            path="times",
            value=cls.__name__,
        )

    @classmethod
    def check_times(cls) -> None:
        """Raise ``RequestError`` where this kind never has times."""
        if cls.times is Media.times:
            raise RequestError(
                f"{cls.__name__} has no times, whatever makes it: leave times out",
                code="unsupported",
                path="times",
                value=cls.__name__,
            )

    def following(self, previous: "Any | None") -> Any:
        """Return it as the piece of a stream that comes after ``previous`` (None: the first), which a kind that lasts
        notes as its place; by default itself. Called by ``Synthesizer.stream``."""
        return self

    def _write(self, path: Path) -> None:
        """Write it whole to a path with one of ``suffixes``, or raise: a library that hides errors is not trusted."""
        raise TypeError(f"{type(self).__name__} does not say how it is written")

    def plot(self) -> "Figure":
        """Return a matplotlib figure."""
        raise TypeError(f"{type(self).__name__} does not say how it is drawn")

    @property
    def seconds(self) -> float | None:
        """How long it lasts, for real-time factors; None where it has no duration."""
        return None

    @property
    def amount(self) -> tuple[float, str] | None:
        """How much it is, with its unit: seconds where it lasts; None where a kind does not say."""
        return None if self.seconds is None else (self.seconds, "seconds")

    def sound(self) -> "Audio | None":
        """Return it as it is heard; None where it is silent. A score returns what it sounds like."""
        return None

    def log(self, board: Any, tag: str, step: int, figure: "Figure | None" = None) -> None:
        """Add it to a TensorBoard ``SummaryWriter``: its picture, and its sound where it has one.

        ``figure`` is what ``plot()`` returned, where that is known already. A kind may add more.
        """
        board.add_figure(tag, self.plot() if figure is None else figure, step)
        heard = self.sound()
        if heard is not None:
            board.add_audio(tag, heard.waveform[:1], step, heard.sample_rate)

    def about(self) -> dict[str, Any]:
        """Return what is known about it beside its content, as plain JSON; ``unisono serve`` answers it."""
        return {} if self.seconds is None else {"seconds": self.seconds}

    def __rich__(self) -> Any:
        """Return what a terminal shows of it, as rich renders it; ``unisono generate --live`` calls it at each step."""
        from rich.text import Text

        return Text(repr(self))
