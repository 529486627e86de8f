"""Captions: what items show, from tables of ``file|caption`` and from JSON lines; their words; left and right.

Tables are separated by bars, tabs or commas (commas quoted as usual), with a header that names the item's column and
``caption`` (``file_name`` and ``text`` serve too) or without one. Several lines may name one item; a caption that
stands there twice counts once.
"""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from unisono.errors import DataError, did_you_mean

TABLES = ("captions.csv", "captions.tsv", "captions.txt", "captions.jsonl", "metadata.csv", "metadata.jsonl")
_SIDES = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
_SIDES |= {"leftwards": "rightwards", "rightwards": "leftwards", "clockwise": "counterclockwise"}
_SIDES["counterclockwise"] = "clockwise"


def words_of(caption: str) -> list[str]:
    """Return a caption's words in lower case, accents off; signs separate words and are dropped."""
    plain = unicodedata.normalize("NFKD", caption.casefold().replace("’", "'"))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", plain)


def mirrored(caption: str) -> str:
    """Return what the mirror image shows: left for right, clockwise for counterclockwise."""
    return re.sub(rf"\b({'|'.join(_SIDES)})\b", lambda found: _SIDES[found[0]], caption)


def find_captions(root: Path) -> Path:
    """Return the table of captions that a folder holds, or the file itself; raises ``DataError``."""
    if root.is_file():
        return root
    for name in TABLES:
        if (root / name).is_file():
            return root / name
    raise DataError(f"{root}: holds no list of captions ({', '.join(TABLES)}); name the file itself as data.root")


def read_captions(path: Path, item: str) -> dict[str, tuple[str, ...]]:
    """Return the captions by item, in the order of the file; ``item`` names its column, such as ``image``.

    Raises ``DataError`` with file, line and remedy.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}); check data.root") from None
    names = {item: item, "file": item, "file_name": item, "caption": "caption", "text": "caption"}
    found: dict[str, list[str]] = {}
    read = _json_rows if path.suffix.lower() in (".jsonl", ".ndjson") else _table_rows
    for name, caption in read(path, text, item, names):
        captions = found.setdefault(name, [])
        if caption not in captions:
            captions.append(caption)
    if not found:
        raise DataError(f"{path}: lists no {item}s; a line is {item}|caption")
    return {name: tuple(captions) for name, captions in found.items()}


def _table_rows(path: Path, text: str, item: str, known: dict[str, str]) -> Iterator[tuple[str, str]]:
    first = text.split("\n", 1)[0]
    delimiter = max("|\t,", key=first.count)
    quoting = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)
    columns = {item: 0, "caption": 1}
    width = 2
    for row in reader:
        fields = [field.strip() for field in row]
        if not any(fields):
            continue
        names = [known.get(field.lower()) for field in fields]
        if reader.line_num == 1 and item in names and "caption" in names:
            columns, width = {name: names.index(name) for name in columns}, len(fields)
            continue
        if len(fields) != width or not all(fields[place] for place in columns.values()):
            raise DataError(
                f"{path}, line {reader.line_num}: {len(fields)} fields between {delimiter!r}, expected {width}, {item} "
                "and caption among them and neither empty"
                + ("; quote captions with commas" if delimiter == "," else "")
            )
        yield fields[columns[item]], fields[columns["caption"]]


def _json_rows(path: Path, text: str, item: str, known: dict[str, str]) -> Iterator[tuple[str, str]]:
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        where = f"{path}, line {line}"
        try:
            row = json.loads(content)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: not JSON ({error.msg} at column {error.colno}); mend it") from None
        if not isinstance(row, dict):
            raise DataError(f'{where}: is not an object; expected {{"{item}": …, "caption": …}}')
        read = {known[name]: value for name, value in row.items() if name in known}
        for name in (item, "caption"):
            if name not in read:
                raise DataError(f"{where}: no key {name!r}{did_you_mean(name, row)}; name it {name!r}")
        captions = read["caption"] if isinstance(read["caption"], list) else [read["caption"]]
        for value in [read[item], *captions]:
            if not isinstance(value, str) or not value.strip():
                raise DataError(f"{where}: {value!r} must be a string that is not empty")
        for caption in captions:
            yield read[item].strip(), caption.strip()
