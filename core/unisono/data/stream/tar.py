"""Tar shards: which members of an uncompressed tar file are parts of one row, and where their bytes lie.

WebDataset's layout (`webdataset.github.io`): the parts of a row share a name, ``dog.jpg`` and ``dog.txt``. A member's
part is known by its suffix, and the row by all of the name before it, in Unicode's composed form, so that names with
dots of their own stay whole; parts may lie anywhere in the shard. Every member is part of a row, or listed with its
reason. Only headers are read.
"""

import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from unisono.data.stream.parts import Part
from unisono.files import composed

BLOCK = 512
"""Bytes of a block of a tar file."""

Places = list[tuple[int, int]]
"""Where each part's bytes begin and how many they are; (-1, 0) for a part that a row lacks."""
Lost = tuple[str, str, str]
"""What is not read: id, reason and detail; a note has no reason."""


def rows_of(path: Path, parts: Sequence[Part], id: str) -> Iterator[tuple[str, Places] | Lost]:
    """Yield the rows of a tar file in the order of their first members, then all that is no part of one.

    A shard that is cut or damaged gives the rows that are whole, and says that its rest is lost.
    """
    found: dict[str, dict[str, tuple[int, int]]] = {}
    lost: list[Lost] = []
    hidden: Counter[str] = Counter()
    unread: Counter[str] = Counter()
    size, end = path.stat().st_size, 0
    damage = ""
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                end = archive.offset
                if member.isdir():
                    continue
                name = member.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
                name = name.removeprefix("./")
                if any(part.startswith(".") or part.lower() == "__macosx" for part in PurePosixPath(name).parts):
                    hidden[PurePosixPath(name).name] += 1
                    continue
                if not member.isreg() or member.issparse():
                    lost.append((f"{id}/{name}", "not a file", "it is a link, a device or has holes"))
                    continue
                if member.offset_data + member.size > size:
                    lost.append((f"{id}/{name}", "truncated", f"{size - member.offset_data} of {member.size} bytes"))
                    continue
                known = _part(name, parts)
                if known is None:
                    unread[PurePosixPath(name).suffix.lower() or "no suffix"] += 1
                    continue
                part, stem = known
                row = found.setdefault(composed(stem), {})
                if part.name in row:
                    detail = f"{stem} has another {part.name} before it"
                    lost.append((f"{id}/{name}", "second file", detail))
                    continue
                row[part.name] = (member.offset_data, member.size)
        with path.open("rb") as file:
            damage = behind(file, end)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        damage = f"its rest is lost: {' '.join(str(error).split()) or type(error).__name__}"
    for stem, places in found.items():
        lacking = [part.name for part in parts if part.needed and part.name not in places]
        if lacking:
            yield f"{id}/{stem}", f"no {lacking[0]}", f"it has {', '.join(sorted(places))}"
        else:
            yield stem, [places.get(part.name, (-1, 0)) for part in parts]
    yield from lost
    if hidden:
        names = ", ".join(name for name, _ in hidden.most_common(3))
        yield id, "", f"skipped in {id}, hidden or a system's own: {hidden.total()} members, such as {names}"
    if unread:
        names = ", ".join(f"{count} {suffix}" for suffix, count in unread.most_common(5))
        yield id, "", f"members of {id} that are no part of a row by their suffix: {names}"
    if damage:
        yield id, "damaged shard", damage


def _part(name: str, parts: Sequence[Part]) -> tuple[Part, str] | None:
    """The part that a member's suffix names, the longest such suffix, and the name before it."""
    low = name.lower()
    fitting = [(len(suffix), part) for part in parts for suffix in part.suffixes if low.endswith(suffix)]
    if not fitting:
        return None
    length, part = max(fitting, key=lambda pair: pair[0])
    stem = name[:-length]
    return None if not stem or stem.endswith("/") else (part, stem)


def behind(file: IO[bytes], end: int) -> str:
    """Return what is wrong behind the last member, which ends at ``end``; empty where nothing is.

    An archive ends with blocks of zeros, which ``tarfile`` does not insist on.
    """
    file.seek(end)
    if len(mark := file.read(BLOCK)) < BLOCK or any(mark):
        return "it has no end mark: it was cut off, or a header is damaged and its rest is lost"
    while rest := file.read(2**20):
        if rest.strip(b"\0"):
            return "what lies behind its end mark is not read"
    return ""
