"""Documents on disk: text files, JSON lines and parquet tables, read one document at a time.

A document is what no row of tokens crosses. Of a text file it is the whole, a paragraph (up to a blank line), a line,
or an article of WikiText (from one `` = Title = `` to the next); of JSON lines and of tables it is a row. What is
wrong with a document drops that document, with the reason, and stops nothing else.
"""

import glob
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unisono.data import Dropped
from unisono.errors import DataError, MissingExtra, did_you_mean

Roots = str | list[str] | dict[str, str]
Way = Literal["file", "paragraph", "line", "article"]
WAYS = ("file", "paragraph", "line", "article")
TEXT_SUFFIXES = (".txt", ".text", ".md")
ROW_SUFFIXES = (".jsonl", ".ndjson", ".parquet")
SUFFIXES = (*TEXT_SUFFIXES, *ROW_SUFFIXES)
ROWS_AT_ONCE = 1024
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
    """One file of a corpus, and the corpus's name where there are several."""

    path: Path
    group: str = ""


def find_sources(root: Roots, suffixes: Sequence[str] = SUFFIXES) -> list[Source]:
    """Return the files that a path, a folder, a pattern (``*``), a list of those or a mapping by name stands for.

    Raises ``DataError`` where there is none, or one of a kind that is not read.
    """
    named = root.items() if isinstance(root, Mapping) else [("", item) for item in _listed(root)]
    found = [Source(path, name) for name, item in named for path in _files(str(item), suffixes)]
    if not found:
        raise DataError("root names no file: give a path, a folder, a pattern, a list of them, or {name: path}")
    twice = [path for path, count in Counter(source.path for source in found).items() if count > 1]
    if twice:
        raise DataError(f"{twice[0]} is named twice by root: name it once")
    return found


def read_texts(source: Source, way: Way, field: str) -> Iterator[Document | Dropped]:
    """Yield the documents of a file; ``way`` is of text files, ``field`` of JSON lines and tables."""
    if source.path.suffix.lower() in ROW_SUFFIXES:
        for name, row in read_rows(source.path, [field]):
            if isinstance(row, Dropped):
                yield row
            elif not isinstance(row.get(field), str):
                missing = f"no field {field!r}{did_you_mean(field, row)}"
                wrong = f"{field} is {row[field]!r:.40}, not a string" if field in row else missing
                yield Dropped(name, "no text", wrong)
            else:
                yield from judged(Document(name, row[field], group=source.group))
        return
    for name, raw in _stretches(source.path, way):
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            hint = "; it may be UTF-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
            detail = f"byte {raw[error.start]:#04x} at place {error.start} of it ({error.reason}){hint}"
            yield Dropped(name, "invalid UTF-8", detail)
            continue
        yield from judged(Document(name, text, group=source.group))


def read_rows(path: Path, fields: Sequence[str]) -> Iterator[tuple[str, dict[str, Any] | Dropped]]:
    """Yield (name, row) of JSON lines or of a parquet table, or (name, why it is dropped).

    Of a table only ``fields`` are read. Raises ``DataError`` where a table has none of them, or cannot be read.
    """
    if path.suffix.lower() == ".parquet":
        yield from _parquet_rows(path, fields)
        return
    empty = True
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            empty, name = False, f"{path.name}:{line}"
            try:
                row = json.loads(raw.decode("utf-8-sig" if line == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                yield name, Dropped(name, "invalid UTF-8", f"byte {raw[error.start]:#04x} at place {error.start}")
                continue
            except json.JSONDecodeError as error:
                yield name, Dropped(name, "not JSON", f"{error.msg} at column {error.colno}")
                continue
            if not isinstance(row, dict):
                yield name, Dropped(name, "not JSON", "the line is not an object")
                continue
            yield name, row
    if empty:
        yield path.name, Dropped(path.name, "empty file")


def judged(document: Document) -> Iterator[Document | Dropped]:
    """Yield a document, or why it is dropped: it has no text, or JSON gave it half of a character."""
    try:
        (document.prompt + document.text).encode("utf-8")
    except UnicodeEncodeError as error:
        yield Dropped(document.id, "half a character", f"{error.object[error.start]!r} has no UTF-8")
        return
    if document.text.strip():
        yield document
    else:
        yield Dropped(document.id, "empty", "no text but blanks")


def _listed(root: Any) -> list[Any]:
    return list(root) if isinstance(root, Sequence) and not isinstance(root, str) else [root]


def _files(item: str, suffixes: Sequence[str]) -> list[Path]:
    path = Path(item).expanduser()
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in suffixes)
        if not found:
            raise DataError(f"{item}: holds no file of {', '.join(suffixes)}; check data.root")
        return found
    if not path.exists() and glob.has_magic(item):
        found = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
        if not found:
            raise DataError(f"{item}: the pattern finds no file; check data.root")
    elif not path.is_file():
        raise DataError(f"{item}: no such file or folder; check data.root")
    else:
        found = [path]
    for file in found:
        if file.suffix.lower() not in suffixes:
            raise DataError(f"{file}: a file of {file.suffix or 'no suffix'} is not read, only {', '.join(suffixes)}")
    return found


def _stretches(path: Path, way: Way) -> Iterator[tuple[str, bytes]]:
    """Yield the bytes of each document of a text file, with the line where it begins in its name."""
    if path.stat().st_size == 0:
        yield path.name, b""  # judged to be empty, as a document
        return
    if way == "file":
        yield path.name, path.read_bytes().removeprefix(b"\xef\xbb\xbf")
        return
    held: list[bytes] = []
    begun, found = 1, False
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            if line == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            blank = not raw.strip()
            if {"line": True, "paragraph": blank, "article": bool(_TITLE.match(raw))}[way] and held:
                yield f"{path.name}:{begun}", _joined(held, way)
                held = []
            if not blank or (held and way == "article"):
                if not held:
                    begun, found = line, True
                held.append(raw)
    if held:
        yield f"{path.name}:{begun}", _joined(held, way)
    if not found:
        yield path.name, b""


def _joined(lines: Iterable[bytes], way: Way) -> bytes:
    """Put a document's lines together; the line end after the last belongs to what is between documents."""
    return b"".join(lines).rstrip(b"\r\n") if way != "article" else b"".join(lines)


def _parquet_rows(path: Path, fields: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise MissingExtra("pyarrow", "text") from None
    try:
        with ParquetFile(path) as table:
            known = table.schema_arrow.names
            columns = [field for field in fields if field in known]
            if not columns:
                raise DataError(f"{path}: no column {fields[0]!r}{did_you_mean(fields[0], known)}; set data.field")
            number = 0
            for batch in table.iter_batches(ROWS_AT_ONCE, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path.name}:{number}", row
    except (ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as a parquet table ({error}); fetch it again") from None
