"""Pictures: files as pixels; any mode that Pillow reads, brought to 8-bit RGB.

What is done to which file, so that nothing happens in silence:

- transparency (alpha channel, transparent palette entry or colour) is laid over a stated background
- palette, grey, two-level and CMYK images become RGB; 16-bit grey is *scaled* to 8 bits (Pillow alone would clip it)
- a camera's orientation tag is applied; of an animation, the first frame is taken
- floating-point and 32-bit images are refused, since their range is not known (NaN among it)
- only regular files are read, and no format that Pillow hands to another program (EPS)

Shapes: h, w height and width in pixels; images are uint8 [3, h, w].
"""

import functools
import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange, repeat
from jaxtyping import UInt8

from unisono.data.audit import Drop
from unisono.errors import Code, DataError, MissingExtra
from unisono.files import fault_of, shown
from unisono.files.fault import CODES

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
MAX_PIXELS = 100_000_000
MAX_BYTES = 2**30
REFUSED_FORMATS = ("EPS", "WMF")
"""Formats that Pillow does not read itself but hands to another program or to the system."""


def colour(name: str) -> tuple[int, int, int]:
    """Return a colour's red, green and blue, 0 to 255, from a name or ``#rrggbb``; raises ``DataError``."""
    from PIL import ImageColor

    try:
        return ImageColor.getrgb(name)[:3]
    except ValueError:
        raise DataError(
            f"data.pictures.background={name!r} is no colour: give a name such as 'white', or '#rrggbb'",
            code="value",
            path="data.pictures.background",
            value=name,
        ) from None


def code_of(drop: Drop) -> Code:
    """Return the errors' code of why a picture cannot be used."""
    return CODES.get(drop.reason, "range" if drop.reason in ("too small", "other size") else "format")


def read_image(
    source: str | Path | bytes, background: tuple[int, int, int] = (255, 255, 255)
) -> UInt8[np.ndarray, "3 h w"]:
    """Read an image file (or its bytes) as 8-bit RGB over a background.

    Raises ``Drop``, whose reason is one of ``missing``, ``not a file``, ``empty file``, ``truncated``,
    ``unreadable``, ``too large`` and ``unknown range``; its text is a sentence to show to a user. Whatever Pillow
    raises is one of them.
    """
    return _read(source, lambda image, name: _rgb(image, name, background))


def read_rgba(source: str | Path | bytes) -> UInt8[np.ndarray, "4 h w"]:
    """Read an image file (or its bytes) as 8-bit RGB and how opaque each pixel is. Raises as ``read_image`` does."""
    return _read(source, _rgba)


def _read(source: str | Path | bytes, pixels_of: Callable[[Any, str], UInt8[np.ndarray, "c h w"]]) -> Any:
    """Return what is made of the image that Pillow opens, and its name."""
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtra("pillow", "image") from None
    name = "the image" if isinstance(source, bytes) else shown(source)
    data = source if isinstance(source, bytes) else _bytes_of(Path(source))
    if not data:
        raise Drop("empty file", f"{name} has no bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow says of odd tags; size is judged here
            with Image.open(io.BytesIO(data), formats=_formats()) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Drop(
                        "too large", f"{name} has {image.width} × {image.height} pixels of at most {MAX_PIXELS:.0e}"
                    )
                if image.format in ("JPEG", "MPO") and not _has_end(data):
                    raise Drop("truncated", f"{name} has no end mark: the rest of its data is missing")
                return pixels_of(image, name)
    except Drop:
        raise
    except Image.UnidentifiedImageError:  # its sentence names a buffer of ours
        raise Drop("unreadable", f"{name}: no format of images that is known, or its header is damaged") from None
    except Image.DecompressionBombError:
        raise Drop("too large", f"{name} has more than {MAX_PIXELS:.0e} pixels") from None
    except Exception as error:  # decoders of broken files raise whatever comes: OSError, SyntaxError, struct.error …
        reason = "truncated" if "truncated" in str(error).lower() else "unreadable"
        raise Drop(reason, f"{name}: {str(error) or type(error).__name__}") from None


def _bytes_of(path: Path) -> bytes:
    """The bytes of a regular file; raises ``Drop``."""
    if fault := fault_of(path):
        raise Drop(fault.reason, f"{shown(path)}: {fault.detail}")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Drop("too large", f"{shown(path)} has {path.stat().st_size} bytes of at most {MAX_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise Drop("unreadable", f"{shown(path)}: {error.strerror or error}") from None


@functools.cache
def _formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    return tuple(name for name in Image.ID if name not in REFUSED_FORMATS)


_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")


def _has_end(jpeg: bytes) -> bool:
    """Whether a JPEG's first picture has its end mark; what was to come may be zeros, which decoders take for data."""
    at = 2
    while found := _MARKER.search(jpeg, at):
        if found[0] == b"\xff\xd9":
            return True
        at = found.start() + 2 + int.from_bytes(jpeg[found.start() + 2 : found.start() + 4], "big")
    return False


def _rgb(opened: Any, name: str, background: tuple[int, int, int]) -> UInt8[np.ndarray, "3 h w"]:
    """The pixels of an image that Pillow has opened."""
    from PIL import Image, ImageOps

    opened.load()
    image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.float64)
        pixels = repeat(np.rint(wide / 257).astype(np.uint8), "h w -> c h w", c=3).copy()
        clear = opened.info.get("transparency")
        if isinstance(clear, int):
            pixels[:, wide == clear] = np.array(background, np.uint8)[:, None]
        return pixels
    if image.mode in ("I", "F"):
        raise Drop("unknown range", f"{name} holds {'32-bit' if image.mode == 'I' else 'floating-point'} numbers")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        below = Image.new("RGBA", image.size, (*background, 255))
        image = Image.alpha_composite(below, image)
    return np.ascontiguousarray(rearrange(np.asarray(image.convert("RGB")), "h w c -> c h w"))


def _rgba(opened: Any, name: str) -> UInt8[np.ndarray, "4 h w"]:
    """The pixels of an image that Pillow has opened, and how opaque they are."""
    from PIL import ImageOps

    if opened.mode.startswith("I;16"):  # clear where it is the background, whatever that is
        white, black = (_rgb(opened, name, (level, level, level)) for level in (255, 0))
        return np.concatenate([white, np.where((white == black).all(0), 255, 0)[None]]).astype(np.uint8)
    if opened.mode in ("I", "F"):
        return _rgb(opened, name, (255, 255, 255))  # which refuses it
    opened.load()
    turned = ImageOps.exif_transpose(opened).convert("RGBA")
    return np.ascontiguousarray(rearrange(np.asarray(turned), "h w c -> c h w"))
