"""Views: what comes out: pictures of one object by several cameras, as one sheet of three rows and two columns.

Shapes: v views, s pixels a side.
"""

import io
import zipfile
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from einops import rearrange
from jaxtyping import UInt8
from unisono import Image

COLUMNS = 2
"""Of a sheet; views are laid row by row."""


@dataclass(frozen=True, eq=False)
class Views(Image):
    """A sheet of views, ``pixels`` as of `Image`; a ``.zip`` has each view as a file of its own.

    Attributes:
        count: of the views.
    """

    count: int = 6

    suffixes: ClassVar[tuple[str, ...]] = (*Image.suffixes, ".zip")

    @classmethod
    def of(cls, views: UInt8[np.ndarray, "v 3 s s"]) -> "Views":
        """Lay views of one size out on a sheet, without gaps."""
        rows = -(-len(views) // COLUMNS)
        sheet = np.full((rows * COLUMNS, *views.shape[1:]), 255, views.dtype)
        sheet[: len(views)] = views
        return cls(rearrange(sheet, "(r c) k h w -> k (r h) (c w)", c=COLUMNS), len(views))

    def __repr__(self) -> str:
        return f"Views({self.count} of {self.width // COLUMNS} × {self.width // COLUMNS})"

    @property
    def views(self) -> list[Image]:
        """The views, one by one."""
        return [Image(view) for view in cut(self.pixels, self.count)]

    def about(self) -> dict[str, Any]:
        """Return the sheet's size and how many views it has."""
        return {**super().about(), "views": self.count}

    def encoded(self, suffix: str) -> bytes:
        """Return the content of a file with this suffix."""
        if suffix.lower() != ".zip":
            return super().encoded(suffix)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            for number, view in enumerate(self.views):
                entry = zipfile.ZipInfo(f"view-{number}.png", (1980, 1, 1, 0, 0, 0))
                file.writestr(entry, view.encoded(".png"))
        return buffer.getvalue()


def has_more(sheet: UInt8[np.ndarray, "3 h w"], count: int) -> bool:
    """Whether a sheet shows more views than ``count``: what is left of its last row is not white."""
    columns = count % COLUMNS
    side = sheet.shape[2] // COLUMNS
    return bool(columns) and bool((sheet[:, -side:, columns * side :] < 255).any())


def cut(sheet: np.ndarray, count: int) -> np.ndarray:
    """Return the views [v, 3, s, s] of a sheet [3, rows · s, 2 · s]."""
    return rearrange(sheet, "k (r h) (c w) -> (r c) k h w", h=sheet.shape[2] // COLUMNS, c=COLUMNS)[:count]
