"""Writing aside: a file or folder is written beside its place and renamed at the end, so that none is ever half there.

What was there before stays until the new one is whole. Names beside are unique to each writer, hidden (readers of
folders skip them) and removed where writing fails.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from unisono.errors import UnisonoError
from unisono.files.fault import Kind, shown

REMEDY = "choose another place"


@contextmanager
def written_aside(
    path: str | os.PathLike,
    kind: Kind = UnisonoError,
    remedy: str = REMEDY,
    *,
    sync: bool = True,
    also: tuple[type[Exception], ...] = (),
) -> Iterator[Path]:
    """Give a place beside ``path`` to write a file to, with the same suffix; at the end it becomes ``path``.

    A link is followed. What is meant for a device or pipe (``/dev/stdout``) is written to a temporary file and copied,
    since a library that is given the device itself may seek in it, or put a file in its place.

    Args:
        kind: of the error where it cannot be written; its sentence ends in ``remedy``.
        sync: have the content on the disk before it is renamed, so that a power cut leaves the old file or the new.
        also: exceptions of libraries that mean the same as an ``OSError`` here.
    """
    path = Path(path)
    with writing_to(path, kind, remedy, also):
        place = Path(os.path.realpath(path)) if path.is_symlink() else path
        if place.exists() and not stat.S_ISREG(place.stat().st_mode):
            if place.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            with TemporaryDirectory(prefix="unisono-") as folder:
                aside = Path(folder) / f"output{_suffix(place)}"
                yield aside
                with aside.open("rb") as source, place.open("wb") as target:
                    shutil.copyfileobj(source, target)
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = _beside(place)
        try:
            yield aside
            if sync:
                _sync(aside)
            os.replace(aside, place)
            if sync:
                _sync(place.parent)
        finally:
            with suppress(OSError):
                aside.unlink(missing_ok=True)


@contextmanager
def folder_written_aside(
    path: str | os.PathLike,
    kind: Kind = UnisonoError,
    remedy: str = REMEDY,
    *,
    sync: bool = True,
    keep_other: bool = False,
    also: tuple[type[Exception], ...] = (),
) -> Iterator[Path]:
    """Give a new folder beside ``path`` to fill; at the end it becomes ``path``, where nothing or an empty folder is.

    Args:
        kind, remedy, sync, also: as of ``written_aside``.
        keep_other: where another process was faster, keep what it made and say nothing.
    """
    path = Path(path)
    with writing_to(path, kind, remedy, also):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = _beside(path)
        try:
            aside.mkdir()
            yield aside
            if sync:
                for file in aside.rglob("*"):
                    _sync(file)
            try:
                os.replace(aside, path)
            except OSError as error:
                if not (keep_other and error.errno in (errno.ENOTEMPTY, errno.EEXIST)):
                    raise
            if sync:
                _sync(path.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def writing_to(
    path: str | os.PathLike, kind: Kind = UnisonoError, remedy: str = REMEDY, also: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turn a place that cannot be written (no rights, a full disk) into one sentence of ``kind``.

    An ``OSError`` that names another file, such as a missing input, passes.
    """
    path = Path(path)
    if "\0" in str(path):
        raise kind(f"cannot write {shown(path)!r}: a path has no NUL byte; {remedy}", code="write", path=path)
    try:
        yield
    except (OSError, *also) as error:
        if isinstance(error, OSError) and _is_of_another_file(error, path):
            raise
        why = why_not_written(error, path)
        raise kind(f"cannot write {shown(path)!r}: {why}; {remedy}", code="write", path=path, value=why) from None


def why_not_written(error: Exception, path: Path) -> str:
    """Return why a file was not written: a full disk by name, whatever a library makes of it."""
    number = error.errno if isinstance(error, OSError) else None
    text = str(error)
    if number == errno.ENOSPC or "No space left" in text or "os error 28" in text:
        return "no space left on device"
    if number == errno.EDQUOT or "quota exceeded" in text.lower():
        return "the disk quota is used up"
    if number is not None:
        return (os.strerror(number)).lower()
    with suppress(OSError):
        parent = next(folder for folder in path.absolute().parents if folder.is_dir())
        if shutil.disk_usage(parent).free < 2**16:
            return "no space left on device"
    return text or type(error).__name__


def _is_of_another_file(error: OSError, path: Path) -> bool:
    if not isinstance(error.filename, str | bytes | os.PathLike) or not os.fspath(error.filename):
        return False
    named = Path(os.path.abspath(os.fsdecode(error.filename)))
    place = Path(os.path.realpath(path))
    own = path.absolute()
    near = {own, place, *own.parents, *place.parents}
    if named in near or named.is_relative_to(own) or named.is_relative_to(place):
        return False
    return not any(part.startswith(_PREFIX) for part in named.parts)


_PREFIX = ".unisono-"


def _beside(path: Path) -> Path:
    return path.with_name(f"{_PREFIX}{uuid4().hex}{_suffix(path)}")


def _suffix(path: Path) -> str:
    return path.suffix if len(path.suffix) < 40 else ""


def _sync(path: Path) -> None:
    """Have the system write a file (or a folder's entries) to the disk; a file system that cannot is left alone."""
    if path.is_symlink() or (os.name == "nt" and path.is_dir()):
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(number)
