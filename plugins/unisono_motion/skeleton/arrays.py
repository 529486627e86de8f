"""Arrays: NPY and NPZ files of users, read whole or refused; pickles are never opened.

``numpy.load`` opens an archive where an array was asked for, allocates what a header says, and lets the exceptions of
zipfile and zlib through. Here the header is compared with the file first.
"""

import io
import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from unisono.errors import DataError
from unisono.files import open_file, shown

MOST_BYTES = 2**31
_ARCHIVE, _ARRAY = b"PK", b"\x93NUMPY"


def open_npy(path: Path) -> np.ndarray:
    """Return the array of an NPY file, mapped from disk; raises ``DataError`` in one sentence."""
    with open_file(path, fix="save it again with numpy.save") as file:
        if file.read(2) == _ARCHIVE:
            raise DataError(
                f"{shown(path)}: is an NPZ archive, not one array; save it with numpy.save", code="format", path=path
            )
        file.seek(0)
        shape, order, dtype, start = _header(file, str(shown(path)))
        size = os.fstat(file.fileno()).st_size - start
    _compare(math.prod(shape) * dtype.itemsize, size, str(shown(path)))
    if not math.prod(shape):
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", start, shape, "F" if order else "C")


def read_npz(path: Path, most: int = MOST_BYTES) -> dict[str, np.ndarray]:
    """Return the arrays of an NPZ archive by name; raises ``DataError`` in one sentence."""
    name = str(shown(path))
    with open_file(path, fix="give an NPZ file") as file:
        archive = _guarded(name, lambda: zipfile.ZipFile(file))
        parts = archive.infolist()
        if sum(part.file_size for part in parts) > most:
            raise DataError(f"{name}: unpacks to more than {most / 2**30:g} GiB; divide it", code="limit", path=name)
        found = {}
        for part in parts:
            content = io.BytesIO(_guarded(name, lambda part=part: archive.read(part)))
            shape, _, dtype, start = _header(content, f"{name}: {part.filename!r:.60}")
            _compare(math.prod(shape) * dtype.itemsize, part.file_size - start, f"{name}: {part.filename!r:.60}")
            content.seek(0)
            found[part.filename.removesuffix(".npy")] = _guarded(
                name, lambda content=content: npy.read_array(content, allow_pickle=False)
            )
    return found


def _header(file: BinaryIO, name: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Return shape, whether columns come first, type and where the numbers begin."""
    if file.read(6) != _ARRAY:
        raise DataError(f"{name}: is no NPY array; save it again with numpy.save", code="format", path=name)
    file.seek(0)
    version = _guarded(name, lambda: npy.read_magic(file))
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, order, dtype = _guarded(name, lambda: read(file))
    if dtype.hasobject:
        raise DataError(
            f"{name}: holds Python objects (pickle), which are not opened; save numbers", code="unsafe", path=name
        )
    if any(size < 0 for size in shape):
        raise DataError(
            f"{name}: has the shape {shape}; save it again with numpy.save", code="damaged", path=name, value=shape
        )
    return shape, order, dtype, file.tell()


def _compare(wanted: int, size: int, name: str) -> None:
    if wanted != size:
        what = "is truncated" if wanted > size else "holds more than one array"
        raise DataError(
            f"{name}: {what}: {size} bytes of numbers, its header says {wanted}; save it again",
            code="damaged",
            path=name,
            value=size,
        )


def _guarded(name: str, read: Callable[[], Any]) -> Any:
    """Whatever a library raises for a damaged file is one sentence."""
    try:
        return read()
    except Exception as error:
        said = f"{type(error).__name__}: {error!s:.120}"
        raise DataError(
            f"{name}: is damaged or foreign ({said}); save it again", code="damaged", path=name, value=said
        ) from None
