"""Folder: a user's own pictures with phrases and polygons, from one JSON file in COCO's manner.

::

    {"images": [{"id": 1, "file_name": "street.jpg"}],
     "annotations": [{"image_id": 1, "phrase": "the red car on the left", "segmentation": [[10, 12, 40, 12, 40, 30]]}]}

``file_name`` is relative to the file's folder; ``phrase`` may be ``phrases``, a list, one of which is drawn each time;
``segmentation`` is one polygon, x and y in turns, in pixels of the picture. What else COCO writes is read over. An
annotation that cannot be used is dropped with its reason: an object in several parts, a run-length mask, a polygon of
less than 3 points or no area. Pictures are held out whole, with all that is said of them.

A picture is scaled to fit a square and padded with white; the square is cached.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from unisono.data import Audit, DataModule, Drop, Features, collate_items, hold_out, prepare_features, words_of
from unisono.errors import DataError
from unisono.files import Names, fault_of, is_folder, lone_surrogate, read_json, shown
from unisono.nn.captions import MAX_WORDS

from unisono_outline.corpus.data import STATISTICS, facts_of_items, item_of
from unisono_outline.corpus.facts import check_sizes
from unisono_outline.corpus.pictures import Fitted, fitted, read_picture
from unisono_outline.geometry import signed_area
from unisono_outline.geometry.polygon import Vertices

LIST = "outlines.json"
"""The file that a folder is searched for."""
VERSION = "outline-pictures-1"
SMALLEST_AREA = 1.0
"""Of an outline, in pixels of its picture."""


@dataclass(frozen=True, eq=False)
class Example:
    """One thing in one picture: its phrases, and its outline in pixels of the file; ``name`` is the picture's."""

    id: str
    name: str
    image: Path
    phrases: tuple[str, ...]
    outline: Vertices


@dataclass(frozen=True, eq=False)
class Placed:
    """An example with its picture, read."""

    example: Example
    features: Features

    def fitted(self) -> Fitted:
        """Return the picture in its square."""
        known = self.features.facts
        pixels = self.features.load("picture").numpy()
        return Fitted(pixels, (known["scale"][0], known["scale"][1]), (known["corner"][0], known["corner"][1]))


class FolderSet:
    """Items of examples; with ``random`` one of an example's phrases, else the first."""

    def __init__(self, placed: list[Placed], size: int, num_vertices: int, random: bool):
        self.placed, self.side, self.num_vertices, self.random = placed, size, num_vertices, random

    def __len__(self) -> int:
        return len(self.placed)

    def size(self, index: int) -> int:
        return self.side

    def item(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        own = self.placed[index]
        square, phrases = own.fitted(), own.example.phrases
        which = int(torch.randint(0, len(phrases), (), generator=generator)) if self.random else 0
        return item_of(square.picture, phrases[which], square.to_square(own.example.outline), self.num_vertices)


class FolderData(DataModule):
    """Pictures, phrases and polygons of a user; see this module.

    Args:
        root: the JSON file, or a folder that holds ``outlines.json``.
        size: pixels a side of the square that the model sees.
        num_vertices: of each outline.
        val_size: examples held out, or a few more: whole pictures.
        batch_size: examples per step over all processes.
        num_processes: preparing processes; null takes the cores.
        num_workers: loading processes per rank.
    """

    def __init__(
        self,
        root: str,
        *,
        size: int = 64,
        num_vertices: int = 36,
        val_size: int = 64,
        batch_size: int = 32,
        num_processes: int | None = None,
        num_workers: int = 0,
    ):
        super().__init__(batch_size, num_workers)
        check_sizes(size, num_vertices, "", "data.")
        if val_size < 0:
            message = f"data.val_size={val_size} must be at least 0"
            raise DataError(message, code="range", path="data.val_size", value=val_size)
        self.root, self.size, self.num_vertices, self.val_size = root, size, num_vertices, val_size
        self.num_processes = num_processes

    def prepare(self, progress: bool = True) -> Audit:
        audit = Audit("outlines")
        listed = list_of(self.root)
        placed = self._read(list(read_examples(listed, audit)), audit, progress)
        if not placed:
            first = f"; first: {audit.dropped[0]}" if audit.dropped else ""
            message = f"{shown(listed)}: no outline can be used; dropped: {audit.reasons}{first}"
            raise DataError(message, code="empty", path="data.root", value=str(self.root))
        counts = Counter(own.example.name for own in placed)
        held = hold_out(counts, self.val_size)
        train = [own for own in placed if own.example.name not in held]
        val = [own for own in placed if own.example.name in held]
        self.train_set = FolderSet(train, self.size, self.num_vertices, random=True)
        self.val_set = FolderSet(val, self.size, self.num_vertices, random=False) if val else None
        plain = FolderSet(train, self.size, self.num_vertices, random=False)
        words = {word for own in train for phrase in own.example.phrases for word in words_of(phrase)}
        self.facts = facts_of_items(
            [plain.item(index, torch.Generator()) for index in range(min(len(train), STATISTICS))],
            words=tuple(sorted(words)),
            held_out=tuple(sorted(held)),
            count=len(train),
        )
        return self.finish(audit)

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return collate_items(items)

    def _read(self, examples: list[Example], audit: Audit, progress: bool) -> list[Placed]:
        """The examples whose pictures can be read; the rest is in the audit."""
        images = list(dict.fromkeys(example.image for example in examples))
        found = prepare_features(
            images,
            partial(picture_features, size=self.size),
            f"{VERSION} {self.size}",
            file=lambda path: path,
            num_processes=self.num_processes,
            progress=progress,
            description="reading pictures",
        )
        known = dict(zip(images, found, strict=True))
        placed = []
        for example in examples:
            read = known[example.image]
            if isinstance(read, Drop):
                audit.drop(example.id, read.reason, str(read))
                continue
            audit.keep(example.id)
            placed.append(Placed(example, read.features))
        return placed


def picture_features(path: Path, size: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return a picture in its square, and how places lead back; raises ``Drop``."""
    square = fitted(read_picture(path), size)
    return {"picture": torch.from_numpy(square.picture)}, {"scale": list(square.scale), "corner": list(square.corner)}


def list_of(root: str | Path) -> Path:
    """Return the JSON file of a root; raises ``DataError`` where there is none."""
    path = Path(root).expanduser()
    if is_folder(path):
        path = path / LIST
    if fault := fault_of(path, "check data.root"):
        raise fault.error()
    return path


def read_examples(path: Path, audit: Audit) -> Iterator[Example]:
    """Yield the examples of a file; what cannot be used is listed in the audit.

    Raises ``DataError`` where the file as a whole is not of this kind.
    """
    values = read_json(path)
    lists = {name: values.get(name) if isinstance(values, dict) else None for name in ("images", "annotations")}
    for name, rows in lists.items():
        if not isinstance(rows, list):
            message = f"{shown(path)}: has no list of {name}: a file is {{'images': […], 'annotations': […]}}"
            raise DataError(message, code="format", path=name, value=type(rows).__name__)
    there, images = Names(path.parent), {}
    for place, row in enumerate(lists["images"] or ()):
        key, name = (row.get("id"), row.get("file_name")) if isinstance(row, dict) else (None, None)
        if not _is_key(key) or not isinstance(name, str) or not name:
            audit.drop(f"images[{place}]", "wrong fields", "id must be a number or a text, file_name a text")
        elif key in images:
            audit.drop(f"images[{place}]", "same name", f"another picture has the id {key!r:.40}")
        else:
            images[key] = name, there.find(name) or path.parent / name
    for place, row in enumerate(lists["annotations"] or ()):
        id = f"annotations[{place}]"
        try:
            yield _example(id, row, images)
        except Drop as drop:
            audit.drop(id, drop.reason, str(drop))


def _example(id: str, row: Any, images: dict[Any, tuple[str, Path]]) -> Example:
    """An annotation as an example; raises ``Drop``."""
    if not isinstance(row, dict):
        raise Drop("wrong fields", f"{row!r:.60} must be an object")
    key = row.get("image_id")
    if not _is_key(key) or key not in images:
        raise Drop("no picture", f"image_id={key!r:.40} is not among the images that can be used")
    outline = polygon_of(row.get("segmentation"))
    said = row.get("phrases", row.get("phrase"))
    phrases: list[Any] = said if isinstance(said, list) else [said]
    if not phrases or not all(
        isinstance(text, str) and words_of(text) and not lone_surrogate(text) for text in phrases
    ):
        raise Drop("wrong fields", f"phrase={said!r:.60} must be a text of words, or phrases a list of such")
    longest = max(len(words_of(text)) for text in phrases)
    if longest > MAX_WORDS:
        raise Drop("long phrase", f"a phrase has {longest} words, at most {MAX_WORDS} are read")
    name, image = images[key]
    # An export holds the names of held-out pictures, and no path of a machine.
    return Example(id, Path(name).name if Path(name).is_absolute() else name, image, tuple(phrases), outline)


def polygon_of(segmentation: Any) -> Vertices:
    """Return the one polygon of a segmentation, [n, 2]; raises ``Drop``."""
    if isinstance(segmentation, dict):
        raise Drop("run-length mask", "segmentation is a mask: give a polygon")
    if not isinstance(segmentation, list) or not segmentation:
        raise Drop("wrong fields", f"segmentation={segmentation!r:.60} must be a list that holds one polygon")
    if len(segmentation) > 1 and all(isinstance(part, list) for part in segmentation):
        raise Drop("several parts", f"segmentation has {len(segmentation)} polygons, an outline is one")
    numbers = segmentation[0]
    whole = isinstance(numbers, list) and len(segmentation) == 1
    if not whole or not all(type(x) in (int, float) and math.isfinite(x) for x in numbers):
        raise Drop("wrong fields", f"segmentation={segmentation!r:.60} must hold one list of finite numbers")
    if len(numbers) % 2 or len(numbers) < 6:
        raise Drop("wrong fields", f"a polygon of {len(numbers)} numbers: give x and y of at least 3 points")
    outline = np.array(numbers, np.float64).reshape(-1, 2)
    if abs(signed_area(outline)) < SMALLEST_AREA:
        raise Drop("no area", f"the polygon has an area of {abs(signed_area(outline)):.2g} pixels")
    return outline


def _is_key(key: Any) -> bool:
    return isinstance(key, str | int) and not isinstance(key, bool)
