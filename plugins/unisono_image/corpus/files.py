"""Image files as pixels: any mode that Pillow reads, brought to 8-bit RGB, and to one size.

What is done to which file, so that nothing happens in silence:

- transparency (alpha channel, transparent palette entry or colour) is laid over a stated background
- palette, grey, two-level and CMYK images become RGB; 16-bit grey is *scaled* to 8 bits (Pillow alone would clip it)
- a camera's orientation tag is applied; of an animation, the first frame is taken
- floating-point and 32-bit images are refused, for nobody knows their range

Shapes: h, w height and width in pixels; images are uint8 [3, h, w].
"""

import io
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from unisono.data import Drop
from unisono.errors import DataError, MissingExtra

Fit = Literal["crop", "pad", "stretch", "exact"]
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
MAX_PIXELS = 100_000_000
MIN_SIDE = 2


def colour(name: str) -> tuple[int, int, int]:
    """Return a colour's red, green and blue, 0 to 255, from a name or ``#rrggbb``; raises ``DataError``."""
    from PIL import ImageColor

    try:
        return ImageColor.getrgb(name)[:3]
    except ValueError:
        raise DataError(f"background={name!r} is no colour: give a name such as 'white', or '#rrggbb'") from None


def read_image(
    source: str | Path | bytes, background: tuple[int, int, int] = (255, 255, 255)
) -> UInt8[np.ndarray, "3 h w"]:
    """Read an image file (or its bytes) as 8-bit RGB over a background.

    Raises ``Drop``, whose reason is one of ``missing``, ``empty file``, ``truncated``, ``unreadable``, ``too large``
    and ``unknown range``; its text is a sentence to show to a user.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise MissingExtra("pillow", "image") from None
    name = "the image" if isinstance(source, bytes) else str(source)
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise Drop("missing", f"{name}: {error.strerror or error}") from None
    if not data:
        raise Drop("empty file", f"{name} has no bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow says of odd tags; size is judged below
            image = Image.open(io.BytesIO(data))
            if image.width * image.height > MAX_PIXELS:
                raise Drop("too large", f"{name} has {image.width} × {image.height} pixels of at most {MAX_PIXELS:.0e}")
            image.load()
            image = ImageOps.exif_transpose(image)
    except Drop:
        raise
    except Image.DecompressionBombError:
        raise Drop("too large", f"{name} has more than {MAX_PIXELS:.0e} pixels") from None
    except Exception as error:  # decoders of broken files raise whatever comes: OSError, SyntaxError, struct.error …
        reason = "truncated" if "truncated" in str(error).lower() else "unreadable"
        raise Drop(reason, f"{name}: {error}") from None
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.float64) / 257
        return np.repeat(np.rint(grey).astype(np.uint8)[None], 3, 0)
    if image.mode in ("I", "F"):
        raise Drop("unknown range", f"{name} holds {'32-bit' if image.mode == 'I' else 'floating-point'} numbers")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        below = Image.new("RGBA", image.size, (*background, 255))
        image = Image.alpha_composite(below, image)
    return np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def fitted(
    image: UInt8[np.ndarray, "3 h w"],
    size: int,
    fit: Fit = "crop",
    background: tuple[int, int, int] = (255, 255, 255),
) -> UInt8[np.ndarray, "3 s s"]:
    """Bring an image to ``size`` × ``size`` pixels, by Pillow's antialiased bicubic filter.

    ``crop`` scales the shorter side and cuts the middle out; ``pad`` scales the longer side and centres it on the
    background; ``stretch`` scales both; ``exact`` raises ``Drop("other size")`` unless the image has that size.
    An image of fewer than 2 pixels a side raises ``Drop("too small")``, whatever the fit.
    """
    height, width = image.shape[1:]
    if min(height, width) < MIN_SIDE:
        raise Drop("too small", f"{width} × {height} pixels, at least {MIN_SIDE} a side are needed")
    if (height, width) == (size, size):
        return image
    if fit == "exact":
        raise Drop("other size", f"{width} × {height} pixels, not {size} × {size}")
    from PIL import Image

    picture = Image.fromarray(image.transpose(1, 2, 0))
    filter_ = Image.Resampling.BICUBIC
    if fit == "stretch":
        result = picture.resize((size, size), filter_)
    elif fit == "crop":
        return covered(image, size, size)
    else:
        longer = max(height, width)
        shape = max(1, round(size * width / longer)), max(1, round(size * height / longer))
        result = Image.new("RGB", (size, size), background)
        result.paste(picture.resize(shape, filter_), ((size - shape[0]) // 2, (size - shape[1]) // 2))
    return np.ascontiguousarray(np.asarray(result).transpose(2, 0, 1))


def covered(image: UInt8[np.ndarray, "3 h w"], height: int, width: int) -> UInt8[np.ndarray, "3 y x"]:
    """Scale an image so that it covers a size, and cut the middle out, by Pillow's antialiased bicubic filter."""
    from PIL import Image

    scale = min(image.shape[1] / height, image.shape[2] / width)
    top, left = (image.shape[1] - scale * height) / 2, (image.shape[2] - scale * width) / 2
    box = (left, top, left + scale * width, top + scale * height)
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    result = picture.resize((width, height), Image.Resampling.BICUBIC, box=box)
    return np.ascontiguousarray(np.asarray(result).transpose(2, 0, 1))
