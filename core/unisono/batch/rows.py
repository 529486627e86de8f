"""Rows: what a file, a pattern of files or the standard input asks for, one row after the other.

A text file holds a text per line, or a JSON object of request fields; ``.jsonl`` objects only; ``.csv``, ``.tsv`` and
``.parquet`` a column for each field. Of a model that takes recordings, or other files, a row may be such a file, or a
member of a tar shard (``stored``). Nothing is held but the row at hand. What is wrong with a row is its own ``fault``
and the next row is read; what is wrong with a file as a whole raises.
"""

import glob
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unisono.errors import Code, DataError, RequestError, UnisonoError
from unisono.files import (
    Fault,
    decoded,
    is_file,
    is_folder,
    lone_surrogate,
    natural,
    only_returns,
    parse_json,
    shown,
    stream_lines,
    stream_lines_of,
)

if TYPE_CHECKING:
    from unisono.batch.stored import Stored

STDIN = ("-", "/dev/stdin")
TEXTS = (".txt", ".text", "")
OBJECTS = (".jsonl", ".ndjson")
TABLES = (".csv", ".tsv")
PARQUET = (".parquet", ".pq")
KINDS = (*TEXTS[:2], *OBJECTS, *TABLES, *PARQUET)


@dataclass(frozen=True)
class BadRow:
    """What is wrong with a row, as the fields of an error."""

    reason: str
    code: Code | None = None

    @classmethod
    def of(cls, error: UnisonoError) -> "BadRow":
        """Return an error as the fault of a row."""
        return cls(str(error), error.code)


@dataclass(frozen=True)
class Row:
    """One row: its file's name, its line (of a table the line where it begins, of parquet its number), counted from 1.

    ``given`` is a text, the fields of a request, or what is wrong. Where a row is a file (line 0), or a member of a
    shard, ``stored`` says where its content lies.
    """

    file: str
    line: int
    given: str | dict[str, Any] | BadRow
    stored: "Stored | None" = None


Cell = Callable[[str, str], Any]
"""Reads a cell of a table of text: ``cell(field, text)``; raises ``RequestError``."""


@dataclass(frozen=True)
class FileField:
    """The field of a request that a file is the value of, and the suffixes of such files, in small letters."""

    name: str
    suffixes: tuple[str, ...]


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are which fields.

    Attributes:
        fields: the fields that there are.
        chosen: column → field; None takes every column by its own name.
        cell: reads a cell that is written as text.
        file: the field that a file as a row is the value of; None where the request takes none.
        notes: what readers note of files that are no rows.
    """

    fields: tuple[str, ...]
    cell: Cell
    chosen: Mapping[str, str] | None = None
    file: FileField | None = None
    notes: list[str] = field(default_factory=list)

    def file_field(self, path: Path) -> FileField:
        """Return ``file``; raises ``RequestError`` about ``path`` where there is none."""
        if self.file is None:
            raise RequestError(
                f"{shown(path)} would be files as rows, and this model's request takes none: give one of "
                f"{', '.join(KINDS)}",
                code="unsupported",
                path="input",
                value=str(path),
            )
        return self.file


def read_rows(source: str, columns: Columns) -> Iterator[Row]:
    """Yield the rows of a file, of all files that a pattern such as ``texts/*.txt`` names, of a folder, or of ``-``.

    Blank lines are no rows. Raises ``RequestError``, before the first row, where there is no such file, or where its
    beginning shows that it is of no kind that is read.
    """
    if source in STDIN:
        return _text_rows(stream_lines_of(sys.stdin.buffer, None, RequestError), "-", False)  # type: ignore[arg-type]
    if columns.file is not None and is_folder(Path(source)):
        from unisono.batch.stored import folder_rows

        return folder_rows(Path(source), columns)
    paths = _paths(source)
    readers = [_reader(path, columns) for path in paths]
    for read in readers:
        next(read(), None)
    return (row for read in readers for row in read())


def _paths(source: str) -> list[Path]:
    path = Path(source)
    if is_file(path) or not re.search(r"[*?\[]", source):
        return [path]
    found = sorted((p for p in glob.glob(source, recursive=True) if is_file(p)), key=natural)
    if not found:
        raise RequestError(
            f"no file fits {shown(source)!r}: check the pattern, in quotes", code="missing", path="input", value=source
        )
    return [Path(p) for p in found]


def _reader(path: Path, columns: Columns) -> Callable[[], Iterator[Row]]:
    suffix = path.suffix.lower()
    if suffix in TEXTS or suffix in OBJECTS:
        return lambda: _text_rows(stream_lines(path, RequestError), str(path), suffix in OBJECTS, path)
    if suffix in TABLES:
        from unisono.batch.tables import csv_rows

        return lambda: csv_rows(path, columns)
    if suffix in PARQUET:
        from unisono.batch.tables import parquet_rows

        return lambda: parquet_rows(path, columns)
    from unisono.batch.stored import SHARD, file_row, shard_rows

    if suffix == SHARD:
        columns.file_field(path)
        return lambda: shard_rows(path, columns)
    if columns.file is not None and suffix in columns.file.suffixes:
        return lambda: iter([file_row(path, columns)])
    kinds = KINDS if columns.file is None else (*KINDS, *columns.file.suffixes, SHARD)
    raise RequestError(
        f"{shown(path)} is of no kind that is read: give one of {', '.join(kinds)}, or - for lines",
        code="format",
        path="input",
        value=path.suffix,
    )


def _text_rows(lines: Iterator[tuple[int, bytes]], name: str, objects: bool, path: Path | None = None) -> Iterator[Row]:
    for number, raw in lines:
        text = decoded(raw, path, number)
        if isinstance(text, Fault):
            yield Row(name, number, _without_place(text))
            continue
        if number == 1 and (fault := only_returns(text, path)):
            raise fault.error(RequestError)
        text = text.removesuffix("\n").removesuffix("\r")
        if not text.strip():
            continue
        yield Row(name, number, row_of(text, objects))


def row_of(text: str, objects: bool = False) -> str | dict[str, Any] | BadRow:
    """Return what a line gives: a text, or fields where it is an object, which it must be where ``objects``."""
    if text.lstrip().startswith("{"):
        try:
            return fields_of(text)
        except RequestError as error:
            return BadRow.of(error)
    if objects:
        return BadRow(
            'the line is not a JSON object: write {"field": value, …}, or name a file of texts .txt', "format"
        )
    return text


def fields_of(line: str) -> dict[str, Any]:
    """Return the fields of a line of JSON; raises ``RequestError`` for whatever is wrong with it."""
    try:
        own = parse_json(line)
    except DataError as error:
        why = error.fault.detail if error.fault else f"not JSON ({error})"
        why = why.replace("not JSON", "not a JSON object", 1)
        message = f"{why}; a text must not begin with a brace, a request has plain fields"
        raise RequestError(message, code=error.code, value=error.value) from None
    if half := lone_surrogate(json.dumps(own, ensure_ascii=False)):
        raise RequestError(f"the line holds half of a surrogate pair ({half}): remove it", code="damaged", value=half)
    return own


def _without_place(fault: Fault) -> BadRow:
    """A fault of a line whose file and number are told beside it."""
    return BadRow.of(Fault(fault.reason, fault.detail, fault.fix).error(RequestError))
