"""Pictures: image files as 8-bit pixels with alpha, laid on white, and brought to the square that a model sees.

A picture is scaled so that all of it fits, and centred on white: outlines are found in it whole, and lead back to the
file's own pixels by ``Fitted``. Only regular files are read; of an animation the first frame; a camera's orientation
is applied. What has another range than 8 bits is refused, since it is not known.

Shapes: h w pixels, s of a side of the square.
"""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from unisono.data import Drop
from unisono.errors import MissingExtra
from unisono.files import fault_of, shown

from unisono_outline.geometry.polygon import Vertices

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
MAX_PIXELS = 100_000_000
MAX_BYTES = 2**28
MIN_SIDE = 4
REFUSED_FORMATS = ("EPS", "WMF")
"""Formats that Pillow hands to another program or to the system."""


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


def read_picture(path: str | Path) -> UInt8[np.ndarray, "h w 4"]:
    """Read an image file as red, green, blue and alpha.

    Raises ``Drop``, whose reason is one of ``missing``, ``not a file``, ``empty file``, ``truncated``,
    ``unreadable``, ``too large``, ``too small`` and ``unknown range``.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise MissingExtra("pillow", "outline") from None
    path = Path(path)
    if fault := fault_of(path):
        raise Drop(fault.reason, f"{shown(path)}: {fault.detail}")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Drop("too large", f"{shown(path)} has {path.stat().st_size} bytes of at most {MAX_BYTES}")
        data = path.read_bytes()
    except OSError as error:
        raise Drop("unreadable", f"{shown(path)}: {error.strerror or error}") from None
    if not data:
        raise Drop("empty file", f"{shown(path)} has no bytes")
    Image.init()
    formats = tuple(name for name in Image.ID if name not in REFUSED_FORMATS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow says of odd tags; size is judged here
            with Image.open(io.BytesIO(data), formats=formats) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Drop("too large", f"{shown(path)} has more than {MAX_PIXELS:.0e} pixels")
                if min(image.size) < MIN_SIDE:
                    sides = f"{image.width} × {image.height}"
                    raise Drop("too small", f"{shown(path)} has {sides} pixels, at least {MIN_SIDE} a side are needed")
                if image.mode.startswith(("I", "F")):
                    raise Drop("unknown range", f"{shown(path)} holds numbers of more than 8 bits: save it with 8")
                image.load()
                return np.array(ImageOps.exif_transpose(image).convert("RGBA"))
    except Drop:
        raise
    except Image.UnidentifiedImageError:
        raise Drop("unreadable", f"{shown(path)}: no format of images that is known, or a damaged header") from None
    except Image.DecompressionBombError:
        raise Drop("too large", f"{shown(path)} has more than {MAX_PIXELS:.0e} pixels") from None
    except Exception as error:  # decoders of broken files raise whatever comes: OSError, SyntaxError, struct.error …
        reason = "truncated" if "truncated" in str(error).lower() else "unreadable"
        raise Drop(reason, f"{shown(path)}: {str(error) or type(error).__name__}") from None


def on_white(pixels: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "3 h w"]:
    """Return pixels with alpha laid on white."""
    alpha = pixels[..., 3:].astype(np.float64) / 255
    flat = pixels[..., :3] * alpha + 255 * (1 - alpha)
    return np.ascontiguousarray(flat.round().astype(np.uint8).transpose(2, 0, 1))


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
