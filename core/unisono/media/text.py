"""Text: a text with the tokens that it was made of, and the step at which each was settled."""

import html
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from unisono.media.base import Media


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
    streamed: ClassVar[tuple[str, ...]] = (".txt",)
    shown: ClassVar[str] = "text"

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

    @property
    def amount(self) -> tuple[float, str]:
        """Its characters."""
        return len(self.text), "characters"

    @staticmethod
    def join(pieces: "Sequence[Text]") -> "Text":
        """Return the texts of a stream as one; one piece is kept whole, of several only the text is known."""
        return pieces[0] if len(pieces) == 1 else Text("".join(piece.text for piece in pieces))

    @classmethod
    def encode_pieces(cls, pieces: "Iterable[Text]", suffix: str) -> Iterator[bytes]:
        """Yield the texts of the pieces in UTF-8; raises ``RequestError`` for a suffix not among ``streamed``."""
        cls.check_streamed(suffix)
        for piece in pieces:
            yield piece.text.encode("utf-8", "replace")

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        shown = self.text if len(self.text) <= 40 else f"{self.text[:39]}…"
        steps = f", {self.num_steps} steps" if self.num_steps else ""
        return f"Text({shown!r}, {len(self.text)} characters{steps})"

    def about(self) -> dict[str, Any]:
        """Return everything, as `to_dict`."""
        return self.to_dict()

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

    def log(self, board: Any, tag: str, step: int, figure: Any = None) -> None:
        """Add its picture, where its order is known, and the text, indented because it is read as Markdown."""
        if figure is not None or self.order or not self.text:
            super().log(board, tag, step, figure)
        board.add_text(tag, "\n".join(f"    {line}" for line in self.text.split("\n")), step)

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
