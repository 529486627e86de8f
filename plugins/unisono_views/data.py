"""Object data: objects made on the spot with their degraded twins, seen by the same cameras.

Batches: ``views`` and ``coarse`` uint8 [b, v, 3, s, s], ``caption`` a list of texts, ``row`` int64 [b]. An object is a
pure function of its number and the data's seed, whatever the run's; what is rendered once is cached by these.

Shapes: b batch, v views, s pixels a side, n objects.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import UInt8
from rich.console import Console
from rich.progress import track
from torch import Tensor
from unisono.data import (
    Audit,
    CacheError,
    DataModule,
    cache_root,
    collate_items,
    hold_out,
    read_entry,
    words_of,
    write_entry,
)
from unisono.errors import DataError

from unisono_views.cameras import Cameras
from unisono_views.facts import MOST_PIXELS, ViewFacts
from unisono_views.render import SAMPLES, averaged, lit
from unisono_views.shapes import COLOURS, SHAPES, make_shape
from unisono_views.voxels import NOISE, RESOLUTION, render_voxels, voxelised

VERSION = "1"
"""Of what is rendered; changes with it."""
NUM_SAMPLES = 4


class ViewSet:
    """Items of pairs of view sets; a share of the degraded ones, drawn for each item, comes without colour."""

    def __init__(
        self,
        views: UInt8[Tensor, "n v 3 s s"],
        coarse: UInt8[Tensor, "n v 3 s s"],
        captions: Sequence[str],
        grey_share: float,
    ):
        self.views, self.coarse, self.captions, self.grey_share = views, coarse, captions, grey_share

    def __len__(self) -> int:
        return len(self.views)

    def size(self, index: int) -> int:
        return self.views.shape[-1]

    def item(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        coarse = self.coarse[index]
        if float(torch.rand((), generator=generator)) < self.grey_share and self.captions[index]:
            coarse = grey(coarse)
        return {"views": self.views[index], "coarse": coarse, "caption": self.captions[index]}


class ViewData(DataModule):
    """The base of data of views: checks, split and facts.

    Args:
        size: pixels a side.
        grey_share: of the training items whose degraded views come in grey, so that the caption alone says the colours.
        batch_size: objects per step over all processes.
        val_size: objects held out.
        num_workers: loading processes per rank.
    """

    def __init__(self, *, size: int, grey_share: float, batch_size: int, val_size: int, num_workers: int):
        super().__init__(batch_size, num_workers)
        checks = (
            ("size", size, 1 <= size <= MOST_PIXELS, f"from 1 to {MOST_PIXELS}"),
            ("val_size", val_size, val_size >= 0, "at least 0"),
            ("grey_share", grey_share, 0 <= grey_share <= 1, "in [0, 1]"),
        )
        for name, value, right, limit in checks:
            if not right:
                raise DataError(f"data.{name}={value} must be {limit}", code="range", path=f"data.{name}", value=value)
        self.pixels, self.grey_share, self.val_size = size, grey_share, val_size

    def settle(
        self,
        audit: Audit,
        ids: Sequence[str],
        views: UInt8[Tensor, "n v 3 s s"],
        coarse: UInt8[Tensor, "n v 3 s s"],
        captions: Sequence[str],
        cameras: Cameras,
    ) -> Audit:
        """Split the objects, fill the sets and the facts, and return the audit."""
        held = hold_out(dict.fromkeys(ids, 1), self.val_size)
        train = [place for place, id in enumerate(ids) if id not in held]
        words = tuple(sorted({word for place in train for word in words_of(captions[place])}))
        val: list[int] = []
        for place, id in enumerate(ids):
            if id not in held:
                continue
            unknown = [word for word in words_of(captions[place]) if word not in words]
            if unknown:  # facts are those of the training part
                audit.drop(id, "unknown word", f"{unknown[0]!r} is in no caption of the training part")
            else:
                val.append(place)
        shown = [captions[place] for place in (val or train) if captions[place]]
        self.facts = ViewFacts(
            size=self.pixels,
            cameras=cameras,
            words=words,
            sample_captions=tuple(dict.fromkeys(shown))[:NUM_SAMPLES],
            held_out=tuple(ids[place] for place in val),
            count=len(train),
        )
        parts = [(train, self.grey_share), (val, 0.0)]
        self.train_set, val_set = (
            ViewSet(views[rows], coarse[rows], [captions[row] for row in rows], share) for rows, share in parts
        )
        self.val_set = val_set if val else None
        return self.finish(audit)

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return collate_items(items)


class ObjectData(ViewData):
    """Objects of a few primitives, made and rendered on the spot; see this module.

    Args:
        num_items: objects to train on.
        seed_of_objects: another seed makes other objects.
        size: pixels a side.
        resolution: cubes a side of the degraded twin.
        noise: standard deviation of the cubes' colours.
        grey_share, batch_size, val_size, num_workers: as of `ViewData`.
    """

    def __init__(
        self,
        *,
        num_items: int = 2000,
        seed_of_objects: int = 0,
        size: int = 32,
        resolution: int = RESOLUTION,
        noise: float = NOISE,
        grey_share: float = 0.15,
        batch_size: int = 16,
        val_size: int = 48,
        num_workers: int = 0,
    ):
        super().__init__(
            size=size, grey_share=grey_share, batch_size=batch_size, val_size=val_size, num_workers=num_workers
        )
        checks = (
            ("num_items", num_items, num_items >= 1, "at least 1"),
            ("resolution", resolution, 2 <= resolution <= 128, "from 2 to 128"),
            ("noise", noise, 0 <= noise <= 1, "in [0, 1]"),
        )
        for name, value, right, limit in checks:
            if not right:
                raise DataError(f"data.{name}={value} must be {limit}", code="range", path=f"data.{name}", value=value)
        self.num_items, self.seed_of_objects = num_items, seed_of_objects
        self.resolution, self.noise = resolution, noise

    def prepare(self, progress: bool = True) -> Audit:
        audit = Audit("objects")
        numbers = range(self.num_items + self.val_size)
        shapes = [make_shape(number, self.seed_of_objects) for number in numbers]
        for number, shape in zip(numbers, shapes, strict=True):
            audit.keep(f"object-{number}", group=f"{len(shape.parts)} parts")
        try:
            views, coarse = self._rendered(progress)
        except CacheError as error:
            audit.note(str(error))
            views, coarse = self._render(progress)
        captions = [shape.caption for shape in shapes]
        return self.settle(audit, [f"object-{number}" for number in numbers], views, coarse, captions, Cameras())

    def _rendered(self, progress: bool) -> tuple[Tensor, Tensor]:
        """The pairs, from the cache where it has them."""
        told = {
            "version": VERSION,
            "objects": self.num_items + self.val_size,
            "seed": self.seed_of_objects,
            "size": self.pixels,
            "resolution": self.resolution,
            "noise": self.noise,
            "samples": SAMPLES,
            "colours": COLOURS,
            "shapes": SHAPES,
        }
        name = hashlib.blake2b(json.dumps(told).encode(), digest_size=20).hexdigest()
        path = cache_root() / "views" / f"{name}.safetensors"
        entry = read_entry(path)
        if entry is None:
            views, coarse = self._render(progress)
            write_entry(path, {"views": views, "coarse": coarse})
            return views, coarse
        return entry[0]["views"], entry[0]["coarse"]

    def _render(self, progress: bool) -> tuple[Tensor, Tensor]:
        """The pairs, rendered."""
        numbers = range(self.num_items + self.val_size)
        made = [
            make_pair(number, self.seed_of_objects, self.pixels, self.resolution, self.noise)
            for number in track(numbers, "objects", console=Console(stderr=True), disable=not progress)
        ]
        views, coarse = (torch.stack(part) for part in zip(*made, strict=True))
        return views, coarse


def make_pair(
    number: int,
    seed: int = 0,
    size: int = 32,
    resolution: int = RESOLUTION,
    noise: float = NOISE,
    cameras: Cameras | None = None,
) -> tuple[UInt8[Tensor, "v 3 s s"], UInt8[Tensor, "v 3 s s"]]:
    """Return the views of the object of a number, and those of its degraded twin."""
    shape, cameras = make_shape(number, seed), cameras or Cameras()
    origins, directions = cameras.rays(SAMPLES * size)
    views = averaged(lit(shape, origins, directions.float()), SAMPLES)
    coarse = render_voxels(voxelised(shape, number, seed, resolution, noise), cameras, size)
    return _bytes(views), _bytes(coarse)


def grey(pictures: UInt8[Tensor, "... 3 s s"]) -> UInt8[Tensor, "... 3 s s"]:
    """Return pictures without colour: each pixel's brightness (ITU-R BT.601), three times."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=pictures.device)
    luma = (pictures.float() * weights[:, None, None]).sum(-3, keepdim=True).round().to(torch.uint8)
    return luma.expand_as(pictures).contiguous()


def _bytes(pictures: Tensor) -> UInt8[Tensor, "v 3 s s"]:
    return (pictures * 255).round().to(torch.uint8)
