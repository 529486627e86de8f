"""Store: a corpus' pixels at one size in one file, made once, mapped into memory afterwards.

A store is ``<digest>.bin``, uint8 [n, 3, size, size], and ``<digest>.json``, what was dropped and why, in the folder
``images`` of the caches (``UNISONO_CACHE``). The digest is of the files' names, lengths and times of change, and of
whatever the pixels depend on beside them. Both are written aside and renamed, the list last, so that a killed run
leaves no half store; the list has the pixels' checksum, and a store that is damaged is made anew. Nothing is ever
removed: delete the folder to have the space back.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from unisono.data import Drop, cache_root, map_processes, spare_root, written_aside
from unisono.data.cache import log
from unisono.data.folder import CacheError
from unisono.errors import DataError
from unisono.files import checksum, read_json

from unisono_image.corpus.files import Fit, fitted, read_image

VERSION = "images-2"


def pack_files(
    files: Sequence[Path],
    size: int,
    fit: Fit,
    background: tuple[int, int, int],
    num_processes: int | None = None,
    progress: bool = True,
) -> tuple[Path, list[Drop | None]]:
    """Read files in parallel into a store; return its path and, for each file, why it is not used (row stays 0)."""
    stamps = [_stamp(path) for path in files]
    path = _place(size, fit, background, [f"{file}:{stamp}" for file, stamp in zip(files, stamps, strict=True)])

    def make(aside: Path) -> dict[str, Any]:
        with aside.open("wb") as file:
            file.truncate(max(len(files), 1) * 3 * size * size)  # zeros; each worker writes its rows
        task = partial(_fill, aside=aside, size=size, fit=fit, background=background)
        found = map_processes(task, list(enumerate(files)), num_processes, progress, "reading images")
        return {"dropped": [drop and [drop.reason, drop.detail] for drop in found]}

    path, facts = _made(path, make)
    return path, [Drop(*drop) if drop else None for drop in facts["dropped"]]


def pack_stream(
    sources: Sequence[Path],
    records: Callable[[], Iterator[tuple[UInt8[np.ndarray, "3 s s"], dict[str, Any]] | dict[str, Any]]],
    size: int,
    fit: Fit,
    background: tuple[int, int, int],
) -> tuple[Path, list[dict[str, Any]], list[dict[str, Any]]]:
    """Write a stream of (pixels, record) into a store, in order; return path, kept records and the others.

    A record that comes without pixels is of something dropped. ``sources`` are the files that the stream reads.
    """
    path = _place(size, fit, background, [f"{file}:{_stamp(file)}" for file in sources])

    def make(aside: Path) -> dict[str, Any]:
        kept, dropped = [], []
        with aside.open("wb") as file:
            for entry in records():
                if isinstance(entry, tuple):
                    file.write(entry[0].tobytes())
                    kept.append(entry[1])
                else:
                    dropped.append(entry)
        return {"kept": kept, "dropped": dropped}

    path, facts = _made(path, make)
    return path, facts["kept"], facts["dropped"]


def open_store(path: Path, size: int) -> UInt8[np.ndarray, "n 3 s s"]:
    """Map a store into memory, read-only."""
    count = path.stat().st_size // (3 * size * size)
    return np.memmap(path, np.uint8, "r", shape=(count, 3, size, size))


def _fill(task: tuple[int, Path], aside: Path, size: int, fit: Fit, background: tuple[int, int, int]) -> Drop | None:
    """Read one file into its row, in a worker."""
    index, file = task
    try:
        pixels = fitted(read_image(file, background), size, fit, background)
    except Drop as drop:
        return drop
    with aside.open("r+b") as store:
        store.seek(index * pixels.nbytes)
        store.write(pixels.tobytes())
    return None


def _stamp(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return "missing"
    return f"{found.st_size}:{found.st_mtime_ns}"


def _place(size: int, fit: str, background: tuple[int, int, int], parts: Sequence[str]) -> Path:
    digest = hashlib.blake2b(f"{VERSION} {size} {fit} {background}".encode(), digest_size=20)
    for part in parts:
        digest.update(f"{len(part)}:{part};".encode())
    return cache_root() / "images" / f"{digest.hexdigest()}.bin"


def _made(path: Path, make: Callable[[Path], dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
    """Return a store's path and list, made now where there is none that is whole; elsewhere where no cache is."""
    listed = path.with_suffix(".json")
    facts = _whole(path, listed)
    if facts is not None:
        return path, facts
    try:
        return path, _written(path, listed, make)
    except CacheError as error:
        log.warning("the pixels are made anew in each run: %s", error)
        spare = spare_root() / "images" / path.name
        return spare, _written(spare, spare.with_suffix(".json"), make)


def _written(path: Path, listed: Path, make: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    with written_aside(path) as aside:
        facts = make(aside)
        facts["checksum"] = checksum(aside)
    with written_aside(listed) as aside:  # the list last: without it there is no store
        aside.write_text(json.dumps(facts), encoding="utf-8")
    return facts


def _whole(path: Path, listed: Path) -> dict[str, Any] | None:
    """The list of a store that is there and undamaged."""
    try:
        facts = read_json(listed)
        known = isinstance(facts, dict) and isinstance(facts.get("dropped"), list)
        return facts if known and facts.get("checksum") == checksum(path) else None
    except (DataError, OSError):
        return None
