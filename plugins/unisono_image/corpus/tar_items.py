"""Tar items: which members of a WebDataset shard make up one item, whatever dots stand in their names.

WebDataset cuts a member's name at its first dot: ``dog.txt`` and ``dog.png`` are parts of ``dog``. Names of cameras
have dots of their own (``IMG_2024.05.00.png``), and items may have several pictures (``0.png`` with its mask
``0.seg.png``). So members are put together over the whole shard, in any order:

- a picture's texts are those of its own name (all but the suffix, in composed form), else those of the name before
  one of its dots, where only one picture could be meant: ``s0.input.png`` has the caption of ``s0.txt``
- a picture without texts of its own whose name begins with another picture's is that one's mask or the like, and is
  not an item
- a picture that is called a mask or the like (``MASKS``) beside one that is not (``s0.rgb.png`` and ``s0.seg.png``) is
  that one's, with a text or without
- pictures that could equally be meant by one text are no items: nothing says which is the picture

Names are compared composed (é is one letter), since two programs may have written them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from unisono.data import Drop
from unisono.files import composed

from unisono_image.corpus.files import IMAGE_SUFFIXES

TEXT_SUFFIXES = (".txt", ".caption", ".json", ".cls")
MASKS = {"alpha", "depth", "edge", "edges", "label", "labels", "mask", "matte", "normal", "normals", "seg"}
MASKS |= {"segmentation", "semantic", "instance", "disparity", "canny"}
"""What pictures are called that belong to another one of the same name and are not to be learnt from."""


@dataclass
class Item:
    """One item: its name, the member that is its picture, and its texts by suffix."""

    name: str
    image: str
    texts: dict[str, str] = field(default_factory=dict)


def items_of(names: Iterable[str]) -> Iterator[Item | tuple[str, Drop]]:
    """Yield the items that members make up, in the order of their pictures; then what is no part of one, and why."""
    images: dict[str, str] = {}  # by name without suffix
    texts: dict[str, dict[str, str]] = {}
    others: list[tuple[str, Drop]] = []
    unread: dict[str, list[str]] = {}
    for name in names:
        suffix = PurePosixPath(name).suffix.lower()
        stem = composed(name[: len(name) - len(suffix)])
        if suffix in IMAGE_SUFFIXES:
            if stem in images:
                others.append((name, Drop("another picture", f"the picture of its item is {images[stem]}")))
            else:
                images[stem] = name
        elif suffix in TEXT_SUFFIXES:
            texts.setdefault(stem, {}).setdefault(suffix, name)
        else:
            unread.setdefault(_first(name), []).append(name)
    shared: dict[str, list[str]] = {}
    masks: dict[str, str] = {}
    pictures = {}  # the first that is no mask, by the name before its last dot
    for stem in images:
        name, dot, part = stem.rpartition(".")
        if dot and part.lower() not in MASKS:
            pictures.setdefault(name, stem)
    for stem in images:
        if stem in texts:
            continue
        before = list(_before(stem))
        whole = next((other for other in before if other in images), None) or _masked(stem, pictures)
        if whole is not None:
            masks[stem] = whole
            continue
        owner = next((other for other in before if other in texts), None)
        if owner is not None:
            shared.setdefault(owner, []).append(stem)
    owners = {stems[0]: owner for owner, stems in shared.items() if len(stems) == 1}
    unclear = {stem: owner for owner, stems in shared.items() if len(stems) > 1 for stem in stems}
    used = set(owners.values()) | images.keys()
    for stem, image in images.items():
        if stem in masks:
            others.append((image, Drop("another picture", f"the picture of its item is {images[masks[stem]]}")))
        elif stem in unclear:
            count = len(shared[unclear[stem]])
            others.append((image, Drop("several pictures", f"{unclear[stem]} has {count}, and none has its name")))
        else:
            owner = owners.get(stem, stem)
            yield Item(owner, image, texts.get(owner, {}))
    for owner, stems in shared.items():
        if len(stems) > 1:
            used.add(owner)
    for stem, parts in texts.items():
        if stem not in used:
            others.append((stem, Drop("no image", f"it has the parts {', '.join(sorted(parts))}")))
    known = {_first(stem) for stem in [*images, *texts]}
    others += [
        (key, Drop("no image", f"it has the parts {', '.join(PurePosixPath(name).name for name in parts[:5])}"))
        for key, parts in unread.items()
        if key not in known
    ]
    yield from others


def _masked(stem: str, pictures: Mapping[str, str]) -> str | None:
    """The picture that a mask is of, where its own name says that it is one."""
    name, _, part = stem.rpartition(".")
    return pictures.get(name) if part.lower() in MASKS else None


def _before(stem: str) -> Iterator[str]:
    """The beginnings of a name that end before one of its dots, the longest first."""
    folder, slash, name = stem.rpartition("/")
    while "." in name.lstrip("."):
        name = name.rpartition(".")[0]
        yield f"{folder}{slash}{name}"


def _first(name: str) -> str:
    """A name up to its first dot, as WebDataset cuts it."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition('.')[0]}"
