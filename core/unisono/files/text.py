"""Text files of users: UTF-8 with or without byte order mark, lines that end with LF or CR LF and nothing else.

Files that were put behind each other have byte order marks at the beginning of other lines, which are taken off too.

Other encodings are refused by name, with file, line and remedy. ``str.splitlines`` is not used, since it also cuts at
form feeds, U+0085 and U+2028, which stand within sentences.
"""

import codecs
import os
import re
import unicodedata
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from unisono.errors import DataError
from unisono.files.fault import Fault, Kind
from unisono.files.regular import MOST_BYTES, open_file, read_bytes, reading

UTF8_MARK = codecs.BOM_UTF8
MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
SAVE = "save it as UTF-8"
MARK = "\ufeff"
_WITHIN = re.compile(f"(?:^|(?<=\n)){MARK}+")
MOST_LINE = 2**26
HEAD = 4096


def composed(text: str) -> str:
    """Return a text in Unicode's composed form (NFC), in which two ways to write an accent are one."""
    return unicodedata.normalize("NFC", text)


def decoded(data: bytes, path: Path | None = None, line: int = 1) -> str | Fault:
    """Return the text of bytes that begin at ``line`` of a file, byte order marks taken off, or what is wrong."""
    if line == 1 and (wide := wide_encoding(data)):
        return Fault("invalid UTF-8", f"is {wide}, not UTF-8", SAVE, path)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        at = line + data.count(b"\n", 0, error.start)
        value = data[error.start]
        if value == 0xED and error.start + 1 < len(data) and 0xA0 <= data[error.start + 1] <= 0xBF:
            return Fault("half a character", "half of a character (a lone surrogate)", SAVE, path, at)
        guess = f"{SAVE}; it may be {'Latin-1 or ' if value >= 0xA0 else ''}Windows-1252"
        return Fault("invalid UTF-8", f"byte {value:#04x} is not UTF-8", guess, path, at)
    if "\0" in text:
        at = line + text.count("\n", 0, text.index("\0"))
        return Fault("not text", "a NUL byte, which text has none of", "check that it is UTF-8 text", path, at)
    return _WITHIN.sub("", text) if MARK in text else text


def wide_encoding(head: bytes) -> str | None:
    """Return ``UTF-16`` or ``UTF-32`` where a file begins like one, with or without a byte order mark; else None."""
    for mark, name in MARKS:
        if head.startswith(mark):
            return name
    head = head[: min(len(head), HEAD) // 4 * 4]
    if len(head) < 4 or b"\0" not in head:
        return None
    empty = [head[place::4].count(0) * 4 / len(head) for place in range(4)]
    if min(empty[:2]) > 0.9 or min(empty[2:]) > 0.9:
        return "UTF-32"
    even, odd = (empty[0] + empty[2]) / 2, (empty[1] + empty[3]) / 2
    aligned = min(even, odd) == 0 and head.count(0) >= 4  # of letters beyond Latin only the blanks have NULs
    return "UTF-16" if aligned or (max(even, odd) > 0.6 and min(even, odd) < 0.1) else None


def read_text(
    path: str | os.PathLike, kind: Kind = DataError, most: int = MOST_BYTES, fix: str = "check the path"
) -> str:
    """Read a whole text file, line ends as they are; raises ``kind`` where it is no UTF-8 text."""
    path = Path(path)
    text = decoded(read_bytes(path, kind, most, fix), path)
    if isinstance(text, Fault):
        raise text.error(kind)
    return text


def lines_of(text: str) -> list[str]:
    """Cut a text at LF and CR LF; the line end after the last line begins no other."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def read_lines(
    path: str | os.PathLike, kind: Kind = DataError, most: int = MOST_BYTES, fix: str = "check the path"
) -> list[str]:
    """Read the lines of a text file; line n is at place n - 1. Raises ``kind`` as ``read_text`` does.

    A file whose only line ends are carriage returns is refused by name.
    """
    text = read_text(path, kind, most, fix)
    if fault := only_returns(text, Path(path)):
        raise fault.error(kind)
    return lines_of(text)


def only_returns(text: str, path: Path | None = None) -> Fault | None:
    """Return a fault where lines end with a carriage return alone, as on old Macs; else None."""
    if "\n" in text or "\r" not in text.rstrip("\r"):
        return None
    return Fault("not text", "its lines end with CR alone", "save it with line ends LF or CR LF", path)


def stream_lines(
    path: str | os.PathLike, kind: Kind = DataError, fix: str = "check the path"
) -> Iterator[tuple[int, bytes]]:
    """Yield (number, bytes) of each line of a file of any size, line ends included and byte order marks not.

    Raises ``kind`` where the file cannot be read, is UTF-16 or UTF-32, or has a line of more than 64 MiB.
    """
    path = Path(path)
    with open_file(path, kind, fix) as file, reading(path, kind, fix):
        yield from stream_lines_of(file, path, kind)


def stream_lines_of(
    file: BufferedReader, path: Path | None = None, kind: Kind = DataError
) -> Iterator[tuple[int, bytes]]:
    """As ``stream_lines``, of an open file or pipe; ``path`` is for its errors."""
    if wide := wide_encoding(file.peek(HEAD)[:HEAD]):
        raise Fault("invalid UTF-8", f"is {wide}, not UTF-8", SAVE, path).error(kind)
    number = 0
    while raw := file.readline(MOST_LINE + 1):
        number += 1
        if len(raw) > MOST_LINE:
            raise Fault("too large", f"a line of more than {MOST_LINE} bytes", "divide it", path, number).error(kind)
        while raw.startswith(UTF8_MARK):
            raw = raw[len(UTF8_MARK) :]
        yield number, raw
