"""Shards: images in tar files in which the parts of an item share a name (WebDataset, `webdataset.github.io`).

Parts that are read: an image (``jpg``, ``jpeg``, ``png``, ``webp``, ``bmp``, ``gif``, ``tif``, ``tiff``, ``ppm``), its
caption (``txt``, ``caption``; or ``caption`` or ``text`` in ``json``, one or a list) and its class (``cls``, or
``label`` or ``class`` in ``json``; a number or a name). ``tar_items`` says which members are parts of one item; parts
may lie anywhere in a shard. The shards are read once; afterwards batches come from the packed pixels, as of any other
data, so that they can be replayed. Every member is kept, or listed with its reason, or a part of a kept item.
Shards are local files; those on a server are fetched first, by whatever fetches files.
"""

import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, ClassVar, cast

import numpy as np
from jaxtyping import UInt8
from unisono.data import Audit, Drop
from unisono.data.stream import behind, find_shards
from unisono.errors import DataError
from unisono.files import Fault, decoded, parse_json

from unisono_image.corpus.classes import said_by
from unisono_image.corpus.data import ImageData, Picture
from unisono_image.corpus.files import MAX_BYTES, fitted, read_image
from unisono_image.corpus.options import FLAT, PictureOptions
from unisono_image.corpus.store import pack_stream
from unisono_image.corpus.tar_items import TEXT_SUFFIXES, Item, items_of

CAPTION_PARTS = (".txt", ".caption")
MAX_TEXT_BYTES = 2**20

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
        shards = [(path, id) for id, path in find_shards(self.root, audit)]
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
        if not damage:
            try:
                damage = behind(cast("IO[bytes]", archive.fileobj), end)
            except Exception as error:  # as above: what unpacks it
                damage = f"its rest is lost: {_said(error)}"
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
        facts = _json(texts[".json"], item.texts[".json"]) if ".json" in texts else {}
        captions, label = said_by(
            [texts[part] for part in CAPTION_PARTS if part in texts], texts.get(".cls", ""), facts
        )
        pixels = read_image(_bytes(archive, members[item.image], MAX_BYTES), self.background)
        pixels = fitted(pixels, self.size, self.options.fit, self.background)
        return pixels, {"id": id, "captions": captions, "label": label}


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
