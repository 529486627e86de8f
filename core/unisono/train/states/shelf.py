"""Shelf: a run's states by name: the newest, those that are kept, and older ones, which are removed.

A state is written under a hidden name and renamed when it is whole. ``last.ckpt`` is a second name of the newest file;
``last`` is a line of text with the name of the newest folder.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from unisono.errors import CheckpointError
from unisono.export.state_folder import is_state_folder
from unisono.export.training_state import LAST_FILE, LAST_FOLDER
from unisono.files import written_aside
from unisono.train.states.folder import remove_folder

HIDDEN = ".unisono-"


class Shelf:
    """The folder ``checkpoints`` of a run; one process at a time changes it."""

    def __init__(self, folder: Path):
        self.folder = folder

    def hidden(self, suffix: str = "") -> Path:
        """Return a new name that no reader takes for a state."""
        return self.folder / f"{HIDDEN}{uuid4().hex}{suffix}"

    def clean(self) -> None:
        """Remove what writers left that were killed."""
        for path in self.folder.glob(f"{HIDDEN}*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def place_file(self, aside: Path, step: int) -> Path:
        """Give a written file its names; from now on it is the newest state."""
        path = self.folder / f"{step:07d}.ckpt"
        _sync(aside)
        os.replace(aside, path)
        _sync(self.folder)
        keep_file(path, self.folder / LAST_FILE)
        (self.folder / LAST_FOLDER).unlink(missing_ok=True)
        return path

    def place_folder(self, aside: Path, step: int) -> Path:
        """Give a written folder its name; from now on it is the newest state."""
        path, number = self.folder / f"{step:07d}", 0
        while path.exists():  # of a run that went on from an earlier step
            number += 1
            path = self.folder / f"{step:07d}.{number}"
        _sync(aside)
        os.replace(aside, path)
        _sync(self.folder)
        with written_aside(self.folder / LAST_FOLDER, CheckpointError) as pointer:
            pointer.write_text(f"{path.name}\n", encoding="utf-8")
        (self.folder / LAST_FILE).unlink(missing_ok=True)
        return path

    def name(self, path: Path, name: str) -> Path:
        """Keep a state under another name too, as links to the same bytes; a state that had it is replaced."""
        if not path.is_dir():
            keep_file(path, self.folder / f"{name}.ckpt")
            return self.folder / f"{name}.ckpt"
        aside, kept = self.hidden(), self.folder / name
        aside.mkdir()
        try:
            for file in sorted(path.iterdir()):
                _link(file, aside / file.name)
            remove_folder(kept, self.hidden())
            os.replace(aside, kept)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return kept

    def prune(self, newest: Path, keep: int) -> None:
        """Remove the states of steps but for the ``keep`` last; ``newest`` stays, and what is ahead of it goes."""
        steps = {path: step for path in self.folder.iterdir() if (step := _step(path)) is not None}
        others = {path: step for path, step in steps.items() if path != newest}
        older = [path for step, path in sorted((step, path) for path, step in others.items()) if step < steps[newest]]
        for path in others.keys() - {*older[max(len(older) - keep + 1, 0) :]}:
            if path.is_dir():
                remove_folder(path, self.hidden())
            else:
                path.unlink(missing_ok=True)


def keep_file(path: Path, other: Path) -> None:
    """Give a file a second name, or copy it where the disk has no links."""
    with written_aside(other, CheckpointError) as aside:
        _link(path, aside)


def _link(path: Path, other: Path) -> None:
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)


def _step(path: Path) -> int | None:
    """The step that a state is of, which is its name; None for one that is kept under another."""
    if not path.stem.isdecimal() or (path.suffix not in ("", ".ckpt") and not path.suffix[1:].isdecimal()):
        return None
    return int(path.stem) if path.suffix == ".ckpt" or is_state_folder(path) else None


def _sync(path: Path) -> None:
    """Have a file, or the entries of a folder, on the disk; a file system that cannot is left alone."""
    with suppress(OSError):
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
