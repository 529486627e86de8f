"""Data: crops of pictures at their own resolution, for picture codecs; and made pictures for tests.

A crop is taken anywhere in a picture. One that is smaller than the crop goes on as its own mirror image, so that no
border is learnt that is in no picture. Transparent pictures are laid on a background, as a codec lays them.

Batches: ``image`` float32 [b, 3, s, s] in [−1, 1]; ``row`` int64 [b], the item's index.

Shapes: s side of a crop in pixels, h w height and width of a picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from unisono.data import Audit, DataModule, Drop, Facts, collate_items, derive_seed, hold_out, map_processes
from unisono.errors import DataError
from unisono.files import is_folder, walk
from unisono.media.pictures import IMAGE_SUFFIXES, colour, read_image

KEEP_BYTES = 2**29
"""Pictures of up to so many bytes together are kept in memory once read; more are read again each time."""
TEST_FOLDERS = ("test", "val", "valid", "validation")


@dataclass(frozen=True, kw_only=True)
class PictureFacts(Facts):
    """Facts about pictures that a codec is trained on.

    Attributes:
        crop: side of the crops, in pixels.
        count: pictures to train on.
        held_out: ids of the pictures that are validated on.
        background: what transparent pictures are laid on, red, green and blue from 0 to 255.
    """

    crop: int
    count: int | None = None
    held_out: tuple[str, ...] = ()
    background: tuple[int, int, int] = (255, 255, 255)


class CropSet:
    """Items ``{"image" [3, s, s] −1…1}``: crops at random, where ``flip`` half of them mirrored; or from the middle.

    A source is a file, or pixels.
    """

    def __init__(
        self, sources: Sequence[Path | np.ndarray], crop: int, background: tuple[int, int, int], *,
        flip: bool, random: bool, keep: bool, groups: Sequence[str] = (),
    ):  # fmt: skip
        self.sources = list(sources)
        self.group_of = list(groups) or [""] * len(self.sources)
        self.side, self.background = crop, background
        self.flip, self.random, self.keep = flip, random, keep
        self._kept: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.sources)

    def size(self, index: int) -> int:
        return self.side

    def groups(self) -> tuple[list[str], list[int]]:
        """Return the names of the roots, and the number of each picture's among them."""
        names = list(dict.fromkeys(self.group_of))
        return names, [names.index(name) for name in self.group_of]

    def of(self, index: int) -> UInt8[np.ndarray, "3 h w"]:
        """Return a picture's pixels."""
        source = self.sources[index]
        if isinstance(source, np.ndarray):
            return source
        if index in self._kept:
            return self._kept[index]
        try:
            pixels = read_image(source, self.background)
        except Drop as drop:  # it was readable when the data were prepared
            raise DataError(f"{drop.detail}: prepare the data again", code="damaged", path=source) from None
        if self.keep:
            self._kept[index] = pixels
        return pixels

    def item(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        pixels = self.of(index)
        room = [max(side - self.side, 0) for side in pixels.shape[1:]]
        if self.random:
            top, left = (int(torch.randint(0, most + 1, (), generator=generator)) for most in room)
        else:
            top, left = (most // 2 for most in room)
        cut = pixels[:, top : top + self.side, left : left + self.side]
        missing = [(0, self.side - side) for side in cut.shape[1:]]
        image = torch.from_numpy(np.pad(cut, ((0, 0), *missing), mode="symmetric"))
        if self.random and self.flip and bool(torch.randint(0, 2, (), generator=generator)):
            image = image.flip(-1)
        return {"image": image.float() / 127.5 - 1}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}


class CropData(DataModule):
    """The base of data of crops."""

    def __init__(self, crop: int, flip: bool, batch_size: int, val_size: int, num_workers: int):
        super().__init__(batch_size, num_workers)
        if not 1 <= crop <= 4096:
            raise DataError(f"crop={crop} must be from 1 to 4096 pixels", code="range", path="data.crop", value=crop)
        if val_size < 0:
            raise DataError(
                f"val_size={val_size} must be at least 0", code="range", path="data.val_size", value=val_size
            )
        self.crop, self.flip, self.val_size = crop, flip, val_size

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return collate_items(items)


class PictureData(CropData):
    """Crops of the pictures below folders.

    Of each root as many pictures are validated on, chosen by their ids alone; those below folders named test, val,
    valid or validation, where there are any, and no others of them.

    Args:
        root: a folder, or several as ``name=PATH,name=PATH`` (or a mapping), whose names begin the ids; ``run.mixing``
            weights them.
        crop: side of the crops in pixels; published: 256.
        flip: mirror every other crop.
        background: what transparent pictures are laid on: a colour's name or ``#rrggbb``.
        batch_size: crops per step over all processes.
        val_size: pictures to validate on, over all roots.
        num_processes: preparing processes; null takes the cores.
        num_workers: loading processes per rank.
    """

    def __init__(
        self,
        root: str | dict[str, str],
        *,
        crop: int = 256,
        flip: bool = True,
        background: str = "white",
        batch_size: int = 16,
        val_size: int = 256,
        num_processes: int | None = None,
        num_workers: int = 0,
    ):
        super().__init__(crop, flip, batch_size, val_size, num_workers)
        self.root, self.num_processes = root, num_processes
        self.background = colour(background)

    def prepare(self, progress: bool = True) -> Audit:
        audit = Audit("pictures")
        found: list[tuple[str, Path, bool]] = []
        bounds: dict[str, tuple[int, int]] = {}
        for name, root in roots_of(self.root).items():
            walked = walk(folder_of(root), IMAGE_SUFFIXES)
            walked.tell(audit)
            prefix = f"{name}/" if name else ""
            first = len(found)
            found += [(prefix + f.id, f.path, f.parts[0].lower() in TEST_FOLDERS) for f in walked.files]
            bounds[name] = first, len(found)
        if not found:
            raise DataError(
                f"{self.root}: holds no picture ({', '.join(IMAGE_SUFFIXES)}); check data.root",
                code="empty",
                path="data.root",
                value=str(self.root),
            )
        task = partial(_size_of, background=self.background)
        sizes = map_processes(task, [path for _, path, _ in found], self.num_processes, progress, "reading pictures")
        train: dict[str, Path] = {}
        val: dict[str, Path] = {}
        groups: list[str] = []
        total = 0
        for name, (first, last) in bounds.items():
            sides: tuple[dict[str, Path], dict[str, Path]] = ({}, {})
            for (id, path, test), size in zip(found[first:last], sizes[first:last], strict=True):
                if isinstance(size, Drop):
                    audit.drop(id, size.reason, size.detail)
                    continue
                audit.keep(id, size / 1e6, "megapixels", group=name)
                total += 3 * size
                sides[test][id] = path
            wanted = -(-self.val_size // len(bounds))
            held = hold_out({id: 1 for id in sides[1] or sides[0]}, wanted, may_take_all=bool(sides[1]))
            ours = {id: path for id, path in sides[0].items() if id not in held}
            train.update(ours)
            groups += [name] * len(ours)
            val.update({id: path for side in sides for id, path in side.items() if id in held})
        if not train:
            raise DataError(
                f"no usable picture to train on; dropped: {audit.reasons}",
                code="empty",
                path="data",
                value=str(self.root),
            )
        keep = total <= KEEP_BYTES
        self.train_set = CropSet(
            list(train.values()), self.crop, self.background, flip=self.flip, random=True, keep=keep, groups=groups
        )
        self.val_set = (
            CropSet(list(val.values()), self.crop, self.background, flip=False, random=False, keep=keep)
            if val
            else None
        )
        self.facts = PictureFacts(crop=self.crop, count=len(train), held_out=tuple(val), background=self.background)
        return self.finish(audit)


class MadeData(CropData):
    """Made pictures of gradients, discs and stripes, for tests and tiny recipes.

    Args:
        num_items: pictures to train on.
        crop, flip, batch_size, val_size, num_workers: as of ``codec/pictures``.
    """

    def __init__(
        self,
        *,
        num_items: int = 32,
        crop: int = 32,
        flip: bool = False,
        batch_size: int = 4,
        val_size: int = 2,
        num_workers: int = 0,
    ):
        super().__init__(crop, flip, batch_size, val_size, num_workers)
        self.num_items = num_items

    def prepare(self, progress: bool = True) -> Audit:
        audit = Audit("pictures")
        made = [made_picture(number, self.crop, self.crop) for number in range(self.num_items + self.val_size)]
        for number in range(len(made)):
            audit.keep(f"made-{number}")
        sides: list[tuple[list[np.ndarray], bool]] = [(made[: self.num_items], True), (made[self.num_items :], False)]
        self.train_set, self.val_set = (
            CropSet(pixels, self.crop, (255, 255, 255), flip=random and self.flip, random=random, keep=False)
            if pixels
            else None
            for pixels, random in sides
        )
        self.facts = PictureFacts(crop=self.crop, count=self.num_items)
        return self.finish(audit)


def made_picture(number: int, height: int, width: int) -> UInt8[np.ndarray, "3 h w"]:
    """Return a made picture: a gradient between two colours, a disc and stripes, all drawn by its number."""
    draws = np.random.default_rng(derive_seed("picture", number)).random(16)
    down, right = np.mgrid[:height, :width].astype(np.float64)
    along = down / max(height, 2) * draws[0] + right / max(width, 2) * (1 - draws[0])
    first, second = draws[1:4, None, None], draws[4:7, None, None]
    picture = first + (second - first) * along
    radius = (0.15 + 0.2 * draws[7]) * min(height, width)
    inside = np.hypot(down - draws[8] * height, right - draws[9] * width) < radius
    picture = np.where(inside, draws[10:13, None, None], picture)
    wave = np.sin((right * draws[13] + down * (1 - draws[13])) * (0.2 + draws[14]))
    picture = picture + 0.1 * draws[15] * wave
    return (picture.clip(0, 1) * 255).round().astype(np.uint8)


def roots_of(root: Any) -> dict[str, str]:
    """Return folders by name from a path, a mapping, or ``name=PATH,name=PATH``; one alone has no name."""
    if isinstance(root, str) and "=" in root and not Path(root).expanduser().exists():
        parts = [part.strip() for part in root.split(",")]
        if all("=" in part for part in parts):
            root = dict(part.split("=", 1) for part in parts)
    return {str(k): str(v) for k, v in root.items()} if isinstance(root, dict) else {"": str(root)}


def folder_of(root: str) -> Path:
    """Return a folder; raises ``DataError`` where there is none."""
    path = Path(root).expanduser()
    if not is_folder(path):
        raise DataError(f"{root}: no such folder; check data.root", code="missing", path="data.root", value=root)
    return path


def _size_of(path: Path, background: tuple[int, int, int]) -> int | Drop:
    """Pixels of a file that can be read whole, or why it cannot."""
    try:
        pixels = read_image(path, background)
    except Drop as drop:
        return drop
    return pixels.shape[1] * pixels.shape[2]
