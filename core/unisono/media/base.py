"""Media: the base of every output, and the hooks by which the core treats all kinds alike."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from unisono.errors import RequestError
from unisono.files import writing_to, written_aside

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from unisono.media.audio import Audio


class Media:
    """The base of every output. A kind defines ``suffixes``, ``_write`` and ``plot``; the hooks below have defaults.

    ``seconds``: how long it lasts. ``amount``: how much it is, in its own unit. ``sound``: what of it can be heard.
    ``log``: what a training log keeps of it. ``__rich__``: what a terminal shows of it, live views included.
    ``_repr_html_``: what a notebook shows. ``about``: what a program is told of it, as plain JSON.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    """The formats it can be written in; previews take the first."""
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
