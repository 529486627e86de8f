"""Captions: what images show, from tables of ``image|caption`` and from JSON lines; left and right.

Tables are separated by bars, tabs or commas (commas quoted as usual), with a header that names ``image`` and
``caption`` (``file_name`` and ``text`` serve too) or without one. Several lines may name one image.
"""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

from unisono.errors import DataError, did_you_mean

TABLES = ("captions.csv", "captions.tsv", "captions.txt", "captions.jsonl", "metadata.csv", "metadata.jsonl")
_NAMES = {"image": "image", "file": "image", "file_name": "image", "caption": "caption", "text": "caption"}
_SIDES = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
_SIDES |= {"leftwards": "rightwards", "rightwards": "leftwards", "clockwise": "counterclockwise"}
_SIDES["counterclockwise"] = "clockwise"


def mirrored(caption: str) -> str:
    """Return what the mirror image shows: left for right, clockwise for counterclockwise."""
    return re.sub(rf"\b({'|'.join(_SIDES)})\b", lambda found: _SIDES[found[0]], caption)


def find_table(root: Path) -> Path:
    """Return the table of captions that a folder holds, or the file itself; raises ``DataError``."""
    if root.is_file():
        return root
    for name in TABLES:
        if (root / name).is_file():
            return root / name
    raise DataError(f"{root}: holds no list of captions ({', '.join(TABLES)}); name the file itself as data.root")


def read_captions(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the captions by image, in the order of the file; raises ``DataError`` with file, line and remedy."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}); check data.root") from None
    found: dict[str, list[str]] = {}
    rows = _json_rows(path, text) if path.suffix.lower() in (".jsonl", ".ndjson") else _table_rows(path, text)
    for image, caption in rows:
        captions = found.setdefault(image, [])
        if caption not in captions:
            captions.append(caption)
    if not found:
        raise DataError(f"{path}: lists no image; a line is image|caption")
    return {image: tuple(captions) for image, captions in found.items()}


def _table_rows(path: Path, text: str) -> Iterator[tuple[str, str]]:
    first = text.split("\n", 1)[0]
    delimiter = max("|\t,", key=first.count)
    quoting = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)
    columns = {"image": 0, "caption": 1}
    width = 2
    for row in reader:
        fields = [field.strip() for field in row]
        if not any(fields):
            continue
        names = [_NAMES.get(field.lower()) for field in fields]
        if reader.line_num == 1 and "image" in names and "caption" in names:
            columns, width = {name: names.index(name) for name in columns}, len(fields)
            continue
        if len(fields) != width or not all(fields[place] for place in columns.values()):
            raise DataError(
                f"{path}, line {reader.line_num}: {len(fields)} fields between {delimiter!r}, expected {width}, image "
                "and caption among them and neither empty"
                + ("; quote captions with commas" if delimiter == "," else "")
            )
        yield fields[columns["image"]], fields[columns["caption"]]


def _json_rows(path: Path, text: str) -> Iterator[tuple[str, str]]:
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        where = f"{path}, line {line}"
        try:
            row = json.loads(content)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: not JSON ({error.msg} at column {error.colno}); mend it") from None
        if not isinstance(row, dict):
            raise DataError(f'{where}: is not an object; expected {{"image": …, "caption": …}}')
        read = {_NAMES[name]: value for name, value in row.items() if name in _NAMES}
        for name in ("image", "caption"):
            if name not in read:
                raise DataError(f"{where}: no key {name!r}{did_you_mean(name, row)}; name it {name!r}")
        captions = read["caption"] if isinstance(read["caption"], list) else [read["caption"]]
        for value in [read["image"], *captions]:
            if not isinstance(value, str) or not value.strip():
                raise DataError(f"{where}: {value!r} must be a string that is not empty")
        for caption in captions:
            yield read["image"].strip(), caption.strip()
