"""Rows: the lines of a manifest, a table's or JSON's, each as text fields or as what is wrong with it.

What is wrong with one line is a ``Fault`` in its place; what is wrong with the file (no such columns, no UTF-8) is a
``DataError``.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unisono.errors import DataError, did_you_mean
from unisono.files import Fault, Row, composed, lone_surrogate, read_json_lines, read_table

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
LAYOUTS = {"id|speaker|text": 1, "id|text|speaker": 2}
"""Lists that others write without a header, and the column of the speaker."""
COLUMNS = ("id", "audio", "text", "speaker")


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, str] | Fault]]:
    """Yield each line's number with its ``id``, ``audio``, ``text`` and ``speaker``, as far as there, or its fault."""
    for line, row in _json_rows(path) if path.suffix.lower() in JSON_SUFFIXES else _table_rows(path):
        if isinstance(row, Fault):
            yield line, row
        elif half := next(filter(None, map(lone_surrogate, row.values())), None):
            yield line, Fault("half a character", f"{half} alone is half of a character", "write it whole", path, line)
        else:
            yield line, row


def same_sentence(text: str) -> str:
    """Return what two ways to write one sentence have in common: its words, in small letters and composed form."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())) or composed(text)


def _key_of(header: Sequence[str]) -> int | None:
    """Return the column that names the rows where a first row holds names, else None."""
    if not {"audio", "text"} & set(header):
        return None
    return next((header.index(name) for name in ("audio", "id") if name in header), 0)


def _table_rows(path: Path) -> Iterator[tuple[int, dict[str, str] | Fault]]:
    expected = "id|text or id|raw|normalised, or a header with the columns audio and text"
    table = read_table(
        path,
        _key_of,
        without_header=("|",),
        widths=(2, 3),
        alike=False,
        expected=expected,
        collect=True,
        fix="check data.root",
    )
    if table.header is None:
        _check_layout(path, table.rows)
        for line, row in table.lines():
            if isinstance(row, Fault):
                yield line, row
            else:
                yield line, {"id": row.fields[0], "text": row.fields[-1] or row.fields[1]}
        return
    columns = list(table.header)
    if fault := _lacking(path, 1, columns, "column"):
        raise fault.error()
    if twice := [name for name in COLUMNS if columns.count(name) > 1]:
        message = f"{path}, line 1: two columns are named {twice[0]!r}; rename one of them"
        raise DataError(message, code="conflict", path=path, value=twice[0])
    for line, row in table.lines():
        if isinstance(row, Fault):
            yield line, row
        else:
            yield line, _checked(path, line, dict(zip(columns, row.fields, strict=True)))


def _check_layout(path: Path, rows: Sequence[Row]) -> None:
    """Refuse a list without header whose three columns are not an id and two ways to write one text."""
    full = [row for row in rows if len(row.fields) == 3 and all(row.fields[1:])]
    if not full or sum(_alike(*row.fields[1:]) for row in full) * 2 >= len(full):
        return
    columns = {layout: [row.fields[place] for row in full] for layout, place in LAYOUTS.items()}
    for layout, names in sorted(columns.items(), key=lambda column: sum(map(len, column[1]))):
        if len(set(names)) < len(names) or not any(re.search(r"\s", name) for name in names):
            detail = f"three columns without a header, that look like {layout} rather than id|raw|normalised"
            fix = f"write a first line with the columns' names, such as {layout}, or id|raw|text"
            raise Fault("wrong fields", detail, fix, path, full[0].line).error()


def _alike(raw: str, normalised: str) -> bool:
    """Whether two texts may be one sentence: they share a word, or half the letters where words have no blanks."""
    one, two = (same_sentence(text).split() for text in (raw, normalised))
    if set(one) & set(two):
        return True
    letters = set("".join(one))
    return max(letters, default="") >= "\u2e80" and len(letters & set("".join(two))) * 2 >= len(letters)


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, str] | Fault]]:
    for line, row in read_json_lines(path, fix="check data.root"):
        if isinstance(row, Fault):
            yield line, replace(row, fix="each line must be one object with audio and text", path=path, line=line)
        else:
            yield line, _lacking(path, line, list(row), "key") or _checked(path, line, row)


def _lacking(path: Path, line: int, names: list[str], what: str) -> Fault | None:
    """Return a fault where the names that a row needs are not among its keys, or a header's columns."""
    for needed in ("audio", "text"):
        if needed not in names and not (needed == "audio" and "id" in names and "text" in names):
            detail = f"no {what} {needed!r}{did_you_mean(needed, names)}"
            return Fault("wrong fields", detail, f"name it {needed!r}", path, line)
    return None


def _checked(path: Path, line: int, row: dict[str, Any]) -> dict[str, str] | Fault:
    kept = {name: row[name] for name in COLUMNS if name in row}
    for name, value in kept.items():
        if not isinstance(value, str):
            return Fault("wrong fields", f"{name}={value!r:.60} must be a string", "put it in quotes", path, line)
    name = "audio" if "audio" in kept else "id"
    if not kept[name].strip():
        return Fault("wrong fields", f"{name} is empty", "name the recording's file", path, line)
    return {name: composed(value.strip()) for name, value in kept.items()}
