"""Stored: files as rows, such as recordings: those of a folder, of a pattern, or the members of tar shards.

Each is the value of one field of the request, the one that says by its suffixes that it takes such files
(``unisono.request.file_of``). A row is known by the content of its file, not by its name or place: a corpus that was
moved, renamed or packed into other shards asks for the same.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from unisono.batch.rows import BadRow, Columns, Row
from unisono.data.stream.parts import Part
from unisono.data.stream.tar import rows_of
from unisono.errors import RequestError
from unisono.files import shown, walk
from unisono.files.regular import cause_of

SHARD = ".tar"
BYTES_AT_ONCE = 2**20


@dataclass(frozen=True)
class Stored:
    """A file, or where it is a ``member`` of a tar shard, ``size`` bytes of that from ``offset`` on.

    ``name`` is what it is called there, and what is written beside the output.
    """

    path: str
    name: str
    offset: int
    size: int
    member: bool

    @property
    def suffix(self) -> str:
        """The name's suffix, in small letters."""
        return PurePosixPath(self.name).suffix.lower()

    def digest(self) -> str:
        """Return the hash of the content, with the suffix; raises ``RequestError`` where it cannot be read."""
        found = hashlib.sha256()
        try:
            with open(self.path, "rb") as file:
                for part in self._parts(file):
                    found.update(part)
        except OSError as error:
            raise cause_of(error, Path(self.path)).error(RequestError) from None
        return f"sha256:{found.hexdigest()}{self.suffix}"

    def placed(self, folder: Path, number: int) -> Path:
        """Return a file with the content: itself, or of a member a copy in ``folder``, named by ``number``.

        Raises ``RequestError`` where the shard cannot be read any more.
        """
        if not self.member:
            return Path(self.path)
        place = folder / f"{number}{self.suffix}"
        try:
            with open(self.path, "rb") as file, place.open("wb") as copy:
                copy.writelines(self._parts(file))
        except OSError as error:
            raise cause_of(error, Path(self.path)).error(RequestError) from None
        return place

    def _parts(self, file: IO[bytes]) -> Iterator[bytes]:
        file.seek(self.offset)
        left = self.size
        while left > 0:
            part = file.read(min(left, BYTES_AT_ONCE))
            if not part:
                raise OSError(f"it has {left} bytes less than it had: it was changed meanwhile")
            left -= len(part)
            yield part


def folder_rows(path: Path, columns: Columns) -> Iterator[Row]:
    """Yield a row for each file below a folder of the kinds that the field takes, and the rows of its tar shards."""
    field = columns.file_field(path)
    found = walk(path, (*field.suffixes, SHARD), RequestError)
    for fault_id, fault in found.faults:
        yield Row(f"{path}/{fault_id}", 0, BadRow(f"{fault.detail}; {fault.fix}", "format"))
    columns.notes.extend(found.notes)
    if found.others:
        columns.notes.append(
            f"{shown(path)}: {len(found.others)} files of other kinds are no rows, such as {shown(found.others[0])}"
        )
    if not found.files and not found.faults:
        raise RequestError(
            f"{shown(path)} holds no file that is read ({', '.join((*field.suffixes, SHARD))})",
            code="empty",
            path="input",
            value=str(path),
        )
    for file in found.files:
        yield from (
            shard_rows(file.path, columns)
            if file.path.suffix.lower() == SHARD
            else [file_row(file.path, columns, file.path.relative_to(path).as_posix())]
        )


def file_row(path: Path, columns: Columns, name: str | None = None) -> Row:
    """Return a file as a row, called ``name``, or by its path."""
    field = columns.file_field(path)
    try:
        stored = Stored(str(path), name or path.as_posix(), 0, path.stat().st_size, False)
    except OSError as error:
        return Row(str(path), 0, BadRow.of(cause_of(error, path).error(RequestError)))
    return Row(str(path), 0, {field.name: stored.name}, stored)


def shard_rows(path: Path, columns: Columns) -> Iterator[Row]:
    """Yield the members of a tar shard that the field takes; what is lost of it is a bad row each."""
    field = columns.file_field(path)
    parts = [Part(suffix, (suffix,), needed=False) for suffix in field.suffixes]
    for found in rows_of(path, parts, path.name):
        if len(found) == 3:
            id, reason, detail = found
            if reason:
                yield Row(str(path), 0, BadRow(f"{id}: {reason}, {detail}", "damaged"))
            else:
                columns.notes.append(detail)
            continue
        stem, places = found
        for suffix, (offset, size) in zip(field.suffixes, places, strict=True):
            if offset >= 0:
                stored = Stored(str(path), f"{stem}{suffix}", offset, size, True)
                yield Row(f"{path}/{stored.name}", 0, {field.name: stored.name}, stored)
