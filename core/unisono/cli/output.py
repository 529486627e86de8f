"""Output: where a verb writes, tried before it begins, and how it prints tables."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 200
"""Columns of a table that is not printed on a terminal."""


def console() -> "Console":
    """Return where tables are printed: as wide as the terminal, or wide where the output is a file or a pipe."""
    from rich.console import Console

    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(file=sys.stdout, width=None if known else WIDE)


def check_writable(path: str) -> None:
    """Say that a place cannot be written before minutes are spent on what is to be written there."""
    from unisono.files import writing_to

    target = Path(path)
    with writing_to(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        there = target.exists()
        target.open("a").close()
        if not there:
            target.unlink()


def check_drawable(path: str) -> None:
    """Say that a picture cannot be drawn there before minutes are spent on what it is to show."""
    from unisono.errors import UnisonoError

    if reason := cannot_draw(path):
        raise UnisonoError(f"cannot draw into {path!r:.200}: {reason}", code="unsupported", path=path)
    check_writable(path)


def cannot_draw(path: str) -> str | None:
    """Return why a picture cannot be drawn into a file of this name; None where it can."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    known = FigureCanvasAgg(Figure()).get_supported_filetypes()
    if Path(path).suffix[1:].lower() in known:
        return None
    return f"end it in one of {', '.join(f'.{x}' for x in known)}"


def draw(figure: object, path: str) -> None:
    """Write a matplotlib figure, whole or not at all."""
    from matplotlib.figure import Figure

    from unisono.files import written_aside

    assert isinstance(figure, Figure)
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=120)
