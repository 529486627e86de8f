"""Emoji: sprites with exact outlines, from a folder of transparent images whose names are code points, as Noto's are.

The outline is the line at which the alpha channel is one half. A thing whose outline is not one closed line (holes,
parts apart from one another) has no outline that a model of one polygon could learn, and is listed as dropped.
"""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from einops import rearrange
from jaxtyping import Float, UInt8
from unisono.data import Audit, Drop, words_of
from unisono.errors import DataError, MissingExtra
from unisono.files import walk
from unisono.media import read_rgba

from unisono_outline.geometry.polygon import Vertices, signed_area
from unisono_outline.geometry.raster import mask_of

NAME = re.compile(r"(?:emoji_u)?([0-9a-f]{4,6})")
ALIKE = 0.95
"""Share of what is opaque that one outline must hold, and of the outline that must be opaque."""


@dataclass(frozen=True, eq=False)
class Sprite:
    """An emoji: uint8 [h, w, 4], its name, and its outline in pixels of the sprite."""

    pixels: UInt8[np.ndarray, "h w 4"]
    name: str
    outline: Vertices

    def paste(
        self, picture: Float[np.ndarray, "3 s s"], middle: tuple[float, float], radius: float
    ) -> tuple[Vertices, tuple[float, float]]:
        """Lay it over a picture, in a circle in sides; return its outline and the middle of it, in sides."""
        from PIL import Image

        size = picture.shape[1]
        low, high = self.outline.min(axis=0), self.outline.max(axis=0)
        reach = np.linalg.norm(self.outline - (low + high) / 2, axis=1).max()
        height, width = self.pixels.shape[:2]
        shown = (max(1, round(width * radius * size / reach)), max(1, round(height * radius * size / reach)))
        scale = np.array(shown) / (width, height)
        corner = np.round(np.asarray(middle) * size - (low + high) / 2 * scale).astype(int)
        small = np.asarray(Image.fromarray(self.pixels).resize(shown, Image.Resampling.BOX), np.float64)
        top, left = max(corner[1], 0), max(corner[0], 0)
        part = small[top - corner[1] : size - corner[1], left - corner[0] : size - corner[0]].transpose(2, 0, 1)
        rows, columns = slice(top, top + part.shape[1]), slice(left, left + part.shape[2])
        picture[:, rows, columns] += part[3] / 255 * (part[:3] - picture[:, rows, columns])
        outline = (self.outline * scale + corner) / size
        place = (outline.min(axis=0) + outline.max(axis=0)) / 2
        return outline, (float(place[0]), float(place[1]))


def read_emoji(root: str | Path, audit: Audit) -> tuple[Sprite, ...]:
    """Return the emoji of a folder that have a name and one outline; the rest is listed in the audit.

    Raises ``DataError`` where there is none.
    """
    walked = walk(Path(root).expanduser(), (".png",))
    walked.tell(audit)
    found: dict[str, Sprite] = {}
    for file in walked.files:
        match = NAME.fullmatch(file.path.stem.lower())
        name = unicodedata.name(chr(int(match[1], 16)), "") if match and int(match[1], 16) < 0x110000 else ""
        if not words_of(name):
            audit.drop(file.id, "no name", "its file name is not that of one code point which Unicode names")
            continue
        name = " ".join(words_of(name))
        if name in found:
            audit.drop(file.id, "second file", f"another file is {name!r} too")
            continue
        try:
            pixels = rearrange(read_rgba(file.path), "c h w -> h w c")
            found[name] = Sprite(pixels, name, contour_of(pixels[..., 3]))
        except Drop as drop:
            audit.drop(file.id, drop.reason, str(drop))
    if not found:
        message = f"{root}: holds no emoji that can be used; dropped: {audit.reasons}; check data.emoji"
        raise DataError(message, code="empty", path="data.emoji", value=str(root))
    return tuple(found.values())


def contour_of(alpha: UInt8[np.ndarray, "h w"]) -> Vertices:
    """Return the outline of what is opaque, in pixels; raises ``Drop`` where it is not one closed line."""
    try:
        from contourpy import contour_generator
    except ImportError:  # comes with matplotlib
        raise MissingExtra("contourpy", "outline") from None
    padded = np.pad(alpha.astype(np.float64) / 255, 1)
    middles = [np.arange(length) - 0.5 for length in padded.shape]
    lines = contour_generator(x=middles[1], y=middles[0], z=padded).lines(0.5)
    outlines = [np.asarray(line)[:-1] for line in lines if len(line) > 3]
    if not outlines:
        raise Drop("transparent", "nothing of it is opaque")
    outline = max(outlines, key=lambda points: abs(signed_area(points)))
    inside, opaque = mask_of(outline, *alpha.shape), alpha >= 128
    if (inside & opaque).sum() < ALIKE * max(inside.sum(), opaque.sum()):
        raise Drop("several parts", "its outline is not one closed line: it has holes or parts apart from one another")
    return outline
