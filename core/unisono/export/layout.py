"""Layout: which files an export folder holds, and the check that it holds nothing else.

::

    my-voice/
        unisono.json         format, plugin, API and package version, facts, data, licence, metrics
        recipe.yaml          the resolved recipe
        model.safetensors    weights
        README.md            the card
        components/<role>/   exports of the components, in the same form

Training states (``*.ckpt``, or folders of shards) serve to resume; they are read without running code.
"""

import os
import stat
from pathlib import Path
from typing import Literal

from unisono.errors import CheckpointError

FORMAT = 1
INFO = "unisono.json"
CONFIG = "config.json"
INDEX = "model_index.json"
"""What tells a pipeline of diffusers, whose parts lie in folders beside it."""
WEIGHTS = "model.safetensors"
RECIPE = "recipe.yaml"
CARD = "README.md"
COMPONENTS = "components"
ALLOWED_SUFFIXES = {".json", ".yaml", ".safetensors", ".md", ".txt", ".png", ".wav", ".ogg", ".flac", ".gif", ".mp4"}
ALLOWED_NAMES = {"LICENSE", "LICENCE", "NOTICE", "COPYING", ".gitattributes", ".gitignore", ".DS_Store"}
"""Files without a known suffix that may lie in an export."""
TOOL_FOLDERS = {".git", ".cache"}
"""Folders of the tools that fetch exports: neither read nor copied."""


def kind_of(path: Path) -> Literal["missing", "file", "folder", "special"]:
    """Say what a path leads to; a FIFO, a socket and a device are special. Raises ``CheckpointError`` for no path."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except (OSError, ValueError) as error:  # a name that is too long, a loop of links, a zero byte
        reason = error.strerror if isinstance(error, OSError) else str(error)
        message = f"{shown(path)} cannot be read: {reason}; give a folder or a file"
        raise CheckpointError(message, code="missing", path=path, value=reason) from None
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "special"


def shown(path: str | Path) -> str:
    """Return a path as messages show it: quoted, and cut in the middle where it is long."""
    text = str(path)
    return repr(text if len(text) <= 160 else f"{text[:100]}…{text[-40:]}")


def check_tree(folder: Path) -> list[Path]:
    """Return the files of an export, components included, relative to it, in a fixed order.

    Raises ``CheckpointError`` for a link, a special file or a file of an unknown kind, however deep it lies. The
    links of the hub's own cache, which lead from ``snapshots`` to ``blobs``, are read as the files that they stand for.
    """
    files: list[Path] = []
    for path, is_folder in _walk(folder):
        if is_folder:
            continue
        if path.suffix.lower() not in ALLOWED_SUFFIXES and path.name not in ALLOWED_NAMES:
            raise CheckpointError(
                f"{shown(path.parent)} holds {shown(path.name)}; "
                "an export holds only numbers and text: remove that file",
                code="unsafe",
                path=path,
            )
        files.append(path.relative_to(folder))
    return files


def check_files_are_plain(folder: Path) -> None:
    """Raise ``CheckpointError`` where a folder in another layout holds a special file, reading of which could block."""
    for entry in os.scandir(folder):
        if kind_of(Path(entry.path)) == "special":
            raise CheckpointError(
                f"{shown(entry.path)} is no regular file: fetch the folder again", code="unsafe", path=entry.path
            )


def _walk(folder: Path) -> list[tuple[Path, bool]]:
    """Every entry below a folder, whether it is a folder itself; links and special files raise ``CheckpointError``."""
    blobs = _blobs(folder)
    found: list[tuple[Path, bool]] = []
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError as error:
            raise CheckpointError(
                f"{shown(place)} cannot be read: {error.strerror}", code="missing", path=place, value=error.strerror
            ) from None
        for entry in entries:
            path = Path(entry.path)
            if entry.is_symlink() and not _leads_to(path, blobs):
                raise CheckpointError(
                    f"{shown(path)} is a link: an export holds its files itself; copy the "
                    f"{'folder' if path.is_dir() else 'file'} there",
                    code="unsafe",
                    path=path,
                )
            if entry.is_dir():
                if entry.name not in TOOL_FOLDERS:
                    found.append((path, True))
                    waiting.append(path)
            elif entry.is_file():
                found.append((path, False))
            else:
                raise CheckpointError(
                    f"{shown(path)} is no regular file: fetch the export again", code="unsafe", path=path
                )
    return found


def _blobs(folder: Path) -> Path | None:
    """The folder that the links of a snapshot in the hub's cache lead to; None for any other folder."""
    whole = folder.absolute()
    for parent in whole.parents:
        if parent.name == "snapshots" and (parent.parent / "blobs").is_dir():
            return (parent.parent / "blobs").resolve()
    return None


def _leads_to(path: Path, blobs: Path | None) -> bool:
    return blobs is not None and path.resolve().parent == blobs
