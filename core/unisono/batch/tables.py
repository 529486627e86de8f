"""Tables: CSV and parquet, read row by row; each column is a field of the request.

What separates the fields of a CSV file is known from its header, whose names are those of the request: commas,
semicolons, tabs or bars. Commas and semicolons are quoted as usual (RFC 4180), bars and tabs never are. An empty cell,
and a null of parquet, gives nothing.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unisono.batch.rows import BadRow, Columns, Row
from unisono.errors import RequestError, did_you_mean
from unisono.extras import optional
from unisono.files import DELIMITERS, Fault, decoded, fault_of, shown, stream_lines

ROWS_AT_ONCE = 256


def csv_rows(path: Path, columns: Columns) -> Iterator[Row]:
    """Yield the rows of a table of text; raises ``RequestError`` where its header names what is no field."""
    bad: dict[int, Fault] = {}
    lines = _lines(path, bad)
    before, first = next(((number, line) for number, line in enumerate(lines, 1) if line.strip()), (0, ""))
    if not before:
        return
    if bad:
        raise next(iter(bad.values())).error(RequestError)
    mark, names = _header(first, path, columns)
    quoted = mark in ",;"
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=mark, strict=True, quoting=quoting, skipinitialspace=quoted)
    while True:
        begun = reader.line_num + before + 1
        error = None
        cells: list[str] = []
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as problem:
            error = problem
        ended = reader.line_num + before
        broken = [fault for number in range(begun, ended + 1) if (fault := bad.pop(number, None))]
        if broken:
            yield Row(str(path), begun, BadRow(f"{broken[0].detail}; {broken[0].fix}", "format"))
        elif error is not None:
            lines_told = f"lines {begun} to {ended}" if ended > begun else "the line"
            why = f"{lines_told} cannot be read as fields ({error}): double a quote that is part of a text"
            yield Row(str(path), begun, BadRow(why, "format"))
        elif any(cell.strip() for cell in cells):
            yield Row(str(path), begun, _given(cells, names, columns, mark))


def _lines(path: Path, bad: dict[int, Fault]) -> Iterator[str]:
    for number, raw in stream_lines(path, RequestError):
        text = decoded(raw, path, number)
        if isinstance(text, Fault):
            bad[number] = text
            text = raw.decode("utf-8", "replace").replace("\0", "�")
        yield text


def _header(line: str, path: Path, columns: Columns) -> tuple[str, list[str | None]]:
    """What separates fields, and each column's field; None for one that is not chosen."""
    marks = ["\t"] if path.suffix.lower() == ".tsv" else [",", ";", "\t", "|"]
    tried = {mark: [name.strip().strip('"').strip() for name in line.strip("\r\n").split(mark)] for mark in marks}
    fitting = [mark for mark, names in tried.items() if all(field_of(name, columns) for name in names)]
    if columns.chosen is not None:
        fitting = [mark for mark, names in tried.items() if set(columns.chosen) <= set(names)]
    mark = max(fitting or marks[:1], key=lambda mark: len(tried[mark]))
    names = tried[mark]
    check_columns(names, path, columns)
    return mark, [field_of(name, columns) for name in names]


def field_of(name: str, columns: Columns) -> str | None:
    """Return the field of a column; None for a column that is no field, or is not chosen."""
    if columns.chosen is not None:
        return columns.chosen.get(name)
    return name if name in columns.fields else None


def check_columns(names: list[str], path: Path, columns: Columns) -> None:
    """Raise ``RequestError`` where a table has a column twice or one that is no field, or lacks one that is chosen."""
    choose = "choose columns with --columns NAME or NAME=FIELD"
    if columns.chosen is not None:
        missing = [name for name in columns.chosen if name not in names]
        if missing:
            raise RequestError(
                f"{shown(path)} has no column {missing[0]!r:.80}{did_you_mean(missing[0], names)}: check --columns",
                code="missing",
                path="--columns",
                value=missing[0],
            )
    else:
        unknown = [name for name in names if name not in columns.fields]
        if unknown:
            raise RequestError(
                f"{shown(path)}: the column {unknown[0]!r:.80} is no field of the request"
                f"{did_you_mean(unknown[0], columns.fields)}; {choose}",
                code="unknown",
                path="--columns",
                value=unknown[0],
            )
    taken = [name for name in names if field_of(name, columns)]
    if twice := [name for name in taken if taken.count(name) > 1]:
        raise RequestError(
            f"{shown(path)} has the column {twice[0]!r:.80} twice: rename one, or {choose}",
            code="conflict",
            path="--columns",
            value=twice[0],
        )


def _given(cells: list[str], names: list[str | None], columns: Columns, mark: str) -> dict[str, Any] | BadRow:
    if len(cells) != len(names):
        remedy = "put texts that hold one in double quotes" if mark in ",;" else "mend the line"
        why = f"{len(cells)} fields between {DELIMITERS[mark]}, the header has {len(names)}: {remedy}"
        return BadRow(why, "format")
    given: dict[str, Any] = {}
    for name, cell in zip(names, cells, strict=True):
        if name is None or not cell.strip():
            continue
        try:
            given[name] = columns.cell(name, cell)
        except RequestError as error:
            return BadRow.of(error)
    return given


def parquet_rows(path: Path, columns: Columns) -> Iterator[Row]:
    """Yield the rows of a parquet file; raises ``RequestError`` where it is none, or its columns are no fields."""
    if fault := fault_of(path):
        raise fault.error(RequestError)
    parquet = optional("pyarrow", "pyarrow.parquet", extra="batch")
    arrow = optional("pyarrow", extra="batch")
    problems = (arrow.ArrowException, OSError)
    try:
        with parquet.ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            check_columns(names, path, columns)
            fields = {name: field for name in names if (field := field_of(name, columns))}
            number = 0
            for part in file.iter_batches(ROWS_AT_ONCE, columns=list(fields)):
                for values in part.to_pylist():
                    number += 1
                    yield Row(str(path), number, {fields[n]: v for n, v in values.items() if v is not None})
    except problems as error:
        why = " ".join(str(error).split())[:200]
        raise RequestError(
            f"{shown(path)} is no parquet file that can be read ({why}): write it again",
            code="damaged",
            path=path,
            value=why,
        ) from None
