"""Captions: what items show, from tables of ``file|caption`` and from JSON lines; their words; left and right.

Tables are separated by bars, tabs, commas or semicolons (the latter two quoted as usual), with a header that names the
item's column and ``caption`` (``file_name`` and ``text`` serve too) or without one; see ``unisono.files.read_table``
for how that is told. Several lines may name one item; a caption that stands there twice counts once. Texts are in
Unicode's composed form.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unisono.data.audit import Audit
from unisono.errors import DataError, did_you_mean
from unisono.files import (
    DELIMITERS,
    Fault,
    composed,
    fault_of,
    is_file,
    is_folder,
    lone_surrogate,
    read_json_lines,
    read_table,
)

TABLES = ("captions.csv", "captions.tsv", "captions.txt", "captions.jsonl", "metadata.csv", "metadata.jsonl")
JSON_SUFFIXES = (".jsonl", ".ndjson")
_ENDS = ("", "y", "ward", "wards", "most", "hand", "handed", "hander", "side")
_SIDES = {a + end: b + end for a, b in (("left", "right"), ("right", "left")) for end in _ENDS}
_SIDES |= {"ccw": "cw", "cw": "ccw"}
_GAP = r"[\s\-\u00ad\u200b-\u200d\u2060\u2010\u2011\u2013\u2014\u2212]*"
_SIDE = re.compile(
    rf"(?<![^\W_])(?:(?P<side>{'|'.join(sorted(_SIDES, key=len, reverse=True))})"
    rf"|(?P<against>(?:counter|anti|contra){_GAP})?clock{_GAP}wise)(?![^\W_])",
    re.IGNORECASE,
)


def words_of(caption: str) -> list[str]:
    """Return a caption's words in lower case, accents off; signs separate words and are dropped."""
    plain = unicodedata.normalize("NFKD", caption.casefold().replace("’", "'"))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", plain)


def mirrored(caption: str) -> str:
    """Return what the mirror image shows: left for right, clockwise for counterclockwise, in the same case.

    All ways to write the one direction (``anticlockwise``, ``counter-clockwise``, ``contra clockwise``) become
    ``clockwise``, which becomes ``counterclockwise``: mirrored twice, a caption is what it was, but for that spelling.
    """
    return _SIDE.sub(_other_side, caption)


def _other_side(found: re.Match[str]) -> str:
    word = found[0]
    if found["side"]:
        other = _SIDES[word.lower()]
    else:
        other = "clockwise" if found["against"] else "counterclockwise"
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() and word[1:2].islower() else other


def find_captions(root: Path) -> Path:
    """Return the table of captions that a folder holds, or the file itself; raises ``DataError``."""
    if is_file(root):
        return root
    if not is_folder(root) and (fault := fault_of(root, "check data.root")):
        raise fault.error()
    for name in TABLES:
        if is_file(root / name):
            return root / name
    raise DataError(
        f"{root}: holds no list of captions ({', '.join(TABLES)}); name the file itself as data.root",
        code="missing",
        path=root,
    )


def read_captions(path: Path, item: str, audit: Audit | None = None) -> dict[str, tuple[str, ...]]:
    """Return the captions by item, in the order of the file; ``item`` names its column, such as ``image``.

    Args:
        audit: takes lines that cannot be used, rows with a wrong number of fields among them, each as one dropped
            item; without it they are errors.

    Raises ``DataError`` with file, line and remedy.
    """
    found: dict[str, list[str]] = {}
    json = path.suffix.lower() in JSON_SUFFIXES
    number = 0
    for row in _json_rows(path, item) if json else _table_rows(path, item, collect=audit is not None):
        number += 1
        if not isinstance(row, Fault):
            name, caption = row
            half = lone_surrogate(name) or lone_surrogate(caption)
            if not half:
                captions = found.setdefault(name, [])
                if caption not in captions:
                    captions.append(caption)
                continue
            name = name.encode("utf-8", "backslashreplace").decode()
            row = Fault("half a character", f"{name}: {half} alone is half of a character", "write it whole", path)
        if audit is None:
            raise row.error()
        line = "" if row.line is None else f":{row.line}"
        audit.drop(f"{path.name}{line}", row.reason, row.detail)
    if not found:
        raise DataError(
            f"{path}: lists no {item}s{' that can be used' * bool(number)}; a line is {item}|caption",
            code="empty",
            path=path,
        )
    return {name: tuple(captions) for name, captions in found.items()}


def _names(item: str) -> dict[str, str]:
    return {item: item, "file": item, "file_name": item, "caption": "caption", "text": "caption"}


def _table_rows(path: Path, item: str, collect: bool) -> Iterator[tuple[str, str] | Fault]:
    known = _names(item)

    def key_of(header: Sequence[str]) -> int | None:
        names = [known.get(field) for field in header]
        return names.index(item) if item in names and "caption" in names else None

    table = read_table(path, key_of, expected=f"{item}|caption", collect=collect, fix="check data.root")
    names = [item, "caption"] if table.header is None else [known.get(field) for field in table.header]
    places = {name: names.index(name) for name in (item, "caption")}
    for line, row in table.lines():
        if isinstance(row, Fault):
            yield row
            continue
        name, caption = (row.fields[place] for place in places.values())
        if name and caption:
            yield name, caption
        else:
            said = f"{len(row.fields)} fields between {DELIMITERS[table.delimiter]}, {item} and caption must be "
            said += "among them and neither empty"
            fix = "quote captions with commas" if table.delimiter == "," else "mend the line"
            yield Fault("wrong fields", said, fix, path, line)


def _json_rows(path: Path, item: str) -> Iterator[tuple[str, str] | Fault]:
    for line, row in read_json_lines(path, fix="check data.root"):
        yield from [row] if isinstance(row, Fault) else _captions_of(row, path, line, item)


def _captions_of(row: dict[str, Any], path: Path, line: int, item: str) -> Iterator[tuple[str, str] | Fault]:
    known = _names(item)
    read = {known[name]: value for name, value in row.items() if name in known}
    for name in (item, "caption"):
        if name not in read:
            detail = f"no key {name!r}{did_you_mean(name, row)}"
            yield Fault("wrong fields", detail, f"name it {name!r}", path, line)
            return
    captions = read["caption"] if isinstance(read["caption"], list) else [read["caption"]]
    for value in [read[item], *captions]:
        if not isinstance(value, str) or not value.strip():
            yield Fault("wrong fields", f"{value!r:.60} must be a string that is not empty", "mend it", path, line)
            return
        if half := lone_surrogate(value):
            yield Fault("half a character", f"{half} alone is half of a character", "write it whole", path, line)
            return
    for caption in captions:
        yield composed(read[item].strip()), composed(caption.strip())
