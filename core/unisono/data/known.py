"""Known files: the hash of a file's content, not read again while size, time and a sample of it are the same.

Hashing a large corpus at each start costs more than reading its index. What was hashed once is noted in the folder
``known`` of the caches, a line of numbers per file; a note whose file has another size, another time of change or other
bytes at its beginning, middle or end is not used. ``UNISONO_REHASH=1`` reads every byte again.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from unisono import files
from unisono.data.folder import CacheError, cache_root, written_aside
from unisono.errors import DataError

REHASH = "UNISONO_REHASH"
CHUNK = 20_000
SAMPLE = 4096
"""Bytes that are read at the beginning, in the middle and at the end of a file."""
NOTE = np.dtype([("path", "V16"), ("stamp", "V16"), ("content", "V20"), ("check", "V8")])


def stamp_of(path: Path) -> str:
    """Return what stands for a file's content while nothing changes it: size, time and a sample, hashed."""
    with files.open_file(path) as file, files.reading(path):
        found = os.fstat(file.fileno())
        digest = hashlib.blake2b(f"{found.st_size} {found.st_mtime_ns} ".encode(), digest_size=16)
        places = (0, found.st_size // 2, found.st_size - SAMPLE) if found.st_size > 3 * SAMPLE else (0,)
        for place in places:
            file.seek(place)
            digest.update(file.read(SAMPLE if len(places) > 1 else 3 * SAMPLE))
    return digest.hexdigest()


def content_hash(path: Path) -> bytes:
    """Return the hash of a file's content (20 bytes), every byte read."""
    digest = hashlib.blake2b(digest_size=20)
    with files.open_file(path) as file, files.reading(path):
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.digest()


def content_hashes(
    paths: Sequence[Path], name: str, hash_of: Callable[[Path], bytes] = content_hash
) -> list[bytes | DataError]:
    """Return the hash of each file's content, in order; the error of what cannot be read.

    Args:
        name: the list's own: files of a list that were hashed before and have not changed are not read again. Notes
            are written every so many files, so that a killed preparation goes on where it was.
        hash_of: reads a file and returns 20 bytes; raises ``DataError``.
    """
    place = cache_root() / "known" / f"{hashlib.blake2b(name.encode(), digest_size=16).hexdigest()}.npy"
    notes = _notes(place)
    use = os.environ.get(REHASH, "0") in ("", "0")
    results: list[bytes | DataError] = []
    with ThreadPoolExecutor(4) as threads:  # hashing and reading release the interpreter's lock
        for start in range(0, len(paths), CHUNK):
            part = paths[start : start + CHUNK]
            old = _found(notes, part) if use else [None] * len(part)
            found = list(threads.map(partial(_look_up, hash_of), part, old))
            fresh = [note for _, note in found if note is not None]
            results += [content for content, _ in found]
            if fresh:
                notes = _merged(notes, np.array(fresh, NOTE))
                _write(place, notes)
    return results


def _look_up(
    hash_of: Callable[[Path], bytes], path: Path, note: np.void | None
) -> tuple[bytes | DataError, tuple[bytes, ...] | None]:
    """The hash of a file, and a new note where there was none that fits."""
    try:
        stamp = bytes.fromhex(stamp_of(path))
        if note is not None and note["stamp"].tobytes() == stamp:
            return note["content"].tobytes(), None
        key, content = _key(path), hash_of(path)
    except DataError as error:
        return error, None
    return content, (key, stamp, content, _check(key, stamp, content))


def _found(notes: np.ndarray, paths: Sequence[Path]) -> list[np.void | None]:
    """The note of each path, where there is one that is whole."""
    if not len(notes):
        return [None] * len(paths)
    keys = np.array([_key(path) for path in paths], "V16")
    places = np.searchsorted(_order(notes["path"]), _order(keys)).clip(max=len(notes) - 1)
    return [
        note if note["path"].tobytes() == key.tobytes() and note["check"].tobytes() == _check(*_fields(note)) else None
        for note, key in zip(notes[places], keys, strict=True)
    ]


def _notes(place: Path) -> np.ndarray:
    """The notes of a list, in the order of their keys."""
    try:
        notes = np.load(place, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return np.zeros(0, NOTE)
    return notes if notes.dtype == NOTE and notes.ndim == 1 else np.zeros(0, NOTE)


def _merged(old: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """Both, the newer of two of one path, in the order of their keys."""
    both = np.concatenate([fresh, old])
    _, first = np.unique(_order(both["path"]), return_index=True)
    return both[first]


def _order(keys: np.ndarray) -> np.ndarray:
    """The first half of keys, as numbers to sort by."""
    return np.ascontiguousarray(keys).view(np.uint64).reshape(-1, 2)[:, 0]


def _write(place: Path, notes: np.ndarray) -> None:
    try:
        with written_aside(place) as aside, aside.open("wb") as file:
            np.save(file, notes)
    except CacheError:
        return  # hashed again in the next run


def _key(path: Path) -> bytes:
    return hashlib.blake2b(os.fsencode(os.path.abspath(path)), digest_size=16).digest()


def _fields(note: np.void) -> tuple[bytes, bytes, bytes]:
    return note["path"].tobytes(), note["stamp"].tobytes(), note["content"].tobytes()


def _check(*values: bytes) -> bytes:
    return hashlib.blake2b(b"".join(values), digest_size=8).digest()
