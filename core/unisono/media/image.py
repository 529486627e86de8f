"""Image: a picture."""

import base64
import builtins
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from einops import rearrange

from unisono.errors import RequestError
from unisono.media.base import Media


@dataclass(frozen=True, eq=False)
class Image(Media):
    """A picture: ``pixels`` uint8 [3, h, w], or float [3, h, w] in [0, 1]; red, green, blue, top row first.

    Raises ``ValueError`` for another shape or type.
    """

    pixels: np.ndarray

    suffixes: ClassVar[tuple[str, ...]] = (".png", ".jpg", ".jpeg", ".webp")
    shown: ClassVar[str] = "image"

    def __post_init__(self):
        kind, shape = self.pixels.dtype, self.pixels.shape
        if len(shape) != 3 or shape[0] != 3 or 0 in shape:
            raise ValueError(f"pixels must be [3, height, width], got shape {shape}")
        if kind != np.uint8 and kind.kind != "f":
            raise ValueError(f"pixels must be uint8, or float from 0 to 1, got {kind}")

    @property
    def height(self) -> int:
        """Rows."""
        return self.pixels.shape[1]

    @property
    def width(self) -> int:
        """Columns."""
        return self.pixels.shape[2]

    @property
    def amount(self) -> tuple[float, str]:
        """Its pixels."""
        return self.width * self.height, "pixels"

    @property
    def bytes(self) -> np.ndarray:
        """The picture as uint8 [h, w, 3], as files have it; floats are cut to 0..1 and rounded."""
        pixels = self.pixels
        if pixels.dtype != np.uint8:
            pixels = (np.nan_to_num(pixels).clip(0, 1) * 255).round().astype(np.uint8)
        return np.ascontiguousarray(rearrange(pixels, "c h w -> h w c"))

    def about(self) -> dict[str, Any]:
        """Return its size in pixels."""
        return {"width": self.width, "height": self.height}

    def __repr__(self) -> str:
        return f"Image({self.width} × {self.height})"

    def enlarged(self, times: int) -> "Image":
        """Return it with every pixel as a square of ``times`` × ``times``; for small pictures on large screens."""
        if times < 1:
            raise RequestError(f"times={times} must be at least 1", code="range", path="times", value=times)
        return Image(self.pixels.repeat(times, 1).repeat(times, 2))

    @staticmethod
    def grid(images: "Sequence[Image]", columns: int | None = None, gap: int = 2) -> "Image":
        """Lay pictures of one size out in rows, on white; ``columns`` defaults to a square, ``gap`` is in pixels."""
        if not images:
            raise RequestError("there is no image to lay out", code="empty", path="images")
        sizes = sorted({(image.width, image.height) for image in images})
        if len(sizes) > 1:
            shown = ", ".join(f"{width} × {height}" for width, height in sizes)
            raise RequestError(
                f"a grid takes images of one size, these are {shown}: resize them first",
                code="shape",
                path="images",
                value=sizes,
            )
        columns = columns or int(np.ceil(np.sqrt(len(images))))
        if columns < 1 or gap < 0:
            name, value = ("columns", columns) if columns < 1 else ("gap", gap)
            message = f"columns={columns} must be at least 1, gap={gap} at least 0"
            raise RequestError(message, code="range", path=name, value=value)
        columns = min(columns, len(images))
        (width, height), rows = sizes[0], -(-len(images) // columns)
        shape = (3, rows * (height + gap) - gap, columns * (width + gap) - gap)
        sheet = np.full(shape, 255, np.uint8)
        for index, image in enumerate(images):
            top, left = (height + gap) * (index // columns), (width + gap) * (index % columns)
            sheet[:, top : top + height, left : left + width] = rearrange(image.bytes, "h w c -> c h w")
        return Image(sheet)

    def _picture(self) -> Any:
        from PIL import Image as Pillow

        return Pillow.fromarray(self.bytes)

    def _write(self, path: Path) -> None:
        path.write_bytes(self.encoded(path.suffix))

    def encoded(self, suffix: str) -> builtins.bytes:
        """Return the content of a file with this suffix."""
        kind = {".png": "PNG", ".webp": "WEBP"}.get(suffix.lower(), "JPEG")
        buffer = io.BytesIO()
        try:
            self._picture().save(buffer, format=kind, **({"quality": 95} if kind == "JPEG" else {}))
        except (ValueError, OSError) as error:  # such as a side that the format cannot hold
            raise RequestError(
                f"{kind} cannot hold {self.width} × {self.height} pixels ({error}): use .png",
                code="unsupported",
                path="pixels",
                value=(self.width, self.height),
            ) from None
        return buffer.getvalue()

    def plot(self):
        """Draw it, small ones with visible pixels."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4, 4 * min(max(self.height / self.width, 0.25), 4)))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.imshow(self.bytes, interpolation="nearest" if max(self.width, self.height) <= 128 else "antialiased")
        axes.set_axis_off()
        return figure

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.encoded(".png")).decode()
        shown = max(self.width, 4 * 32 if self.width <= 64 else 0)
        label = html.escape(repr(self))
        style = "image-rendering: pixelated" if shown > self.width else ""
        return f'<img alt="{label}" width="{shown}" style="{style}" src="data:image/png;base64,{data}">'
