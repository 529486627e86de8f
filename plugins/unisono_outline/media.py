"""Outline: what comes out: a polygon in a picture, as its mask or as numbers."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, UInt8
from unisono.media import Media

from unisono_outline.geometry.polygon import box_of, signed_area
from unisono_outline.geometry.raster import mask_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIGITS = 3
"""Of a pixel, in files."""


@dataclass(frozen=True, eq=False)
class Outline(Media):
    """The outline of what a phrase names: ``vertices`` float32 [n, 2], (x, y) in pixels of ``picture`` uint8 [3, h, w].

    As ``.png`` its mask is written, black and white; as ``.json`` its polygon. ``plot`` draws it over the picture.
    """

    picture: UInt8[np.ndarray, "3 h w"]
    vertices: Float[np.ndarray, "n 2"]
    phrase: str

    suffixes: ClassVar[tuple[str, ...]] = (".png", ".json")
    shown: ClassVar[str] = "image"

    def __repr__(self) -> str:
        return f"Outline({self.phrase!r}, {len(self.vertices)} vertices)"

    @property
    def amount(self) -> tuple[float, str]:
        """Its vertices."""
        return len(self.vertices), "vertices"

    @property
    def mask(self) -> Bool[np.ndarray, "h w"]:
        """The pixels whose middle lies inside."""
        return mask_of(self.vertices, *self.picture.shape[1:])

    def about(self) -> dict[str, Any]:
        """Return the polygon in pixels, its box as (left, top, width, height) and its area, as COCO has them."""
        corners = box_of(self.vertices)
        box = [*corners[0], *(corners[2] - corners[0])]
        return {
            "phrase": self.phrase,
            "width": self.picture.shape[2],
            "height": self.picture.shape[1],
            "segmentation": [[round(float(number), DIGITS) for number in self.vertices.ravel()]],
            "bbox": [round(float(number), DIGITS) for number in box],
            "area": round(abs(signed_area(self.vertices)), DIGITS),
        }

    def plot(self) -> "Figure":
        """Draw it over the picture; its first vertex is marked."""
        from matplotlib.figure import Figure

        height, width = self.picture.shape[1:]
        figure = Figure(figsize=(4, 4.3 * min(max(height / width, 0.25), 4)), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(self.picture.transpose(1, 2, 0), extent=(0, width, height, 0), interpolation="nearest")
        closed = np.concatenate([self.vertices, self.vertices[:1]])
        axes.fill(*closed.T, facecolor=(1, 0, 1, 0.2))
        axes.plot(*closed.T, ".-", color="magenta", linewidth=1.5, markersize=5)
        axes.plot(*closed[0], "o", color="black", markersize=5)
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        axes.set_title(self.phrase, wrap=True, fontsize=10)
        return figure

    def _write(self, path: Path) -> None:
        if path.suffix.lower() == ".json":
            path.write_text(json.dumps(self.about(), ensure_ascii=False) + "\n", encoding="utf-8")
            return
        from PIL import Image

        Image.fromarray(self.mask.astype(np.uint8) * 255).save(path, format="PNG")
