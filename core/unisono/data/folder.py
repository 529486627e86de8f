"""Folder: where caches lie, and how they are written."""

import atexit
import os
import shutil
import tempfile
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from unisono import files
from unisono.errors import DataError

REMEDY = "free some space, or set UNISONO_CACHE to a folder that you can write to"


class CacheError(DataError):
    """A cache cannot be written: who meets it does without."""


def cache_root() -> Path:
    """Return the folder of all caches: ``UNISONO_CACHE``, else ``~/.cache/unisono``."""
    named = os.environ.get("UNISONO_CACHE")
    return Path(named or "~/.cache/unisono").expanduser()


def written_aside(path: Path) -> AbstractContextManager[Path]:
    """Give a place beside a cache's ``path`` to write to; at the end it becomes ``path``.

    See ``unisono.files.written_aside``. Raises ``CacheError`` where it cannot be written.
    """

    def kind(sentence: str, **told: Any) -> CacheError:
        return CacheError(f"the cache cannot be written: {sentence}", **told)

    if os.path.exists(path) and not files.is_file(path):  # a pipe would block whoever writes to it
        raise kind(f"{files.shown(path)} is no regular file; remove it", code="write", path=path)
    return files.written_aside(path, kind, REMEDY, sync=False, also=(SafetensorError,))


@cache
def spare_root() -> Path:
    """Return a folder for what needs one and finds no cache that can be written; it goes when this process ends."""
    try:
        folder = tempfile.mkdtemp(prefix="unisono-")
    except OSError as error:
        raise DataError(
            f"neither a cache nor a temporary folder can be written ({error}); {REMEDY}",
            code="write",
            path=error.filename,
        ) from None
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
