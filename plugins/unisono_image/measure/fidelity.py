"""Fidelity: how near a picture is to another, PSNR and SSIM, and what JPEG and WebP make of pictures at a given size.

SSIM is that of Wang et al. 2004 (doi:10.1109/TIP.2003.819861): windows of 11 × 11, Gaussian, of deviation 1.5, within
the picture, the mean over red, green and blue. JPEG and WebP are given pictures side by side on one sheet, for of a
small picture's file the header is most.

Shapes: n pictures, h w height and width.
"""

import io
import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch.nn import functional as F
from unisono.errors import DataError

WINDOW, DEVIATION = 11, 1.5
PEAK = 255.0


def psnr(real: UInt8[np.ndarray, "n 3 h w"], made: UInt8[np.ndarray, "n 3 h w"]) -> Float[np.ndarray, " n"]:
    """Return the peak signal-to-noise ratio of each pair, in dB; infinite where they are equal."""
    error = np.square(real.astype(np.float64) - made).reshape(len(real), -1).mean(1)
    with np.errstate(divide="ignore"):
        return 10 * np.log10(PEAK**2 / error)


def ssim(real: UInt8[np.ndarray, "n 3 h w"], made: UInt8[np.ndarray, "n 3 h w"]) -> Float[np.ndarray, " n"]:
    """Return the structural similarity of each pair, at most 1; raises ``DataError`` for pictures below 11 pixels a
    side."""
    if min(real.shape[2:]) < WINDOW:
        raise DataError(
            f"SSIM looks through windows of {WINDOW} pixels; these pictures have {real.shape[3]} × {real.shape[2]}",
            code="shape",
            path="pictures",
            value=list(real.shape[2:]),
        )
    far = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    row = (-far.square() / (2 * DEVIATION**2)).exp()
    row = row / row.sum()
    window = (row[:, None] * row)[None, None]
    x, y = (torch.from_numpy(side.astype(np.float64)).flatten(0, 1)[:, None] for side in (real, made))

    def seen(values: torch.Tensor) -> torch.Tensor:
        return F.conv2d(values, window)

    mean_x, mean_y = seen(x), seen(y)
    var_x, var_y = seen(x * x) - mean_x.square(), seen(y * y) - mean_y.square()
    both = seen(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    found = (2 * mean_x * mean_y + c1) * (2 * both + c2)
    found = found / ((mean_x.square() + mean_y.square() + c1) * (var_x + var_y + c2))
    return found.flatten(1).mean(1).view(len(real), 3).mean(1).numpy()


def compressed(
    pictures: Sequence[UInt8[np.ndarray, "3 h w"]], kind: str, most_bytes: float
) -> tuple[UInt8[np.ndarray, "n 3 h w"], float]:
    """Return pictures as a file of at most ``most_bytes`` for each of them keeps them, and how many bytes that took.

    ``kind`` is ``JPEG`` or ``WEBP``. The best quality that fits is taken; where none does, the least.
    """
    from PIL import Image as Pillow

    count, (_, height, width) = len(pictures), pictures[0].shape
    columns = math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    sheet = np.zeros((rows * height, columns * width, 3), np.uint8)
    places = [(index // columns * height, index % columns * width) for index in range(count)]
    for picture, (top, left) in zip(pictures, places, strict=True):
        sheet[top : top + height, left : left + width] = picture.transpose(1, 2, 0)

    def written(quality: int) -> bytes:
        buffer = io.BytesIO()
        Pillow.fromarray(sheet).save(
            buffer, format=kind, quality=quality, **({"optimize": True} if kind == "JPEG" else {})
        )
        return buffer.getvalue()

    least, most = (1, 95) if kind == "JPEG" else (0, 100)
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if len(written(middle)) <= most_bytes * count else (least, middle - 1)
    content = written(least)
    read = np.asarray(Pillow.open(io.BytesIO(content)).convert("RGB")).transpose(2, 0, 1)
    found = np.stack([read[:, top : top + height, left : left + width] for top, left in places])
    return found, len(content) / count
