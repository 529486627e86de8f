"""Raster: which pixels an outline holds, by the winding number of each pixel's middle.

A pixel belongs to the outline where its middle is wound round, whatever the direction and however often (the non-zero
rule), so that the overlap of a contour that crosses itself counts once.

Shapes: n vertices, h w height and width in pixels.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from unisono_outline.geometry.polygon import Vertices

FINE = 4
"""Samples a side of a pixel, for coverage and overlaps."""


def winding_numbers(vertices: Vertices, height: int, width: int) -> Int[np.ndarray, "h w"]:
    """Return how often an outline in pixels winds round the middle of each pixel, clockwise as seen is positive.

    One pass: each edge is crossed by the middles' rows where it is, and what lies right of a crossing is wound once
    more or once less.
    """
    first = np.asarray(vertices, np.float64)
    last = np.roll(first, -1, axis=0)
    rows = np.arange(height) + 0.5
    above, below = first[:, 1, None] <= rows, last[:, 1, None] <= rows
    edge, row = np.nonzero(above != below)
    share = (rows[row] - first[edge, 1]) / (last[edge, 1] - first[edge, 1])
    x = first[edge, 0] + share * (last[edge, 0] - first[edge, 0])
    column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)  # of the first middle that is not left of it
    turns = np.zeros((height, width + 1), np.int64)
    np.add.at(turns, (row, column), np.where(above[edge, row], -1, 1))
    return np.cumsum(turns[:, :width], axis=1)


def coverage(vertices: Vertices, height: int, width: int) -> Float[np.ndarray, "h w"]:
    """Return the share of each pixel that lies inside, of ``FINE`` × ``FINE`` samples."""
    inside = winding_numbers(np.asarray(vertices) * FINE, height * FINE, width * FINE) != 0
    return inside.reshape(height, FINE, width, FINE).mean(axis=(1, 3))


def mask_of(vertices: Vertices, height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """Return the pixels whose middle lies inside."""
    return winding_numbers(vertices, height, width) != 0


def iou(first: Vertices, second: Vertices, height: int, width: int) -> float:
    """Return the area that two outlines share within the picture, of the area that either has; 0 where neither has."""
    inside = [winding_numbers(np.asarray(v) * FINE, height * FINE, width * FINE) != 0 for v in (first, second)]
    either = np.logical_or(*inside).sum()
    return float(np.logical_and(*inside).sum() / either) if either else 0.0
