"""Listing: the shards that a path, a folder or a pattern names."""

import bz2
import glob
import gzip
import lzma
import os
import re
from collections.abc import Iterator
from pathlib import Path

from unisono.data.audit import Audit
from unisono.errors import DataError
from unisono.files import fault_of, is_file, is_folder, natural, shown, walk

PACKED = {
    ".tar.gz": gzip.open,
    ".tgz": gzip.open,
    ".tar.bz2": bz2.open,
    ".tbz2": bz2.open,
    ".tar.xz": lzma.open,
    ".txz": lzma.open,
}
SHARD_SUFFIXES = (".tar", *PACKED)
MOST_SHARDS = 1_000_000


def find_shards(root: str, audit: Audit | None = None) -> Iterator[tuple[str, Path]]:
    """Yield (id, path) of the shards that a path, a folder or a pattern with braces or stars names.

    What cannot be read is listed in the audit; raises ``DataError`` for no shard at all.
    """
    path = Path(root).expanduser()
    if is_folder(path):
        walked = walk(path)
        if audit is not None:
            walked.tell(audit)
        inside = [(file.id, file.path) for file in walked.files if file.id.lower().endswith(SHARD_SUFFIXES)]
        if not inside:
            raise DataError(f"{shown(root)}: holds no shard (*.tar); check data.root", code="empty", path=root)
        others = [file.id for file in walked.files if not file.id.lower().endswith(SHARD_SUFFIXES)]
        if others and audit is not None:
            audit.note(
                f"{len(others)} files below {shown(path.name)} are no shards by their names and were not read, "
                f"such as {shown(others[0])}"
            )
        yield from inside
        return
    found = [path]
    if not is_file(path) and re.search(r"[{*?\[]", root):
        found = [Path(name) for each in _braces(str(path)) for name in _globbed(each)]
    missing = [shard for shard in found if not is_file(shard)]
    if missing:
        fault = fault_of(missing[0], "check data.root")
        if fault is not None and fault.reason != "missing":
            raise fault.error()
        raise DataError(
            f"{missing[0]}: no such shard ({len(missing)} of {len(found)} are missing); check data.root",
            code="missing",
            path=missing[0],
        )
    plain = len({shard.name for shard in found}) == len(found)
    common = "" if plain else os.path.commonpath([shard.parent for shard in found])
    for shard in found:
        yield (shard.name if plain else shard.relative_to(common).as_posix()), shard


def _globbed(pattern: str) -> list[str]:
    if not glob.has_magic(pattern):
        return [pattern]
    found = sorted(glob.glob(pattern), key=natural)
    if not found:
        raise DataError(f"{shown(pattern)}: no file fits; check data.root", code="missing", path="data.root")
    return found


def _braces(pattern: str) -> list[str]:
    """Expand ``{a,b}`` and ``{000..009}``, as shells and WebDataset do."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if match is None:
        if "{" in pattern or "}" in pattern:
            raise DataError(
                f"{shown(pattern)}: its braces are not closed; check data.root", code="format", path="data.root"
            )
        return [pattern]
    inside = match.group(1)
    span = re.fullmatch(r"(\d+)\.\.(\d+)", inside)
    if span:
        first, last = int(span[1]), int(span[2])
        if abs(last - first) >= MOST_SHARDS:
            raise DataError(
                f"{shown(pattern)} means {abs(last - first) + 1} shards of at most {MOST_SHARDS}",
                code="limit",
                path="data.root",
            )
        width = len(span[1]) if span[1].startswith("0") else 0
        step = 1 if last >= first else -1
        choices = [f"{number:0{width}d}" for number in range(first, last + step, step)]
    else:
        choices = inside.split(",")
    before, after = pattern[: match.start()], pattern[match.end() :]
    expanded = [name for choice in choices for name in _braces(f"{before}{choice}{after}")]
    if len(expanded) > MOST_SHARDS:
        raise DataError(f"{shown(pattern)} means more than {MOST_SHARDS} shards", code="limit", path="data.root")
    return expanded
