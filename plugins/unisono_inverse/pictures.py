"""Pictures: what a request gives, read as numbers in [−1, 1] or refused in one sentence; and what comes out.

Files are read by ``unisono.media.read_image``: palette, grey, CMYK and 16-bit pictures become 8-bit RGB, a camera's
orientation is applied, the first frame of an animation is taken, transparent pixels are laid on white.

Shapes: h w height and width.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from unisono import Image
from unisono.data import Drop
from unisono.errors import RequestError
from unisono.media import code_of, read_image

__all__ = ["Restored", "mask_of", "picture_of"]


@dataclass(frozen=True, eq=False, repr=False)
class Restored(Image):
    """A restored picture, and in ``before`` what was measured of it, as the pseudo-inverse shows it: A⁺y.

    ``pixels`` are float and not cut to [0, 1], so that they agree with the measurement exactly; files are 8-bit.
    """

    before: np.ndarray

    shown: ClassVar[str] = "image"

    def plot(self) -> Any:
        """Draw both, before on the left."""
        from matplotlib.figure import Figure

        shape = min(max(self.height / self.width, 0.25), 4)
        figure = Figure(figsize=(8, 4 * shape + 0.4))
        smooth = "nearest" if max(self.width, self.height) <= 128 else "antialiased"
        for axes, image, name in zip(
            figure.subplots(1, 2), (Image(self.before), self), ("before", "restored"), strict=True
        ):
            axes.imshow(image.bytes, interpolation=smooth)
            axes.set_title(name)
            axes.set_axis_off()
        return figure


def picture_of(request: Any) -> Float[Tensor, "3 h w"]:
    """Return the picture of a request in [−1, 1]; raises ``RequestError`` that names the field."""
    if request.picture is None:
        field, pixels = "pixels", np.asarray(request.pixels, dtype=np.float64)
    elif isinstance(request.picture, Image):
        field, pixels = "picture", request.picture.pixels
    else:
        return torch.from_numpy(_read(request.picture, "picture")).float() / 127.5 - 1
    if pixels.dtype == np.uint8:
        return torch.from_numpy(pixels.copy()).float() / 127.5 - 1
    if not np.isfinite(pixels).all():
        raise RequestError(
            f"{field} holds {int((~np.isfinite(pixels)).sum())} numbers that are not finite: give them in [0, 1], and "
            "name missing ones by the mask",
            code="value",
            path=field,
        )
    if pixels.min() < 0 or pixels.max() > 1:
        raise RequestError(
            f"{field} holds numbers from {pixels.min():g} to {pixels.max():g}: give them in [0, 1]",
            code="range",
            path=field,
            value=float(pixels.max() if pixels.max() > 1 else pixels.min()),
        )
    return torch.from_numpy(pixels.astype(np.float32)) * 2 - 1


def mask_of(mask: Any, height: int, width: int) -> Bool[Tensor, "1 h w"]:
    """Return which pixels are known: white in a file, 1 in a list. Raises ``RequestError``."""
    if isinstance(mask, str):
        colours = _read(mask, "mask")
        values = colours[0]
        if (colours != values).any() or not np.isin(values, (0, 255)).all():
            raise RequestError(
                f"the mask has {len(np.unique(colours))} shades: give white where a pixel is known and black where it "
                "is missing, and no grey (as PNG: JPEG makes greys)",
                code="value",
                path="mask",
                value=len(np.unique(colours)),
            )
        known = values == 255
    elif isinstance(mask, Image):
        values = mask.bytes
        if not np.isin(values, (0, 255)).all() or (values != values[..., :1]).any():
            raise RequestError("the mask has greys or colours: give black and white", code="value", path="mask")
        known = values[..., 0] == 255
    else:
        try:
            values = np.asarray(mask)
        except ValueError:
            raise RequestError("mask: rows are not equally long", code="shape", path="mask") from None
        if values.ndim != 2 or not np.isin(values, (0, 1)).all():
            raise RequestError(
                f"mask of shape {list(values.shape)}: give [height][width] of 1, known, and 0, missing",
                code="shape" if values.ndim != 2 else "value",
                path="mask",
                value=list(values.shape),
            )
        known = values == 1
    if known.shape != (height, width):
        raise RequestError(
            f"the mask has {known.shape[1]} × {known.shape[0]} pixels, the picture {width} × {height}: give one of its "
            "size",
            code="shape",
            path="mask",
            value=list(known.shape),
        )
    if not known.any():
        raise RequestError("the mask knows no pixel: there is nothing to restore from", code="empty", path="mask")
    return torch.from_numpy(known)[None]


def _read(path: str, field: str) -> np.ndarray:
    try:
        return read_image(path)
    except Drop as drop:
        raise RequestError(
            f"{field}={path!r:.200} cannot be used, {drop.reason}: {drop}", code=code_of(drop), path=field, value=path
        ) from None
