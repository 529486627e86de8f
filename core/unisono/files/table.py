"""Tables of users: fields between commas, semicolons, tabs or bars, with a header or without.

What separates the fields is declared (by the caller, by the suffix ``.tsv``, by a header whose names are known) or
proved over the whole file: every row has the same number of fields. It is never guessed from one line. Commas and
semicolons are quoted as usual (RFC 4180: ``"…"``, a quote within is doubled); bars and tabs never are. A quote that
is not closed, or only behind what are rows of their own, is named with its line.
"""

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from unisono.errors import DataError
from unisono.files.fault import Fault, Kind
from unisono.files.regular import MOST_BYTES
from unisono.files.text import composed, lines_of, read_text

DELIMITERS = {"|": "bars", "\t": "tabs", ",": "commas", ";": "semicolons"}
"""What may separate fields, with its name."""
QUOTED = (",", ";")
_FILE = re.compile(r".*\.\w{1,5}")
_KEY = re.compile(rf"\S+|{_FILE.pattern}")


class Row(NamedTuple):
    """One row: the line where it begins, and its fields, blanks around them taken off."""

    line: int
    fields: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table as it was read.

    Attributes:
        header: the columns' names in small letters, None without a header.
        rows: those with as many fields as they should have.
        faults: the others, where they were asked for.
    """

    path: Path
    delimiter: str
    header: tuple[str, ...] | None
    rows: tuple[Row, ...]
    faults: tuple[Fault, ...] = ()

    def lines(self) -> Iterator[tuple[int, Row | Fault]]:
        """Yield rows and faults in the file's order, each with the line where it begins."""
        numbered = [(row.line, row) for row in self.rows] + [(fault.line or 0, fault) for fault in self.faults]
        yield from sorted(numbered, key=lambda entry: entry[0])


def read_table(
    path: str | os.PathLike,
    key_of: Callable[[Sequence[str]], int | None],
    *,
    delimiter: str | None = None,
    without_header: Sequence[str] = tuple(DELIMITERS),
    widths: Collection[int] = (2,),
    alike: bool = True,
    expected: str = "",
    collect: bool = False,
    most: int = MOST_BYTES,
    kind: Kind = DataError,
    fix: str = "check the path",
) -> Table:
    """Read a table; raises ``kind`` with file, line and remedy.

    Args:
        key_of: takes the first row's fields in small letters; returns the place of the column that names the rows
            where that row is a header, else None.
        delimiter: what separates fields; None has it proved.
        without_header: what may separate fields where there is no header.
        widths: how many fields a row may have where there is no header; its first field names it.
        alike: all rows must have the same number of them.
        expected: what a row without header is to be, for the errors.
        collect: rows with a wrong number of fields are the table's ``faults``, if there are others; without it the
            first of them is an error.
    """
    path = Path(path)
    text = composed(read_text(path, kind, most, fix))
    if "\n" not in text:  # a table of an old Mac, as spreadsheets still write them
        text = text.replace("\r", "\n")
    first = next((line for line in lines_of(text) if line.strip()), "")
    if delimiter is None and path.suffix.lower() == ".tsv":
        delimiter = "\t"
    known = (delimiter,) if delimiter else tuple(DELIMITERS)
    headers = [(mark, header) for mark in known if key_of(header := _header(first, mark)) is not None]
    if headers:
        mark, header = max(headers, key=lambda entry: len(entry[1]))
        parsed = _parse(text, mark, path, len(header), key_of(header) or 0)
        if isinstance(parsed, Fault):
            raise parsed.error(kind)
        wish = f"the header has {len(header)} ({', '.join(header)})"
        rows, faults = _divided(parsed[1:], {len(header)}, mark, path, wish)
        if faults and not (collect and rows):
            raise faults[0].error(kind)
        return Table(path, mark, header, rows, faults)
    marks = (delimiter,) if delimiter else tuple(without_header)
    if not first:
        return Table(path, marks[0], None, ())
    tried = {mark: _fitting(text, mark, path, widths, alike, expected) for mark in marks}
    read = {mark: found for mark, found in tried.items() if not isinstance(found, Fault)}
    fitting = {mark: rows for mark, (rows, faults) in read.items() if not faults}
    best = _only(fitting)
    if best is not None:
        return Table(path, best, None, fitting[best])
    if fitting:
        said = f"rows divide alike between {' and '.join(DELIMITERS[mark] for mark in fitting)}"
        remedy = "write a first line with the columns' names, or name a table with tabs .tsv"
        raise Fault("wrong fields", said, remedy, path).error(kind)
    if collect and (best := _leading(read)) is not None:
        return Table(path, best, None, *read[best])
    lines = [line for line in lines_of(text) if line.strip()]

    def likely(mark: str) -> tuple[int, int]:
        counts = [line.count(mark) + 1 for line in lines]
        return sum(count in widths for count in counts), sum(counts)

    found = tried[max(marks, key=likely)]
    raise (found if isinstance(found, Fault) else found[1][0]).error(kind)


def _header(line: str, mark: str) -> tuple[str, ...]:
    return tuple(field.strip().strip('"').strip().lower() for field in line.split(mark))


def _remedy(mark: str) -> str:
    sign = {",": "a comma", ";": "a semicolon"}.get(mark)
    return f"put texts that hold {sign} in double quotes" if sign else "mend the line"


def _fitting(
    text: str, mark: str, path: Path, widths: Collection[int], alike: bool, expected: str
) -> tuple[tuple[Row, ...], tuple[Fault, ...]] | Fault:
    """Return the rows between one kind of mark, those that are as wide as they may be and faults of the others."""
    rows = _parse(text, mark, path, min(widths), 0)
    if isinstance(rows, Fault):
        return rows
    wanted = tuple(widths)
    if alike and rows and len(wanted) > 1:
        counts = [len(row.fields) for row in rows]
        wanted = (max(wanted, key=counts.count),)
    return _divided(rows, wanted, mark, path, f"expected {expected or ' or '.join(map(str, wanted))}")


def _divided(
    rows: Iterable[Row], wanted: Collection[int], mark: str, path: Path, wish: str
) -> tuple[tuple[Row, ...], tuple[Fault, ...]]:
    """Return the rows with as many fields as wanted, and a fault for each of the others."""
    fit, faults = [], []
    for row in rows:
        if len(row.fields) in wanted:
            fit.append(row)
        else:
            said = f"{len(row.fields)} fields between {DELIMITERS.get(mark, repr(mark))}, {wish}"
            faults.append(Fault("wrong fields", said, _remedy(mark), path, row.line))
    return tuple(fit), tuple(faults)


def _leading(read: dict[str, tuple[tuple[Row, ...], tuple[Fault, ...]]]) -> str | None:
    """Return the mark that divides most rows rightly, and every line that any other mark does; else None."""
    lines = {mark: {row.line for row in rows} for mark, (rows, faults) in read.items() if len(rows) > len(faults)}
    rightly = {row.line for rows, _ in read.values() for row in rows}
    leading = [mark for mark, found in lines.items() if found >= rightly]
    return leading[0] if len(leading) == 1 else None


def _only(fitting: dict[str, tuple[Row, ...]]) -> str | None:
    """Return what separates the fields, where one mark fits.

    Of several, the one whose keys are files' names, or that has no other of them in its keys.
    """
    marks = list(fitting)
    if len(marks) > 1:
        named = [mark for mark in marks if all(_FILE.fullmatch(row.fields[0]) for row in fitting[mark])]
        marks = named or marks
    if len(marks) > 1:
        marks = [
            mark
            for mark in marks
            if not any(other in row.fields[0] for row in fitting[mark] for other in marks if other != mark)
        ]
    return marks[0] if len(marks) == 1 else None


def _parse(text: str, mark: str, path: Path, width: int, key: int) -> tuple[Row, ...] | Fault:
    if mark not in QUOTED:
        lines = enumerate(lines_of(text), 1)
        return tuple(Row(n, tuple(field.strip() for field in line.split(mark))) for n, line in lines if line.strip())
    return _parse_quoted(text, mark, path, width, key)


def _parse_quoted(text: str, mark: str, path: Path, width: int, key: int) -> tuple[Row, ...] | Fault:
    rows: list[Row] = []
    fields: list[str] = []
    place, line, begun = 0, 1, 1
    bare = re.compile(rf"[^{re.escape(mark)}\n]*")
    opening = re.compile(r'[ \t]*"')
    closed = re.compile(rf"[ \t\r]*(?={re.escape(mark)}|\n|\Z)")
    quoted = re.compile(r'[^"]*(?:""[^"]*)*"')
    while True:
        if start := opening.match(text, place):
            opened = line
            said = "the quote that opens here is not closed"
            if not (content := quoted.match(text, start.end())):
                return Fault("open quote", said, "close it, or double a quote that is part of the text", path, opened)
            value = content[0][:-1].replace('""', '"')
            line += value.count("\n")
            if not (end := closed.match(text, content.end())) or _swallows(fields, value, mark, width, key):
                if line > opened:
                    said = f"the quote that opens here is not closed before line {line}"
                elif not end:
                    said = "the quote that opens here closes within the field"
                return Fault("open quote", said, "close it, or double a quote that is part of the text", path, opened)
            fields.append(value.replace("\r\n", "\n"))
            place = end.end()
        else:
            found = bare.match(text, place)
            assert found is not None
            fields.append(found[0].strip())
            place = found.end()
        if place < len(text) and text[place] == mark:
            place += 1
            continue
        if any(fields):
            rows.append(Row(begun, tuple(field.strip() for field in fields)))
        fields = []
        if place >= len(text):
            return tuple(rows)
        place, line = place + 1, line + 1
        begun = line


def _swallows(before: Sequence[str], value: str, mark: str, width: int, key: int) -> bool:
    """Whether lines within a quoted field are rows of their own: as many fields, and a name in the key's column."""
    first, *lines = value.split("\n")
    rows = [line.split(mark) for line in lines]
    if lines and key >= len(before):
        rows.append([*before, *first.split(mark)])
    return any(len(row) == width > key and _KEY.fullmatch(row[key].strip()) for row in rows)
