"""Hull: an object of its views: the visual hull of their silhouettes, coloured by the views (Laurentini 1994).

The published system reconstructs by a network for sparse views; a hull needs no training and says what the silhouettes
alone can: it is never smaller than the object where the silhouettes are right.

Shapes: v views, s pixels a side, r points a side of the grid, n points.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unisono_views.cameras import Cameras
from unisono_views.measure import looked_up
from unisono_views.shapes import Shape
from unisono_views.voxels import middles

BACKGROUND = 0.06
"""How far from white, in [0, 1], a pixel is that belongs to an object, in its least colour."""


@dataclass(frozen=True, eq=False)
class Hull:
    """Which points of a grid over [−1, 1]³ belong to the object, and their colours."""

    there: Bool[Tensor, "r r r"]
    colours: Float[Tensor, "r r r 3"]


def silhouettes(views: Float[Tensor, "v 3 s s"]) -> Bool[Tensor, "v s s"]:
    """Return which pixels show an object in front of white."""
    return views.amin(1) < 1 - BACKGROUND


def visual_hull(views: Float[Tensor, "v 3 s s"], cameras: Cameras, resolution: int = 32) -> Hull:
    """Return the points that all views show the object at, coloured by the mean of the views."""
    size = views.shape[-1]
    points = middles(resolution).reshape(-1, 3)
    rows, columns, _ = cameras.project(points, size)
    inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
    at = [places.nan_to_num(0).floor().long().clamp(0, size - 1) for places in (rows, columns)]
    number = torch.arange(len(views))[:, None]
    there = (silhouettes(views)[number, at[0], at[1]] & inside).all(0)
    seen = [looked_up(view.double(), row, column) for view, row, column in zip(views, rows, columns, strict=True)]
    colours = torch.stack(seen).mean(0).T.float().nan_to_num(1).clamp(0, 1)
    grid = (resolution,) * 3
    return Hull(there.view(grid), torch.where(there[:, None], colours, 1.0).view(*grid, 3))


def overlap(hull: Hull, shape: Shape) -> float:
    """Return the intersection over union of a hull and an object, by the grid's points; 1 where both are empty."""
    points = middles(len(hull.there)).reshape(-1, 3)
    inside, there = shape.distance(points) <= 0, hull.there.flatten()
    union = int((inside | there).sum())
    return int((inside & there).sum()) / union if union else 1.0
