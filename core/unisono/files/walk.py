"""Walk: the files below a folder, one way for every reader of folders.

Hidden entries and what systems leave behind (``__MACOSX``, ``._x``, ``~$x``, ``Thumbs.db``) are skipped and
counted. Links are followed: a file by each of its names; a folder once, by its own name where that is below the
root, and a link that leads to a folder that was read already is listed. Broken links, names that are no UTF-8 and what
is no regular file are listed too. Suffixes count in any case. Ids are paths relative to the root, in composed form,
each once; numbers come in their order (2 before 10), and before other names.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

from unisono.errors import DataError
from unisono.files.fault import Fault, Kind, lone_surrogate, shown
from unisono.files.regular import cause_of, is_file
from unisono.files.text import composed

LEFT_BEHIND = frozenset(
    ("__macosx", "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "$recycle.bin",
     "system volume information", "lost+found", "#recycle", "#snapshot", "network trash folder", "temporary items")
)  # fmt: skip


class AuditLike(Protocol):
    """What takes notes and dropped items, such as ``unisono.data.Audit``."""

    def drop(self, id: str, reason: str, detail: str = "") -> None: ...

    def note(self, sentence: str) -> None: ...


@dataclass(frozen=True)
class Found:
    """A file below a folder: where it is, and its id, the path relative to that folder."""

    path: Path
    id: str

    @property
    def stem(self) -> str:
        """The id without suffix."""
        return PurePosixPath(self.id).with_suffix("").as_posix()

    @property
    def parts(self) -> tuple[str, ...]:
        """The id's folders and name."""
        return PurePosixPath(self.id).parts

    @property
    def suffix(self) -> str:
        """The suffix in small letters."""
        return self.path.suffix.lower()


@dataclass
class Walk:
    """What lies below a folder.

    Attributes:
        files: in natural order.
        faults: what could not be read, with its id.
        skipped: names of hidden entries and of what systems leave behind, with their count.
        others: ids of files with other suffixes than asked for.
    """

    root: Path
    files: list[Found] = field(default_factory=list)
    faults: list[tuple[str, Fault]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    others: list[str] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """What was skipped, in a sentence, or nothing."""
        if not self.skipped:
            return []
        names = [f"{shown(name)} ({count})" if count > 1 else shown(name) for name, count in self.skipped.most_common()]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        return [f"skipped below {shown(self.root.name)}, hidden or a system's own: {', '.join(names[:5])}{more}"]

    def tell(self, audit: AuditLike) -> None:
        """List in an audit what could not be read, and note what was skipped."""
        for id, fault in self.faults:
            audit.drop(id, fault.reason, fault.detail)
        for note in self.notes:
            audit.note(note)


def walk(root: str | os.PathLike, suffixes: Sequence[str] | None = None, kind: Kind = DataError) -> Walk:
    """Return the files below a folder; with ``suffixes`` (small letters, with their dot) only those.

    Raises ``kind`` where the root is no folder that can be read.
    """
    root = Path(root)
    found = Walk(root)
    seen: dict[tuple[int, int], str] = {}
    folders: list[tuple[Path, str]] = [(root, "")]
    links: list[tuple[Path, str]] = []
    while folders or links:  # links after all that lies below the root by its own name
        folder, id = folders.pop() if folders else links.pop(0)
        try:
            inner, linked = _enter(folder, id, found, suffixes, seen)
        except OSError as error:
            if not id:
                raise cause_of(error, root).error(kind) from None
            found.faults.append((_listed(id), cause_of(error, folder)))
            continue
        folders += reversed(inner)
        links += linked
    _make_unique(found)
    found.files.sort(key=lambda file: natural(file.id))
    found.others.sort(key=natural)
    found.faults.sort(key=lambda entry: natural(entry[0]))
    return found


def natural(id: str) -> tuple:
    """Return a key that sorts ids part by part: numbers by their value, before other names."""
    key = []
    for part in PurePosixPath(id).parts:
        stem = part.partition(".")[0]
        digits = stem.lstrip("0") if stem.isascii() and stem.isdecimal() else None
        key.append((1, 0, "", part) if digits is None else (0, len(digits), digits, part))
    return tuple(key)


def is_skipped(name: str) -> bool:
    """Whether an entry of a folder is hidden or left behind by a system."""
    return name.startswith((".", "~$")) or name.lower() in LEFT_BEHIND


class Names:
    """Finds what a list names relative to a folder, however the disk writes its accents and suffixes.

    A name as it stands is tried first; then one that differs in composition (NFC, NFD), and in the case of the suffix.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._listed: dict[Path, dict[str, str]] = {}

    def find(self, name: str) -> Path | None:
        """Return the path of a file that is there, or None."""
        if not name or "\0" in name:
            return None
        path = self.folder / name
        if is_file(path):
            return path
        *parts, last = path.parts
        place = Path(*parts[:1]) if parts else Path()
        for part in parts[1:]:
            entry = place / part
            if not os.path.isdir(entry):
                entry = place / self._list(place).get(composed(part), part)
            place = entry
        listed = self._list(place)
        entry = listed.get(composed(last)) or listed.get(_small_suffix(composed(last)))
        found = place / entry if entry else None
        return found if found and is_file(found) else None

    def _list(self, folder: Path) -> dict[str, str]:
        if folder not in self._listed:
            try:
                names = sorted(os.listdir(folder))
            except OSError:
                names = []
            listed = {_small_suffix(composed(name)): name for name in names}
            self._listed[folder] = listed | {composed(name): name for name in names}
        return self._listed[folder]


def _enter(
    folder: Path, id: str, found: Walk, suffixes: Sequence[str] | None, seen: dict[tuple[int, int], str]
) -> tuple[list[tuple[Path, str]], list[tuple[Path, str]]]:
    """Read one folder; return the folders in it and the links to folders, with their ids."""
    about = os.stat(folder)
    inode = (about.st_dev, about.st_ino)
    if inode in seen or (id and found.root.resolve().is_relative_to(folder.resolve())):
        first = seen.get(inode)
        if first is None or PurePosixPath(id).is_relative_to(PurePosixPath(first)):
            fault = Fault("link loop", "leads to a folder that it is in", "remove it", folder)
        else:
            fault = Fault("read already", f"leads to {shown(first)}, which is read by that name", "remove it", folder)
        found.faults.append((_listed(id), fault))
        return [], []
    entries = sorted(os.scandir(folder), key=lambda entry: natural(entry.name))
    seen[inode] = id
    folders: list[tuple[Path, str]] = []
    links: list[tuple[Path, str]] = []
    for entry in entries:
        if is_skipped(entry.name):
            found.skipped["._*" if entry.name.startswith("._") else entry.name] += 1
            continue
        path, own = folder / entry.name, f"{id}/{entry.name}" if id else entry.name
        wanted = suffixes is None or path.suffix.lower() in suffixes
        try:
            if entry.is_symlink():
                entry.stat()
            is_dir, is_regular = entry.is_dir(), entry.is_file()
        except OSError as error:
            if wanted or not path.suffix:
                found.faults.append((_listed(own), cause_of(error, path, "remove it")))
            else:
                found.others.append(_listed(own))
            continue
        if is_dir:
            (links if entry.is_symlink() else folders).append((path, own))
        elif not wanted:
            found.others.append(_listed(own))
        elif not is_regular:
            found.faults.append((_listed(own), Fault("not a file", "is no regular file", "remove it", path)))
        elif not own.isascii() and lone_surrogate(own):
            found.faults.append((_listed(own), Fault("name not UTF-8", "its name is no UTF-8", "rename it", path)))
        else:
            found.files.append(Found(path, composed(own)))
    return folders, links


def _make_unique(found: Walk) -> None:
    """List files whose ids are one in composed form: the first by its name on disk stays."""
    kept: dict[str, Found] = {}
    for file in sorted(found.files, key=lambda file: str(file.path)):
        if file.id in kept:
            other = kept[file.id].path.relative_to(found.root).as_posix()
            detail = f"the same name as {other!a} in another form of Unicode"
            found.faults.append((file.id, Fault("same name", detail, "rename it", file.path)))
        else:
            kept[file.id] = file
    found.files = list(kept.values())


def _listed(id: str) -> str:
    """Return an id that can be printed and stored."""
    return composed(id.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))


def _small_suffix(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    return stem + suffix.lower()
