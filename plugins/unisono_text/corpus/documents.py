"""Documents on disk: text files, JSON lines and parquet tables, read one document at a time.

A document is what no row of tokens crosses. Of a text file it is the whole, a paragraph (up to a blank line), a line,
or an article of WikiText (from one `` = Title = `` to the next); of JSON lines and of tables it is a row. What is
wrong with a document drops that document, with the reason, and stops nothing else; a file that cannot be read at all
(a cut table, UTF-16, a broken link) is one dropped document. Folders are read by ``unisono.files.walk``.
"""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unisono.data import Dropped
from unisono.errors import DataError, MissingExtra, did_you_mean
from unisono.files import (
    Fault,
    decoded,
    fault_of,
    is_file,
    is_folder,
    is_skipped,
    lone_surrogate,
    natural,
    read_bytes,
    read_json_lines,
    shown,
    stream_lines,
    walk,
)

Roots = str | list[str] | dict[str, str]
Way = Literal["file", "paragraph", "line", "article"]
WAYS = ("file", "paragraph", "line", "article")
TEXT_SUFFIXES = (".txt", ".text", ".md")
ROW_SUFFIXES = (".jsonl", ".ndjson", ".parquet")
SUFFIXES = (*TEXT_SUFFIXES, *ROW_SUFFIXES)
ROWS_AT_ONCE = 1024
MOST_BYTES = 2**33
"""A text that is one document may have this many bytes."""
_TITLE = re.compile(rb"^\s*= [^=].* =\s*$")


@dataclass(frozen=True)
class Document:
    """One document: its text, what is given before it (nothing, for plain text), and the corpus it is of.

    ``given`` is a prompt in parts, each with whether it is of the form around what is said: such parts may be special
    tokens, where a tokenizer has any of that name; what is said never is. Documents of one ``key`` (the text, where
    there is none) are held out together; ``held_out`` None leaves that open.
    """

    id: str
    text: str
    given: tuple[tuple[str, bool], ...] = ()
    group: str = ""
    key: str = ""
    held_out: bool | None = None

    @property
    def prompt(self) -> str:
        """What is given, in one piece."""
        return "".join(text for text, _ in self.given)


@dataclass(frozen=True)
class Source:
    """One file of a corpus, and the corpus's name where there are several.

    ``id`` is its path relative to the folder that it was found in, else its name. A file with a ``fault`` is listed as
    dropped, and not read.
    """

    path: Path
    group: str = ""
    id: str = ""
    fault: Fault | None = None

    @property
    def name(self) -> str:
        """What its documents' ids begin with."""
        return self.id or shown(self.path.name)

    def dropped(self, fault: Fault, line: int | None = None) -> Dropped:
        """Return what an audit is told of the file, or of one of its lines."""
        place = self.name if line is None else f"{self.name}:{line}"
        detail = fault.detail if fault.line is None or fault.line == line else f"line {fault.line}: {fault.detail}"
        return Dropped(place, fault.reason, detail)


def find_sources(root: Roots, suffixes: Sequence[str] = SUFFIXES, notes: list[str] | None = None) -> list[Source]:
    """Return the files that a path, a folder, a pattern (``*``), a list of those or a mapping by name stands for.

    ``notes`` is extended by what was skipped. Raises ``DataError`` where there is none, or one of a kind that is not
    read.
    """
    named = root.items() if isinstance(root, Mapping) else [("", item) for item in _listed(root)]
    notes = [] if notes is None else notes
    found = [source for name, item in named for source in _sources(str(item), str(name), suffixes, notes)]
    if not found:
        raise DataError(
            "root names no file: give a path, a folder, a pattern, a list of them, or {name: path}",
            code="empty",
            path="data.root",
        )
    twice = [path for path, count in Counter(source.path for source in found).items() if count > 1]
    if twice:
        raise DataError(f"{twice[0]} is named twice by root: name it once", code="exists", path=twice[0])
    return found


def read_texts(source: Source, way: Way, field: str) -> Iterator[Document | Dropped]:
    """Yield the documents of a file; ``way`` is of text files, ``field`` of JSON lines and tables."""
    if source.path.suffix.lower() in ROW_SUFFIXES:
        for name, row in read_rows(source, [field]):
            if isinstance(row, Dropped):
                yield row
            elif not isinstance(row.get(field), str):
                missing = f"no field {field!r}{did_you_mean(field, row)}"
                wrong = f"{field} is {row[field]!r:.40}, not a string" if field in row else missing
                yield Dropped(name, "no text", wrong)
            else:
                yield from judged(Document(name, row[field], group=source.group))
        return
    for line, raw in _stretches(source, way):
        if isinstance(raw, Dropped):
            yield raw
            continue
        text = decoded(raw, line=line or 1)
        if isinstance(text, Fault):
            yield source.dropped(text, line)
        else:
            yield from judged(
                Document(source.name if line is None else f"{source.name}:{line}", text, (), source.group)
            )


def read_rows(source: Source, fields: Sequence[str]) -> Iterator[tuple[str, dict[str, Any] | Dropped]]:
    """Yield (name, row) of JSON lines or of a parquet table, or (name, why it is dropped).

    Of a table only ``fields`` are read.
    """
    if fault := source.fault or fault_of(source.path):
        yield source.name, source.dropped(fault)
        return
    if source.path.suffix.lower() == ".parquet":
        yield from _parquet_rows(source, fields)
        return
    empty = True
    try:
        for line, row in read_json_lines(source.path):
            empty = False
            yield f"{source.name}:{line}", source.dropped(row, line) if isinstance(row, Fault) else row
    except DataError as error:
        yield source.name, _unread(source, error)
        return
    if empty:
        yield source.name, Dropped(source.name, "empty file")


def judged(document: Document) -> Iterator[Document | Dropped]:
    """Yield a document, or why it is dropped: it has no text, or JSON gave it half of a character."""
    if half := lone_surrogate(document.prompt + document.text):
        yield Dropped(document.id, "half a character", f"{half} alone has no UTF-8")
    elif document.text.strip():
        yield document
    else:
        yield Dropped(document.id, "empty", "no text but blanks")


def _unread(source: Source, error: Exception) -> Dropped:
    """Return what an audit is told of a file that cannot be read, whatever was raised."""
    if isinstance(error, DataError) and error.fault is not None:
        return source.dropped(error.fault)
    return Dropped(source.name, "unreadable", " ".join(f"{type(error).__name__}: {error}".split())[:200])


def _listed(root: Any) -> list[Any]:
    return list(root) if isinstance(root, Sequence) and not isinstance(root, str) else [root]


def _sources(item: str, group: str, suffixes: Sequence[str], notes: list[str]) -> list[Source]:
    path = Path(item).expanduser()
    if is_folder(path):
        found = walk(path, suffixes)
        sources = [Source(file.path, group, file.id) for file in found.files]
        sources += [Source(fault.path or path / id, group, id, fault) for id, fault in found.faults]
        if not sources:
            raise DataError(
                f"{shown(item)}: holds no file of {', '.join(suffixes)}; check data.root", code="empty", path=item
            )
        notes += found.notes
        return sorted(sources, key=lambda source: natural(source.id))
    fault = fault_of(path, "check data.root")
    if fault and fault.reason == "missing" and glob.has_magic(item):
        paths = _matching(path)
        if not paths:
            raise DataError(
                f"{shown(item)}: the pattern finds no file; check data.root",
                code="missing",
                path="data.root",
                value=item,
            )
        # a folder of such a name is a table in parts; of ** each file is found by itself
        folders = [found for found in paths if is_folder(found) and found.suffix.lower() in suffixes]
        folders = [] if "**" in item else [folder for folder in folders if not folder.is_symlink()]
        sources = [source for folder in folders for source in _sources(str(folder), group, suffixes, notes)]
        paths = [found for found in paths if not is_folder(found)]
        sources += [Source(found, group, fault=None if is_file(found) else fault_of(found)) for found in paths]
    elif fault:
        raise (
            DataError(
                f"{shown(item)}: no such file or folder; check data.root", code="missing", path="data.root", value=item
            )
            if fault.reason == "missing"
            else (fault.error())
        )
    else:
        sources = [Source(path, group)]
    for source in sources:
        if source.path.suffix.lower() not in suffixes and source.fault is None:
            kind = source.path.suffix or "no suffix"
            raise DataError(
                f"{shown(source.path)}: a file of {kind} is not read, only {', '.join(suffixes)}",
                code="format",
                path=source.path,
                value=source.path.suffix,
            )
    return sources


def _matching(pattern: Path) -> list[Path]:
    """Return what a pattern finds, as folders are read: nothing hidden or a system's own, each real folder once."""
    fixed = next(place for place, part in enumerate(pattern.parts) if glob.has_magic(part))
    found: dict[tuple[str, str], Path] = {}
    for name in sorted(glob.glob(str(pattern), recursive=True), key=lambda name: (name.count(os.sep), name)):
        path = Path(name)
        if not any(map(is_skipped, path.parts[fixed:])):
            found.setdefault((os.path.realpath(path.parent), path.name), path)
    return sorted(found.values(), key=lambda path: natural(str(path)))


def _stretches(source: Source, way: Way) -> Iterator[tuple[int | None, bytes | Dropped]]:
    """Yield the bytes of each document of a text file, with the line where it begins (None for the whole)."""
    if fault := source.fault or fault_of(source.path):
        yield None, source.dropped(fault)
        return
    try:
        if way == "file":
            yield None, read_bytes(source.path, most=MOST_BYTES)
            return
        held: list[bytes] = []
        begun, found, line, raw, returns = 1, False, 0, b"", False
        for line, raw in stream_lines(source.path):
            returns = returns or (line == 1 and b"\r" in raw.rstrip(b"\r\n"))
            blank = not raw.strip()
            if {"line": True, "paragraph": blank, "article": bool(_TITLE.match(raw))}[way] and held:
                yield begun, _joined(held, way)
                held = []
            if not blank or (held and way == "article"):
                if not held:
                    begun, found = line, True
                held.append(raw)
        if line == 1 and returns and not raw.endswith(b"\n"):
            said = "its lines end with CR alone, not with LF or CR LF"
            yield None, source.dropped(Fault("not text", said))
        elif held:
            yield begun, _joined(held, way)
        elif not found:
            yield None, b""  # judged to be empty, as a document
    except DataError as error:
        yield None, _unread(source, error)


def _joined(lines: Iterable[bytes], way: Way) -> bytes:
    """Put a document's lines together; the line end after the last belongs to what is between documents."""
    return b"".join(lines).rstrip(b"\r\n") if way != "article" else b"".join(lines)


def _parquet_rows(source: Source, fields: Sequence[str]) -> Iterator[tuple[str, dict[str, Any] | Dropped]]:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise MissingExtra("pyarrow", "text") from None
    number = 0
    try:
        with ParquetFile(source.path) as table:
            known = table.schema_arrow.names
            columns = [field for field in fields if field in known]
            if not columns:
                said = f"no column {fields[0]!r}{did_you_mean(fields[0], known)}; set data.field"
                yield source.name, Dropped(source.name, "no text", said)
                return
            for batch in table.iter_batches(ROWS_AT_ONCE, columns=columns):
                for row in _rows_of(batch):
                    number += 1
                    name = f"{source.name}:{number}"
                    yield name, Dropped(name, "invalid UTF-8", str(row)) if isinstance(row, Exception) else row
    except Exception as error:  # pyarrow raises errors of many kinds for damaged tables
        said = " ".join(str(error).split())[:160]
        after = f" after row {number}" if number else ""
        detail = f"cannot be read as a parquet table{after} ({said}); fetch it again"
        yield source.name, Dropped(source.name, "unreadable", detail)
        return
    if not number:
        yield source.name, Dropped(source.name, "empty file")


def _rows_of(batch: Any) -> Iterator[dict[str, Any] | UnicodeDecodeError]:
    """Yield the rows of a batch; of a text that is no UTF-8, the error alone."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for index in range(batch.num_rows):
            try:
                yield from batch.slice(index, 1).to_pylist()
            except UnicodeDecodeError as error:
                yield error
