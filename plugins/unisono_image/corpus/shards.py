"""Shards: images in tar files in which the parts of an item share a name (WebDataset, `webdataset.github.io`).

Parts that are read: an image (``jpg``, ``jpeg``, ``png``, ``webp``, ``bmp``, ``gif``, ``tif``, ``tiff``, ``ppm``), its
caption (``txt``, ``caption``; or ``caption`` or ``text`` in ``json``, one or a list) and its class (``cls``, or
``label`` or ``class`` in ``json``; a number or a name). ``tar_items`` says which members are parts of one item; parts
may lie anywhere in a shard. The shards are read once; afterwards batches come from the packed pixels, as of any other
data, so that they can be replayed. Every member is kept, or listed with its reason, or a part of a kept item.
Shards are local files; those on a server are fetched first, by whatever fetches files.
"""

import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, ClassVar, cast

import numpy as np
from jaxtyping import UInt8
from unisono.data import Audit, Drop
from unisono.errors import DataError, MissingExtra
from unisono.files import Fault, decoded, fault_of, is_file, is_folder, lone_surrogate, parse_json, shown, walk

from unisono_image.corpus.classes import class_of, numbered
from unisono_image.corpus.data import ImageData, Picture
from unisono_image.corpus.files import MAX_BYTES, fitted, read_image
from unisono_image.corpus.options import FLAT, PictureOptions
from unisono_image.corpus.store import pack_stream
from unisono_image.corpus.tar_items import TEXT_SUFFIXES, Item, items_of

CAPTION_PARTS = (".txt", ".caption")
SHARD_NAMES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
MAX_TEXT_BYTES = 2**20
BLOCK = 512
"""Bytes of a block of a tar file."""

Record = dict[str, Any]


class ShardData(ImageData):
    """Items of WebDataset shards, with captions and classes where they have them.

    Args:
        root: a shard, a folder of shards (``*.tar``, also compressed: ``.gz``, ``.bz2``, ``.xz``), or a pattern such
            as ``train-{000..009}.tar``.
        size, batch_size, num_workers: as of ``image/folder``.
        pictures: as of ``image/captions``.
        val_size: images held out, chosen by their ids alone.
    """

    flat: ClassVar[dict[str, str]] = FLAT

    def __init__(
        self,
        root: str,
        *,
        size: int = 32,
        pictures: PictureOptions = PictureOptions(),  # noqa: B008
        batch_size: int = 128,
        val_size: int = 128,
        num_workers: int = 0,
    ):
        super().__init__(
            size=size,
            pictures=pictures,
            batch_size=batch_size,
            val_size=val_size,
            num_workers=num_workers,
        )
        self.root = root

    def prepare(self, progress: bool = True) -> Audit:
        audit = Audit("pictures")
        shards = find_shards(self.root, audit)
        paths = [path for path, _ in shards]
        store, kept, dropped = pack_stream(
            paths, lambda: self._records(shards), self.size, self.options.fit, self.background
        )
        for record in dropped:
            if record["reason"]:
                audit.drop(record["id"], record["reason"], record["detail"])
            else:
                audit.note(record["detail"])
        # Numbers keep their order and their meaning; names are sorted, as folders are.
        named = {record["label"] for record in kept if isinstance(record["label"], str)}
        numbers = {record["label"] for record in kept if isinstance(record["label"], int)}
        if named and numbers:
            raise DataError(
                f"{self.root}: some classes are names ({min(named)!r}), some numbers: use one kind",
                code="conflict",
                path="data.root",
                value=str(self.root),
            )
        self.classes = sorted(named) or [str(number) for number in range(max(numbers, default=-1) + 1)]
        label = {name: number for number, name in enumerate(self.classes)}
        pictures = []
        for row, record in enumerate(kept):
            name = "" if record["label"] is None else str(record["label"])
            audit.keep(record["id"], group=name)
            pictures.append(Picture(record["id"], row, label.get(name, -1), tuple(record["captions"])))
        return self.settle(audit, store, pictures)

    def _records(self, shards: list[tuple[Path, str]]) -> Iterator[tuple[UInt8[np.ndarray, "3 s s"], Record] | Record]:
        """Yield every item: (pixels, record), or the record of why it is dropped."""
        for path, id in shards:
            # One shard at a time, so that what is wrong with one is known to be its fault.
            try:
                with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:*") as archive:
                    yield from self._of_shard(archive, id)
            except Exception as error:  # a damaged archive: tarfile, gzip, lzma and zlib raise whatever comes
                yield _record(id, "damaged shard", f"its rest is lost: {_said(error)}")

    def _of_shard(
        self, archive: tarfile.TarFile, id: str
    ) -> Iterator[tuple[UInt8[np.ndarray, "3 s s"], Record] | Record]:
        members: dict[str, tarfile.TarInfo] = {}
        texts: dict[str, str | Drop] = {}
        hidden: Counter[str] = Counter()
        damage, end = "", 0
        try:
            for member in archive:
                end = archive.offset  # behind the member, also where it has holes
                name = member.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
                name = name.removeprefix("./")
                parts = Path(name).parts
                if member.isdir():
                    continue
                if any(part.startswith(".") or part.lower() == "__macosx" for part in parts):
                    hidden[parts[-1]] += 1
                elif not member.isreg():
                    yield _record(f"{id}/{name}", "not a file", "it is a link or a device")
                elif name in members:
                    yield _record(f"{id}/{name}", "second file", "another member of the shard has its name")
                else:
                    members[name] = member
                    if name.lower().endswith(TEXT_SUFFIXES):
                        # Read on the way: to go back for each of them unpacks a compressed shard from its beginning.
                        texts[name] = _text(archive, member)
        except Exception as error:
            damage = f"its rest is lost: {_said(error)}"
        if hidden:
            names = ", ".join(name for name, _ in hidden.most_common(3))
            yield _record(
                id, "", f"skipped in {id}, hidden or a system's own: {hidden.total()} members, such as {names}"
            )
        for entry in items_of(members):
            if not isinstance(entry, Item):
                yield _record(f"{id}/{entry[0]}", entry[1].reason, entry[1].detail)
                continue
            try:
                yield self._read(archive, members, texts, f"{id}/{entry.name}", entry)
            except Drop as drop:
                yield _record(f"{id}/{entry.name}", drop.reason, drop.detail)
        damage = damage or _behind(archive, end)
        if damage:
            yield _record(id, "damaged shard", damage)

    def _read(
        self,
        archive: tarfile.TarFile,
        members: dict[str, tarfile.TarInfo],
        known: dict[str, str | Drop],
        id: str,
        item: Item,
    ) -> tuple[UInt8[np.ndarray, "3 s s"], Record]:
        texts: dict[str, str] = {}
        for suffix, name in item.texts.items():
            text = known[name]
            if isinstance(text, Drop):
                raise text
            texts[suffix] = text
        captions = [texts[part].strip() for part in CAPTION_PARTS if part in texts]
        label = class_of(texts[".cls"]) if texts.get(".cls", "").strip() else None
        facts = _json(texts[".json"], item.texts[".json"]) if ".json" in texts else {}
        if isinstance(facts, dict):
            said = facts.get("caption", facts.get("text"))
            captions += [text.strip() for text in (said if isinstance(said, list) else [said]) if isinstance(text, str)]
            found = facts.get("label", facts.get("class"))
            if label is None and found is not None:
                if isinstance(found, bool) or not isinstance(found, str | int):
                    raise Drop("no class", f"its label {str(found)[:40]!r} is neither a number nor a name")
                label = class_of(str(found)) if not isinstance(found, int) else numbered(found)
        for text in [*captions, label]:
            if isinstance(text, str) and (half := lone_surrogate(text)):
                raise Drop("half a character", f"{half} alone is half of a character")
        pixels = read_image(_bytes(archive, members[item.image], MAX_BYTES), self.background)
        pixels = fitted(pixels, self.size, self.options.fit, self.background)
        return pixels, {"id": id, "captions": [text for text in dict.fromkeys(captions) if text], "label": label}


def find_shards(root: str, audit: Audit | None = None) -> list[tuple[Path, str]]:
    """Return the shards that a path, a folder or a pattern with braces names, each with its id.

    What cannot be read is listed in the audit; raises ``DataError`` for no shard at all.
    """
    path = Path(root).expanduser()
    if is_folder(path):
        walked = walk(path)
        if audit is not None:
            walked.tell(audit)
        inside = [(file.path, file.id) for file in walked.files if file.id.lower().endswith(SHARD_NAMES)]
        if not inside:
            raise DataError(f"{root}: holds no shard (*.tar); check data.root", code="empty", path=root)
        others = [file.id for file in walked.files if not file.id.lower().endswith(SHARD_NAMES)]
        if others and audit is not None:
            audit.note(
                f"{len(others)} files below {path.name} are no shards by their names and were not read, "
                f"such as {shown(others[0])}"
            )
        return inside
    if "{" in root and not is_file(path):
        try:
            import braceexpand
        except ImportError:
            raise MissingExtra("webdataset", "image") from None
        try:
            found = [Path(name) for name in braceexpand.braceexpand(str(path))]
        except ValueError:
            raise DataError(
                f"{root}: its braces are not closed; check data.root", code="format", path="data.root", value=str(root)
            ) from None
    else:
        found = [path]
    missing = [shard for shard in found if not is_file(shard)]
    if missing:
        fault = fault_of(missing[0], "check data.root")
        if fault is not None and fault.reason == "not a file":
            raise fault.error(DataError)
        raise DataError(
            f"{missing[0]}: no such shard ({len(missing)} of {len(found)} are missing); check data.root",
            code="missing",
            path=missing[0],
        )
    if len({shard.name for shard in found}) == len(found):
        return [(shard, shard.name) for shard in found]
    common = os.path.commonpath([shard.parent for shard in found])
    return [(shard, shard.relative_to(common).as_posix()) for shard in found]


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _record(id: str, reason: str, detail: str) -> Record:
    """Why something is dropped; without a reason, a note."""
    return {"id": id, "reason": reason, "detail": detail}


def _bytes(archive: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes:
    """A member's content; raises ``Drop``."""
    if member.size > most:
        raise Drop("too large", f"{member.name} has {member.size} bytes of at most {most}")
    try:
        with cast("IO[bytes]", archive.extractfile(member)) as file:
            data = file.read()
    except Exception as error:  # as above
        raise Drop("truncated", f"{member.name}: {_said(error)}") from None
    if len(data) < member.size:
        raise Drop("truncated", f"{member.name} has {len(data)} of {member.size} bytes")
    return data


def _behind(archive: tarfile.TarFile, end: int) -> str:
    """What is wrong behind the last member: an archive ends with blocks of zeros, which tarfile does not insist on."""
    file = cast("IO[bytes]", archive.fileobj)
    try:
        file.seek(end)
        if len(mark := file.read(BLOCK)) < BLOCK or any(mark):
            return "it has no end mark: it was cut off, or a header is damaged and its rest is lost"
        while rest := file.read(2**20):
            if rest.strip(b"\0"):
                return "what lies behind its end mark is not read"
    except Exception as error:
        return f"its rest is lost: {_said(error)}"
    return ""


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str | Drop:
    """A member's text, or why it cannot be read."""
    try:
        data = _bytes(archive, member, MAX_TEXT_BYTES)
    except Drop as drop:
        return drop
    text = decoded(data.removeprefix(b"\xef\xbb\xbf"), Path(member.name))
    return Drop(text.reason, f"{member.name}: {text.detail}") if isinstance(text, Fault) else text


def _json(text: str, name: str) -> Any:
    try:
        return parse_json(text, Path(name))
    except DataError as error:
        raise Drop("not JSON", str(error)) from None
