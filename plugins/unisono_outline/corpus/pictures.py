"""Pictures: those of ``unisono.media.read_image``, brought to the square that a model sees.

A picture is scaled so that all of it fits, and centred on white: outlines are found in it whole, and lead back to the
file's own pixels by ``Fitted``.

Shapes: h w pixels, s of a side of the square.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from unisono.data import Drop
from unisono.files import shown
from unisono.media import read_image

from unisono_outline.geometry.polygon import Vertices

MIN_SIDE = 4


@dataclass(frozen=True, eq=False)
class Fitted:
    """A picture in a square: ``picture`` uint8 [3, s, s], and how places in it lead back to the file's pixels."""

    picture: UInt8[np.ndarray, "3 s s"]
    scale: tuple[float, float]
    corner: tuple[int, int]

    def to_square(self, vertices: Vertices) -> Vertices:
        """Return places in the file's pixels as places in the square, in sides."""
        return (np.asarray(vertices) * self.scale + self.corner) / self.picture.shape[1]

    def to_file(self, vertices: Vertices) -> Vertices:
        """Return places in the square, in sides, as places in the file's pixels."""
        return (np.asarray(vertices) * self.picture.shape[1] - self.corner) / self.scale


def read_picture(path: str | Path) -> UInt8[np.ndarray, "3 h w"]:
    """Read an image file over white; raises ``Drop`` as ``unisono.media.read_image`` does, and for a side too small."""
    pixels = read_image(path)
    if min(pixels.shape[1:]) < MIN_SIDE:
        sides = f"{pixels.shape[2]} × {pixels.shape[1]}"
        raise Drop("too small", f"{shown(path)} has {sides} pixels, at least {MIN_SIDE} a side are needed")
    return pixels


def fitted(picture: UInt8[np.ndarray, "3 h w"], size: int) -> Fitted:
    """Bring a picture to a square, whole, by Pillow's antialiased bicubic filter; the rest of the square is white."""
    height, width = picture.shape[1:]
    if (height, width) == (size, size):
        return Fitted(picture, (1.0, 1.0), (0, 0))
    from PIL import Image

    longer = max(height, width)
    sides = max(1, round(size * width / longer)), max(1, round(size * height / longer))
    image = Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0)))
    corner = (size - sides[0]) // 2, (size - sides[1]) // 2
    square = Image.new("RGB", (size, size), (255, 255, 255))
    square.paste(image.resize(sides, Image.Resampling.BICUBIC), corner)
    pixels = np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))
    return Fitted(pixels, (sides[0] / width, sides[1] / height), corner)
