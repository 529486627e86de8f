"""Regular files: what a user names is opened only where it is a file of bytes, and read up to a bound."""

import errno
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from unisono.errors import DataError
from unisono.files.fault import Fault, Kind, shown

MOST_BYTES = 2**30
"""A file that is read as a whole may have this many bytes."""


def is_file(path: str | os.PathLike) -> bool:
    """Whether there is a regular file, links followed; a path that cannot be one (too long, no rights) is none."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def is_folder(path: str | os.PathLike) -> bool:
    """Whether there is a folder, links followed; a path that cannot be one is none."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def fault_of(path: str | os.PathLike, fix: str = "check the path") -> Fault | None:
    """Return why a path is no file that can be read: missing, a folder, a pipe or device, no rights; else None."""
    path = Path(path)
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        return cause_of(error, path, fix)
    if stat.S_ISDIR(mode):
        return Fault("not a file", "is a folder, not a file", fix, path)
    if not stat.S_ISREG(mode):
        what = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}
        return Fault("not a file", f"is {what.get(stat.S_IFMT(mode), 'something else')}, no regular file", fix, path)
    return None


def cause_of(error: OSError | ValueError, path: Path, fix: str = "check the path") -> Fault:
    """Return what the system says about a path, as a fault."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENOTDIR and is_file(path):
        return Fault("not a folder", "is a file, not a folder", fix, path)
    if number in (errno.ENOENT, errno.ENOTDIR):
        if os.path.islink(path):
            return Fault("broken link", f"is a link to {os.readlink(path)!r}, which does not exist", fix, path)
        return Fault("missing", "does not exist", fix, path)
    if number == errno.ENAMETOOLONG:
        return Fault("missing", f"the name is too long ({len(os.fspath(path))} characters)", fix, path)
    if number == errno.ELOOP:
        return Fault("link loop", "is a link that leads back to itself", fix, path)
    said = error.strerror if isinstance(error, OSError) else None
    return Fault("unreadable", f"cannot be read ({shown(said or str(error))})", fix, path)


def open_file(path: str | os.PathLike, kind: Kind = DataError, fix: str = "check the path") -> BufferedReader:
    """Open a regular file for reading bytes; raises ``kind`` with one sentence where there is none."""
    path = Path(path)
    if fault := fault_of(path, fix):
        raise fault.error(kind)
    try:
        return path.open("rb")
    except OSError as error:
        raise cause_of(error, path, fix).error(kind) from None


@contextmanager
def reading(path: str | os.PathLike, kind: Kind = DataError, fix: str = "check the path") -> Iterator[None]:
    """Turn what the system says while a file is read (no rights, a bad disk) into one sentence."""
    try:
        yield
    except OSError as error:
        raise cause_of(error, Path(path), fix).error(kind) from None


def checksum(path: str | os.PathLike, kind: Kind = DataError, fix: str = "check the path") -> int:
    """Return the CRC-32 of a regular file, read block by block; raises ``kind`` where it cannot be read."""
    total = 0
    with open_file(path, kind, fix) as file, reading(path, kind, fix):
        while block := file.read(2**22):
            total = zlib.crc32(block, total)
    return total


def read_bytes(
    path: str | os.PathLike, kind: Kind = DataError, most: int = MOST_BYTES, fix: str = "check the path"
) -> bytes:
    """Read a whole regular file; raises ``kind`` where it cannot be read or has more than ``most`` bytes."""
    path = Path(path)
    with open_file(path, kind, fix) as file, reading(path, kind, fix):
        data = file.read(most + 1)
    if len(data) > most:
        raise Fault("too large", f"has more than {most} bytes", "divide it", path).error(kind)
    return data
