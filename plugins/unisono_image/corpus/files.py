"""Files: pictures brought to one size; ``unisono.media.pictures`` reads them.

Shapes: h, w height and width in pixels; images are uint8 [3, h, w].
"""

from typing import Literal

import numpy as np
from einops import rearrange
from jaxtyping import UInt8
from unisono.data import Drop
from unisono.media.pictures import IMAGE_SUFFIXES, MAX_BYTES, code_of, colour, read_image

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_BYTES",
    "MIN_SIDE",
    "Fit",
    "code_of",
    "colour",
    "covered",
    "fitted",
    "read_image",
]

Fit = Literal["crop", "pad", "stretch", "exact"]
MIN_SIDE = 2


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

    picture = Image.fromarray(np.ascontiguousarray(rearrange(image, "c h w -> h w c")))
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
    return np.ascontiguousarray(rearrange(np.asarray(result), "h w c -> c h w"))


def covered(image: UInt8[np.ndarray, "3 h w"], height: int, width: int) -> UInt8[np.ndarray, "3 y x"]:
    """Scale an image so that it covers a size, and cut the middle out, by Pillow's antialiased bicubic filter."""
    from PIL import Image

    scale = min(image.shape[1] / height, image.shape[2] / width)
    top, left = (image.shape[1] - scale * height) / 2, (image.shape[2] - scale * width) / 2
    box = (left, top, left + scale * width, top + scale * height)
    picture = Image.fromarray(np.ascontiguousarray(rearrange(image, "c h w -> h w c")))
    result = picture.resize((width, height), Image.Resampling.BICUBIC, box=box)
    return np.ascontiguousarray(rearrange(np.asarray(result), "h w c -> c h w"))
