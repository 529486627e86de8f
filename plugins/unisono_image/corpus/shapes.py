"""Shapes: coloured shapes with classes and captions, made on the spot for tests and tiny recipes."""

import numpy as np
from jaxtyping import UInt8
from unisono.data import Audit, derive_seed

from unisono_image.corpus.data import ImageData, Picture
from unisono_image.corpus.options import PictureOptions

SHAPES = ("circle", "square", "stripe", "cross")
COLOURS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (40, 70, 220), "yellow": (230, 200, 40)}


def make_shape(number: int, size: int = 16) -> tuple[UInt8[np.ndarray, "3 s s"], int, str]:
    """Return the image of a number, its class and its caption: a shape of some colour, size and place on white."""
    shape = number % len(SHAPES)
    draws = np.random.default_rng(derive_seed("shape", number)).random(4)
    name = list(COLOURS)[int(draws[0] * len(COLOURS))]
    radius = size * (0.2 + 0.15 * draws[1])
    x, y = (size / 2 + (size / 2 - radius) * (2 * draw - 1) * 0.6 for draw in draws[2:])
    down, right = np.mgrid[:size, :size] + 0.5
    across, along = np.abs(right - x), np.abs(down - y)
    inside = (
        np.hypot(across, along) < radius,
        np.maximum(across, along) < radius,
        (across < radius / 3) & (along < 2 * radius),
        (np.minimum(across, along) < radius / 3) & (np.maximum(across, along) < radius),
    )[shape]
    image = np.where(inside, np.array(COLOURS[name], np.uint8)[:, None, None], np.uint8(255))
    return image.astype(np.uint8), shape, f"a {name} {SHAPES[shape]}"


class ShapeData(ImageData):
    """Shapes with captions, items as of ``image/folder``.

    Args:
        num_items: shapes to train on.
        size: pixels a side.
        flip, shift, batch_size, val_size, num_workers: as of ``image/folder``.
    """

    def __init__(
        self,
        *,
        num_items: int = 32,
        size: int = 16,
        flip: bool = False,
        shift: int = 0,
        batch_size: int = 8,
        val_size: int = 4,
        num_workers: int = 0,
    ):
        super().__init__(
            size=size,
            pictures=PictureOptions(fit="exact", flip=flip, shift=shift),
            batch_size=batch_size,
            val_size=val_size,
            num_workers=num_workers,
        )
        self.num_items = num_items

    def prepare(self, progress: bool = True) -> Audit:
        audit = Audit("pictures")
        self.classes = list(SHAPES)
        images, pictures = [], []
        for number in range(self.num_items + self.val_size):
            image, shape, caption = make_shape(number, self.size)
            images.append(image)
            pictures.append(Picture(f"shape-{number}", number, shape, (caption,)))
            audit.keep(pictures[-1].id, group=SHAPES[shape])
        return self.settle(audit, np.stack(images), pictures[: self.num_items], pictures[self.num_items :])
