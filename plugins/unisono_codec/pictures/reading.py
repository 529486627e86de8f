"""Reading: a user's picture as pixels to code, with what was done to it said."""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from unisono.data import Drop
from unisono.errors import RequestError
from unisono.media.pictures import code_of, read_image

MAX_PIXELS = 2**23
"""Of a picture that is coded: all of it is in memory at once, in float64."""


@dataclass(frozen=True, eq=False)
class ReadPicture:
    """Pixels [3, h, w] of a file, and sentences about what is not in them any more."""

    pixels: UInt8[np.ndarray, "3 h w"]
    notes: tuple[str, ...]


def read_picture_file(path: str | Path, background: tuple[int, int, int] = (255, 255, 255)) -> ReadPicture:
    """Read a file as 8-bit RGB; raises ``RequestError`` where it cannot be, and where it has too many pixels."""
    try:
        pixels = read_image(path, background)
    except Drop as drop:
        raise RequestError(drop.detail, code=code_of(drop), path="image", value=str(path)) from None
    check_size(pixels.shape[1], pixels.shape[2])
    return ReadPicture(pixels, tuple(_notes(Path(path), background)))


def check_size(height: int, width: int) -> None:
    """Raise ``RequestError`` for more pixels than are coded at once."""
    if height * width > MAX_PIXELS:
        raise RequestError(
            f"a picture of {width} × {height} has {height * width} pixels of at most {MAX_PIXELS}: cut it, or make it "
            "smaller",
            code="limit",
            path="image",
            value=height * width,
        )


def _notes(path: Path, background: tuple[int, int, int]) -> list[str]:
    from PIL import Image

    notes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            if getattr(image, "n_frames", 1) > 1:
                notes.append(f"animated: the first of {getattr(image, 'n_frames', 1)} frames")
            if image.getexif().get(0x0112, 1) != 1:
                notes.append("turned as its orientation tag says")
            if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
                notes.append("transparency laid over " + "#{:02x}{:02x}{:02x}".format(*background))
            elif image.mode.startswith("I;16"):
                notes.append("16 bits scaled to 8")
            elif image.mode not in ("RGB", "L", "P", "1"):
                notes.append(f"{image.mode} made RGB")
    return notes
