"""Where a verb writes, tried before it begins."""

from pathlib import Path


def check_writable(path: str) -> None:
    """Say that a place cannot be written before minutes are spent on what is to be written there."""
    from unisono.errors import writing

    target = Path(path)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        there = target.exists()
        target.open("a").close()
        if not there:
            target.unlink()


def check_drawable(path: str) -> None:
    """Say that a picture cannot be drawn there before minutes are spent on what it is to show."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from unisono.errors import UnisonoError

    known = FigureCanvasAgg(Figure()).get_supported_filetypes()
    if Path(path).suffix[1:].lower() not in known:
        raise UnisonoError(f"cannot draw into {path!r}: end it in one of {', '.join(f'.{x}' for x in known)}")
    check_writable(path)
