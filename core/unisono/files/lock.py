"""Lock: a folder that one process at a time works in."""

import os
from pathlib import Path

from unisono.errors import UnisonoError
from unisono.files.fault import Kind, shown

LOCK = ".lock"


def lock_folder(folder: Path, doing: str, remedy: str, kind: Kind = UnisonoError) -> int | None:
    """Lock a folder and return the open file, to be closed at the end; None where the system has no such locks.

    Raises ``kind`` while another process holds it; the sentence says what that one is ``doing``. A lock ends with its
    process, however that ends.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    number = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        # a lock of the process, not of the open file: workers that outlive a killed run do not hold it
        fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.close(number)
        message = f"another process {doing} {shown(folder)!r} now: wait until it has ended, or {remedy}"
        raise kind(message, code="state", path=folder) from None
    except OSError:  # a file system without locks
        os.close(number)
        return None
    return number
