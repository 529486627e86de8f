"""Data: pictures for image models at one size, with classes and captions; audited, packed, mirrored, shifted.

Every image is brought to ``size`` × ``size`` pixels once (see ``files``), and mapped from the cache afterwards.
A file that cannot be used is dropped with its reason and stops nothing else.

Batches: ``image`` float32 [b, 3, size, size] in [−1, 1]; ``label`` int64 [b], −1 where there is no class;
``caption``, a list of strings, empty where there is none; ``row`` int64 [b], the item's index.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import UInt8
from unisono.data import (
    Audit,
    DataModule,
    collate_items,
    derive_seed,
    find_captions,
    hold_out,
    mirrored,
    read_captions,
    words_of,
)
from unisono.errors import DataError
from unisono.files import Found, Names, Walk, fault_of, is_folder, natural, shown, walk

from unisono_image.corpus.facts import ImageFacts
from unisono_image.corpus.files import IMAGE_SUFFIXES, colour
from unisono_image.corpus.options import FLAT, PictureOptions
from unisono_image.corpus.store import open_store, pack_files

TRAIN_FOLDERS = ("train", "training")
TEST_FOLDERS = ("test", "val", "valid", "validation")
NUM_SAMPLES = 8


@dataclass(frozen=True)
class Picture:
    """One image: where its pixels are, what it shows, and whether its mirror image shows the same.

    ``label`` −1 is no class. Pictures of one ``group`` are held out together, and of one ``turn`` seen in turns,
    one in an epoch; empty, each by itself.
    """

    id: str
    row: int
    label: int = -1
    captions: tuple[str, ...] = ()
    mirrors: bool = True
    group: str = ""
    turn: str = ""


class PictureSet:
    """Items ``{"image" [3, s, s] −1…1, "label", "caption"}``.

    With ``random``: one of those that take turns, a caption at random, mirrored every other time where ``flip`` says
    so and the picture may be, and shifted by up to ``shift`` pixels (what comes in at the border is the border's
    mirror image). Without, the first caption and the image as it is.
    """

    def __init__(
        self, pixels: np.ndarray | Path, size: int, pictures: list[Picture], flip: bool, shift: int, random: bool
    ):
        self.pixels = pixels
        self.side = size
        self.pictures = pictures
        self.flip, self.shift, self.random = flip, shift, random
        self.classes: list[str] = []
        turns: dict[str, list[Picture]] = {}
        for picture in pictures:
            turns.setdefault(f"turn {picture.turn}" if random and picture.turn else picture.id, []).append(picture)
        self.turns = list(turns.values())

    def __len__(self) -> int:
        return len(self.turns)

    def size(self, index: int) -> int:
        return self.side

    def groups(self) -> tuple[list[str], list[int]]:
        """Return the classes' names, at the end the empty one, and the number of each item's class among them."""
        names = [*self.classes, ""]
        return names, [len(self.classes) if turn[0].label < 0 else turn[0].label for turn in self.turns]

    def of(self, picture: Picture) -> UInt8[np.ndarray, "3 s s"]:
        """Return a picture's own pixels."""
        if isinstance(self.pixels, Path):  # mapped where it is used: workers get the path
            self.pixels = open_store(self.pixels, self.side)
        return np.array(self.pixels[picture.row])

    def item(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        picture = self.turns[index][0]
        if self.random and len(self.turns[index]) > 1:
            picture = self.turns[index][int(torch.randint(0, len(self.turns[index]), (), generator=generator))]
        image = torch.from_numpy(self.of(picture))
        caption = picture.captions[0] if picture.captions else ""
        if self.random:
            which = int(torch.randint(0, max(len(picture.captions), 1), (), generator=generator))
            caption = picture.captions[which] if picture.captions else ""
            if self.flip and picture.mirrors and bool(torch.randint(0, 2, (), generator=generator)):
                image, caption = image.flip(-1), mirrored(caption)
            if self.shift:
                image = torch.from_numpy(shifted(image.numpy(), self.shift, generator))
        return {"image": image.float() / 127.5 - 1, "label": picture.label, "caption": caption}

    def __getstate__(self) -> dict[str, Any]:
        pixels = self.pixels
        if isinstance(pixels, np.memmap):
            pixels = Path(str(pixels.filename))
        return {**self.__dict__, "pixels": pixels}


def shifted(pixels: UInt8[np.ndarray, "3 s s"], most: int, generator: torch.Generator) -> UInt8[np.ndarray, "3 s s"]:
    """Move an image by up to ``most`` pixels; what comes in at the border is the border's mirror image."""
    top, left = torch.randint(0, 2 * most + 1, (2,), generator=generator).tolist()
    padded = np.pad(pixels, ((0, 0), *[(most, most)] * 2), mode="symmetric")
    side = pixels.shape[-1]
    return padded[:, top : top + side, left : left + side].copy()


class ImageData(DataModule):
    """The base of data for image models.

    Attributes after ``prepare``:
        tested: the pictures of the corpus's own test part, whether or not they are used for validation.
        classes: names of the classes, in the order of their labels.
    """

    def __init__(self, *, size: int, pictures: PictureOptions, batch_size: int, val_size: int, num_workers: int):
        super().__init__(batch_size, num_workers)
        if not 4 <= size <= 4096:
            raise DataError(f"size={size} must be from 4 to 4096 pixels", code="range", path="data.size", value=size)
        if not 0 <= pictures.shift < size:
            raise DataError(
                f"data.pictures.shift={pictures.shift} must be from 0 to below size={size}",
                code="range",
                path="data.pictures.shift",
                value=pictures.shift,
            )
        if val_size < 0:
            raise DataError(
                f"val_size={val_size} must be at least 0", code="range", path="data.val_size", value=val_size
            )
        self.size, self.val_size = size, val_size
        self.options = pictures
        self.background = colour(pictures.background)
        self.classes: list[str] = []
        self.tested: list[Picture] = []

    def settle(
        self, audit: Audit, pixels: np.ndarray | Path, pictures: list[Picture], tested: Sequence[Picture] = ()
    ) -> Audit:
        """Fill the sets from pictures and their rows of pixels, and return the audit.

        ``tested`` are those that the corpus itself keeps for testing; at most ``val_size`` of them, chosen by their
        ids alone, are validated on. Where there are none, ``val_size`` or a few more of ``pictures`` are held out.
        """
        if not pictures:
            first = f"; first: {audit.dropped[0]}" if audit.dropped else ""
            raise DataError(
                f"no usable image to train on; dropped: {audit.reasons}{first}",
                code="empty",
                path="data",
                value=audit.reasons,
            )
        _note_what_lacks(audit, [*pictures, *tested])
        self.tested = list(tested)
        held: list[str] = []
        if self.tested:
            chosen = hold_out({p.id: 1 for p in self.tested}, self.val_size, may_take_all=True)
            val = [picture for picture in self.tested if picture.id in chosen]
            if 0 < len(val) < len(self.tested):
                audit.note(f"{len(self.tested) - len(val)} of {len(self.tested)} test images sit out of validation")
        else:
            pictures, val = split(pictures, self.val_size)
            held = [picture.id for picture in val]
        said = {picture.turn or picture.id: picture.captions[0] for picture in reversed(pictures) if picture.captions}
        words = {word for picture in pictures for caption in picture.captions for word in words_of(caption)}
        samples = sorted(set(said.values()), key=lambda text: derive_seed("sample", text))
        self.facts = ImageFacts(
            size=self.size,
            classes=tuple(self.classes),
            words=tuple(sorted(words)),
            sample_captions=tuple(samples[:NUM_SAMPLES]),
            held_out=tuple(held),
            count=len(pictures),
            background=self.background,
        )
        options = self.options
        self.train_set = PictureSet(pixels, self.size, pictures, options.flip, options.shift, random=True)
        self.train_set.classes = self.classes
        self.val_set = PictureSet(pixels, self.size, val, False, 0, random=False) if val else None
        return self.finish(audit)

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return collate_items(items)


class FileData(ImageData):
    """The base of data that are single files."""

    flat: ClassVar[dict[str, str]] = FLAT

    def __init__(
        self,
        root: str,
        *,
        size: int,
        pictures: PictureOptions,
        batch_size: int,
        val_size: int,
        num_processes: int | None,
        num_workers: int,
    ):
        super().__init__(
            size=size,
            pictures=pictures,
            batch_size=batch_size,
            val_size=val_size,
            num_workers=num_workers,
        )
        self.root = root
        self.num_processes = num_processes

    def folder(self) -> Path:
        """Return the root; raises ``DataError`` where there is nothing."""
        root = Path(self.root).expanduser()
        if not is_folder(root) and (fault := fault_of(root, "check data.root")):
            if fault.reason != "missing":
                raise fault.error()
            raise DataError(
                f"{shown(self.root)}: no such file or folder; check data.root",
                code="missing",
                path="data.root",
                value=str(self.root),
            )
        return root

    def read(self, audit: Audit, files: Sequence[Path], ids: Sequence[str], progress: bool) -> tuple[Path, list[int]]:
        """Pack files; return the store and the indices of those that can be used; the rest are in the audit."""
        path, drops = pack_files(files, self.size, self.options.fit, self.background, self.num_processes, progress)
        kept = []
        for index, (name, drop) in enumerate(zip(ids, drops, strict=True)):
            if drop is None:
                kept.append(index)
            else:
                audit.drop(name, drop.reason, drop.detail)
        return path, kept


class FolderData(FileData):
    """Images in folders, a folder per class, as CIFAR-10 and ImageNet are laid out.

    ``root/{train,test}/{class}/*`` or ``root/{class}/*``; ``val``, ``valid`` and ``validation`` serve as ``test``
    does. Images that lie in no class folder have no class. A class that only the test part has is dropped.

    Args:
        root: the folder.
        size: pixels a side.
        pictures: how they are brought to it, and varied in training: mirrored, unless ``flip`` is false.
        batch_size: images per step over all processes.
        val_size: images to validate on, chosen by their ids alone; of the test part where there is one.
        num_processes: preparing processes; null takes the cores.
        num_workers: loading processes per rank.
    """

    def __init__(
        self,
        root: str,
        *,
        size: int = 32,
        pictures: PictureOptions = PictureOptions(flip=True),  # noqa: B008
        batch_size: int = 128,
        val_size: int = 512,
        num_processes: int | None = None,
        num_workers: int = 0,
    ):
        super().__init__(
            root=root,
            size=size,
            pictures=pictures,
            batch_size=batch_size,
            val_size=val_size,
            num_processes=num_processes,
            num_workers=num_workers,
        )

    def prepare(self, progress: bool = True) -> Audit:
        root = self.folder()
        audit = Audit("pictures")
        walked = walk(root, IMAGE_SUFFIXES)
        walked.tell(audit)
        listed = _parts(root, walked, audit)
        if not listed:
            raise DataError(
                f"{self.root}: holds no image ({', '.join(IMAGE_SUFFIXES)}); check data.root",
                code="empty",
                path="data.root",
                value=str(self.root),
            )
        ids = [file.id for file, _, _ in listed]
        store, kept = self.read(audit, [file.path for file, _, _ in listed], ids, progress)
        self.classes = sorted({listed[i][1] for i in kept if listed[i][1] and not listed[i][2]}, key=natural)
        label = {name: number for number, name in enumerate(self.classes)}
        sides: tuple[list[Picture], list[Picture]] = ([], [])
        for index in kept:
            _, name, tested = listed[index]
            if name and name not in label:
                audit.drop(ids[index], "unknown class", f"{name!r} has no image to train on")
                continue
            audit.keep(ids[index], group=name)
            sides[tested].append(Picture(ids[index], index, label.get(name, -1)))
        return self.settle(audit, store, *sides)


class CaptionData(FileData):
    """Images with captions, from a table of ``image|caption`` or JSON lines.

    Paths are relative to the table's folder; several lines may name one image, whose captions then take turns.

    Args:
        root: the table, or a folder that holds one named captions.csv, captions.jsonl, metadata.csv or so.
        size, batch_size, num_processes, num_workers: as of ``image/folder``.
        pictures: as of ``image/folder``; not mirrored, unless ``flip`` is true.
        val_size: images held out, chosen by their ids alone.
    """

    def __init__(
        self,
        root: str,
        *,
        size: int = 32,
        pictures: PictureOptions = PictureOptions(),  # noqa: B008
        batch_size: int = 128,
        val_size: int = 128,
        num_processes: int | None = None,
        num_workers: int = 0,
    ):
        super().__init__(
            root=root,
            size=size,
            pictures=pictures,
            batch_size=batch_size,
            val_size=val_size,
            num_processes=num_processes,
            num_workers=num_workers,
        )

    def prepare(self, progress: bool = True) -> Audit:
        table = find_captions(self.folder())
        audit = Audit("pictures")
        try:
            captions = read_captions(table, "image", audit)
        except DataError:
            read_captions(table, "image")  # where no line can be used, the first says what is wrong
            raise
        there = Names(table.parent)
        found = {name: there.find(name) or table.parent / name for name in captions}
        ids = list({_whole(path): name for name, path in reversed(found.items())}.values())[::-1]
        if len(ids) < len(
            captions
        ):  # a.png and ./a.png: as two pictures, one could be held out and the other trained on
            first = {_whole(found[name]): name for name in ids}
            merged: dict[str, list[str]] = {}
            for name, own in captions.items():
                merged.setdefault(first[_whole(found[name])], []).extend(own)
            captions = {name: tuple(dict.fromkeys(own)) for name, own in merged.items()}
        files = [found[name] for name in ids]
        store, kept = self.read(audit, files, ids, progress)
        for index in kept:
            audit.keep(ids[index])
        return self.settle(audit, store, [Picture(ids[i], i, captions=captions[ids[i]]) for i in kept])


def split(pictures: list[Picture], val_size: int) -> tuple[list[Picture], list[Picture]]:
    """Return (training, validation), at least ``val_size`` in the latter, whole groups; none for 0.

    Which are held out depends on their groups' names (ids, where there is no group) alone. Raises ``DataError``
    where none would be left to train on.
    """
    if not val_size:
        return pictures, []
    groups: dict[str, list[Picture]] = {}
    for picture in pictures:
        groups.setdefault(picture.group or picture.id, []).append(picture)
    held = hold_out({name: len(group) for name, group in groups.items()}, val_size)
    sides: tuple[list[Picture], list[Picture]] = ([], [])
    for picture in pictures:
        sides[(picture.group or picture.id) in held].append(picture)
    return sides


def _whole(path: Path) -> str:
    """A path as others that lead to the same file have it, links aside."""
    return os.path.normpath(path.absolute())


def _note_what_lacks(audit: Audit, pictures: Sequence[Picture]) -> None:
    """Say how many pictures have no class or no caption, where it is not all of them by design."""
    bare = sum(picture.label < 0 for picture in pictures), sum(not picture.captions for picture in pictures)
    for what, count in zip(("class", "caption"), bare, strict=True):
        if 0 < count < len(pictures):
            audit.note(f"{count} of {len(pictures)} pictures have no {what}")
    if min(bare) == len(pictures):
        audit.note(f"none of {len(pictures)} pictures has a class or a caption: a model of them takes no request")


def _named(folders: Sequence[str], names: Sequence[str]) -> str | None:
    """The folder of the first of some names that there is, in any case; the one written so, where there are two."""
    found = [folder for name in names for folder in (name, *folders) if folder in folders and folder.lower() == name]
    return found[0] if found else None


def _parts(root: Path, walked: Walk, audit: Audit) -> list[tuple[Found, str, bool]]:
    """Return the images of the training and of the test part with their classes; note what was not read."""
    tops = sorted({file.parts[0] for file in walked.files if len(file.parts) > 1})
    train = _named(tops, TRAIN_FOLDERS)
    test = _named(tops, TEST_FOLDERS) if train else None
    listed: list[tuple[Found, str, bool]] = []
    for part in (train, test) if train else (None,):
        if part is None and train:
            continue
        inside = [file for file in walked.files if part is None or file.parts[0] == part]
        depth = 0 if part is None else 1
        listed += [
            (file, file.parts[depth] if len(file.parts) > depth + 1 else "", part is not None and part == test)
            for file in inside
        ]
        others = [id for id in walked.others if part is None or id.startswith(f"{part}/")]
        if others:
            where = part or root.name
            audit.note(f"{len(others)} files below {where} are no images by their names and were not read")
    if train and (outside := len(walked.files) - len(listed)):
        read = " and ".join(filter(None, (train, test)))
        audit.note(f"{outside} images lie outside of {read} and were not read")
    return listed
