"""Streamed pictures: images of shards or tables, with captions and classes, read when they are needed.

A row of a shard has an image, and perhaps ``.txt`` or ``.caption``, ``.cls``, and ``.json`` with ``caption`` or
``text`` (one or a list) and ``label`` or ``class``; a row of a table the columns ``image``, ``caption`` or ``text``,
and ``label``. Unlike ``image/shards`` nothing is packed: pictures are decoded each time they are seen.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from unisono.data import Audit, derive_seed, mirrored, words_of
from unisono.data.stream import Examined, Part, Row, StreamData, StreamOptions
from unisono.errors import DataError

from unisono_image.corpus.classes import said_by
from unisono_image.corpus.data import shifted
from unisono_image.corpus.facts import ImageFacts
from unisono_image.corpus.files import IMAGE_SUFFIXES, Fit, colour, fitted, read_image
from unisono_image.corpus.options import PictureOptions

IMAGE = Part("image", IMAGE_SUFFIXES, ("image", "img", "jpg", "jpeg", "png", "webp"))
CAPTION = Part("caption", (".txt", ".caption"), ("caption", "text"), needed=False)
CLASS = Part("class", (".cls",), ("label", "cls", "class"), needed=False)
FACTS = Part("facts", (".json",), (), needed=False)
NUM_SAMPLES = 8


class PictureStream(StreamData):
    """Pictures of a stream, with captions and classes where they have them.

    Args:
        root, stream, val_size, batch_size, num_workers: as of every ``StreamData``.
        size, pictures: as of ``image/captions``; words are those of the captions that are measured.
    """

    parts: ClassVar[tuple[Part, ...]] = (IMAGE, CAPTION, CLASS, FACTS)
    items = "pictures"

    def __init__(
        self,
        root: str,
        *,
        size: int = 32,
        pictures: PictureOptions = PictureOptions(),  # noqa: B008
        stream: StreamOptions = StreamOptions(),  # noqa: B008
        val_size: int = 128,
        batch_size: int = 128,
        num_workers: int = 0,
    ):
        super().__init__(root, stream=stream, val_size=val_size, batch_size=batch_size, num_workers=num_workers)
        for name, value, low, high in (("size", size, 4, 4096), ("pictures.shift", pictures.shift, 0, size - 1)):
            if not low <= value <= high:
                raise DataError(
                    f"data.{name}={value} must be from {low} to {high}", code="range", path=f"data.{name}", value=value
                )
        self.size, self.pictures = size, pictures
        self.background = colour(pictures.background)

    def version(self) -> str:
        return f"1 {self.size} {self.pictures.fit} {self.background}"

    def examine(self, row: Row) -> Examined:
        fitted(read_image(row.parts["image"], self.background), self.size, self.pictures.fit, self.background)
        captions, label = said_of(row)
        return Examined(self.size, group="" if label is None else str(label), same="\n".join(captions[:1]))

    def maker(self, random: bool) -> "Show":
        assert self.index is not None
        flip, shift = (self.pictures.flip, self.pictures.shift) if random else (False, 0)
        return Show(self.size, self.pictures.fit, self.background, flip, shift, random, self._classes())

    def _classes(self) -> tuple[str, ...]:
        """Names of the classes: numbers keep their meaning, names are sorted."""
        assert self.index is not None
        names = {name for name in self.index.groups if name}
        if names and all(name.isdecimal() for name in names):
            return tuple(str(number) for number in range(max(map(int, names)) + 1))
        if any(name.isdecimal() for name in names):
            raise DataError(
                f"{self.root!r:.200}: some classes are names, some numbers: use one kind",
                code="conflict",
                path="data.root",
            )
        return tuple(sorted(names))

    def settle(self, audit: Audit) -> None:
        assert self.index is not None
        captions = [caption for row in self.sample() for caption in said_of(row)[0]]
        if self.num_measured < len(self.train_set) and captions:
            audit.note(f"words are those of the captions of {self.num_measured} of {len(self.train_set)} pictures")
        held = [self.index.id(int(row)) for row in self.val_set.rows] if self.val_set else []
        samples = sorted(set(captions), key=lambda text: derive_seed("sample", text))
        self.facts = ImageFacts(
            size=self.size,
            classes=self._classes(),
            words=tuple(sorted({word for caption in captions for word in words_of(caption)})),
            sample_captions=tuple(samples[:NUM_SAMPLES]),
            held_out=tuple(held),
            count=len(self.train_set),
            background=self.background,
        )


@dataclass(frozen=True)
class Show:
    """Makes an item of a row, as ``PictureSet`` has it."""

    size: int
    fit: Fit
    background: tuple[int, int, int]
    flip: bool
    shift: int
    random: bool
    classes: tuple[str, ...]

    def __call__(self, row: Row, generator: torch.Generator) -> dict[str, Any]:
        captions, label = said_of(row)
        pixels = fitted(read_image(row.parts["image"], self.background), self.size, self.fit, self.background)
        caption = captions[0] if captions else ""
        if self.random and captions:
            caption = captions[int(torch.randint(0, len(captions), (), generator=generator))]
        if self.flip and bool(torch.randint(0, 2, (), generator=generator)):
            pixels, caption = np.ascontiguousarray(pixels[..., ::-1]), mirrored(caption)
        if self.shift:
            pixels = shifted(pixels, self.shift, generator)
        number = -1 if label is None else self.classes.index(str(label))
        return {"image": torch.from_numpy(pixels).float() / 127.5 - 1, "label": number, "caption": caption}


def said_of(row: Row) -> tuple[list[str], str | int | None]:
    """Return a row's captions and its class, None where it has none; raises ``Drop``."""
    captions = [row.text("caption")] if "caption" in row.parts else []
    label = row.text("class") if "class" in row.parts else ""
    return said_by(captions, label, row.json("facts") if "facts" in row.parts else {})
