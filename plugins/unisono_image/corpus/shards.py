"""Images in WebDataset shards: tar files in which the parts of an item share a name (`webdataset.github.io`).

Parts that are read: an image (``jpg``, ``jpeg``, ``png``, ``webp``, ``bmp``, ``gif``, ``tif``, ``tiff``, ``ppm``), its
caption (``txt``, ``caption``; or ``caption`` or ``text`` in ``json``, one or a list) and its class (``cls``, or
``label`` or ``class`` in ``json``; a number or a name). The shards are read once, from front to back, by the library
``webdataset``; afterwards batches come from the packed pixels, as of any other data, so that they can be replayed.
Shards are local files; those on a server are fetched first, by whatever fetches files.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from unisono.data import Audit, Drop
from unisono.errors import DataError, MissingExtra

from unisono_image.corpus.data import ImageData, Picture
from unisono_image.corpus.files import IMAGE_SUFFIXES, Fit, fitted, read_image
from unisono_image.corpus.store import pack_stream

CAPTION_PARTS = ("txt", "caption")


class ShardData(ImageData):
    """Items of WebDataset shards, with captions and classes where they have them.

    Args:
        root: a shard, a folder of shards (``*.tar``), or a pattern such as ``train-{000..009}.tar``.
        size, fit, background, shift, batch_size, num_workers: as of ``image/folder``.
        flip: as of ``image/captions``.
        val_size: images held out, chosen by their ids alone.
    """

    def __init__(
        self,
        root: str,
        *,
        size: int = 32,
        fit: Fit = "crop",
        background: str = "white",
        flip: bool = False,
        shift: int = 0,
        batch_size: int = 128,
        val_size: int = 128,
        num_workers: int = 0,
    ):
        super().__init__(
            size=size,
            fit=fit,
            background=background,
            flip=flip,
            shift=shift,
            batch_size=batch_size,
            val_size=val_size,
            num_workers=num_workers,
        )
        self.root = root

    def prepare(self, progress: bool = True) -> Audit:
        shards = find_shards(self.root)
        audit = Audit("pictures")
        store, kept, dropped = pack_stream(shards, lambda: self._records(shards), self.size, self.fit, self.background)
        for record in dropped:
            audit.drop(record["id"], record["reason"], record["detail"])
        # Numbers keep their order and their meaning; names are sorted, as folders are.
        named = {record["label"] for record in kept if isinstance(record["label"], str)}
        numbers = {record["label"] for record in kept if isinstance(record["label"], int)}
        if named and numbers:
            raise DataError(f"{self.root}: some classes are names ({min(named)!r}), some numbers: use one kind")
        self.classes = sorted(named) or [str(number) for number in range(max(numbers, default=-1) + 1)]
        label = {name: number for number, name in enumerate(self.classes)}
        pictures = []
        for row, record in enumerate(kept):
            name = "" if record["label"] is None else str(record["label"])
            audit.keep(record["id"], group=name)
            pictures.append(Picture(record["id"], row, label.get(name, -1), tuple(record["captions"])))
        return self.settle(audit, store, pictures)

    def _records(
        self, shards: list[Path]
    ) -> Iterator[tuple[UInt8[np.ndarray, "3 s s"], dict[str, Any]] | dict[str, Any]]:
        """Yield every item: (pixels, record), or the record of why it is dropped."""
        try:
            from webdataset.tariterators import group_by_keys, tar_file_expander
        except ImportError:
            raise MissingExtra("webdataset", "image") from None
        seen: set[str] = set()
        for shard in shards:
            # One shard at a time, so that what is wrong with one is known to be its fault, and from a file of our own,
            # so that it is closed.
            stream = shard.open("rb")
            try:
                items = group_by_keys(tar_file_expander([{"url": str(shard), "stream": stream}]))
                for item in items:
                    name = f"{shard.name}/{item['__key__']}"
                    if name in seen:
                        yield {"id": name, "reason": "second item", "detail": "another of the shard has its name"}
                        continue
                    seen.add(name)
                    try:
                        yield self._read(name, item)
                    except Drop as drop:
                        yield {"id": name, "reason": drop.reason, "detail": drop.detail}
            except Exception as error:  # a damaged archive: tarfile, gzip and webdataset raise whatever comes
                if isinstance(error, DataError):
                    raise
                yield {"id": shard.name, "reason": "damaged shard", "detail": f"its rest is lost: {error}"}
            else:
                # Python's tarfile takes an archive that is cut at the head of a file for one that ends there.
                stream.seek(max(shard.stat().st_size - 512, 0))
                if shard.suffix == ".tar" and any(stream.read()):
                    yield {"id": shard.name, "reason": "damaged shard", "detail": "it has no end mark: it was cut off"}
            finally:
                stream.close()

    def _read(self, name: str, item: dict[str, Any]) -> tuple[UInt8[np.ndarray, "3 s s"], dict[str, Any]]:
        parts = [key for key in item if f".{key.rpartition('.')[2].lower()}" in IMAGE_SUFFIXES]
        if not parts:
            known = ", ".join(key for key in item if not key.startswith("__"))
            raise Drop("no image", f"it has the parts {known}")
        captions = [item[key].decode("utf-8", "replace").strip() for key in CAPTION_PARTS if key in item]
        label: str | int | None = None
        try:
            facts = json.loads(item["json"]) if "json" in item else {}
            label = _class(item["cls"].decode()) if "cls" in item else None
        except ValueError as error:
            raise Drop("unreadable text", f"its json or cls: {error}") from None
        if isinstance(facts, dict):
            said = facts.get("caption", facts.get("text"))
            captions += [text.strip() for text in (said if isinstance(said, list) else [said]) if isinstance(text, str)]
            found = facts.get("label", facts.get("class"))
            if label is None and isinstance(found, str | int) and not isinstance(found, bool):
                label = _class(str(found))
        if isinstance(label, int) and label < 0:
            raise Drop("no class", f"class {label} is below 0")
        pixels = fitted(read_image(item[parts[0]], self.background), self.size, self.fit, self.background)
        return pixels, {"id": name, "captions": [text for text in dict.fromkeys(captions) if text], "label": label}


def find_shards(root: str) -> list[Path]:
    """Return the shards that a path, a folder or a pattern with braces names; raises ``DataError`` for none."""
    path = Path(root).expanduser()
    if path.is_dir():
        found = sorted(path.rglob("*.tar"))
        if not found:
            raise DataError(f"{root}: holds no shard (*.tar); check data.root")
        return found
    if "{" in root:
        try:
            import braceexpand
        except ImportError:
            raise MissingExtra("webdataset", "image") from None
        found = [Path(name) for name in braceexpand.braceexpand(str(path))]
    else:
        found = [path]
    missing = [shard for shard in found if not shard.is_file()]
    if missing:
        raise DataError(f"{missing[0]}: no such shard ({len(missing)} of {len(found)} are missing); check data.root")
    return found


def _class(text: str) -> str | int:
    text = text.strip()
    return int(text) if text.lstrip("-").isdecimal() else text
