"""Measures of views: how near they are to the true ones, and whether they agree with one another.

PSNR and SSIM (Wang et al. 2004, a Gaussian window of 11 pixels, σ 1.5, where it lies inside the picture) compare with
true views. Agreement needs none: a pixel's point of space, of the true depth, is looked up in the other views that see
it, and the colours are compared. A model may be near the truth in each view and still disagree with itself.

Shapes: v views, s pixels a side, n points. Pictures are in [0, 1].
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from unisono_views.cameras import Cameras

WINDOW, SIGMA = 11, 1.5
NEAR = 0.02
"""How far the depth of another view may be from a point's distance, where that view sees the point."""


def psnr(made: Float[Tensor, "v 3 s s"], true: Float[Tensor, "v 3 s s"]) -> float:
    """Return the peak signal-to-noise ratio over all views, in dB; infinite where they are equal."""
    error = float((made.double() - true.double()).square().mean())
    return float(-10 * torch.tensor(error).log10()) if error else float("inf")


def ssim(made: Float[Tensor, "v 3 s s"], true: Float[Tensor, "v 3 s s"]) -> float:
    """Return the mean structural similarity over views, colours and windows; 1 where they are equal.

    Pictures smaller than the window are compared in one window of their size.
    """
    side = min(WINDOW, made.shape[-1])
    along = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    bell = torch.exp(-along.square() / (2 * SIGMA**2))
    window = (bell[:, None] * bell / bell.sum() ** 2)[None, None]
    x, y = (part.double().flatten(0, 1)[:, None] for part in (made, true))

    def mean(values: Tensor) -> Tensor:
        return F.conv2d(values, window)

    mx, my = mean(x), mean(y)
    xx, yy, xy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    found = (2 * mx * my + c1) * (2 * xy + c2) / ((mx * mx + my * my + c1) * (xx + yy + c2))
    return float(found.mean())


def disagreement(
    views: Float[Tensor, "v 3 s s"], depths: Float[Tensor, "v s s"], cameras: Cameras
) -> tuple[float, int]:
    """Return the mean absolute difference of colours of one point in two views, and how many pairs were compared.

    ``depths`` are the true ones, of the middle of each pixel. A point counts in another view where that view's depth,
    interpolated, is its distance within `NEAR` and all four pixels around it see a surface. NaN where no pair is.
    """
    size = views.shape[-1]
    origins, directions = cameras.rays(size)
    total, pairs = 0.0, 0
    for one in range(len(views)):
        seen = depths[one].isfinite()
        points = origins[one] + depths[one][seen][:, None].double() * directions[one][seen]
        rows, columns, distances = cameras.project(points, size)
        mine = views[one][:, seen].double()
        for other in range(len(views)):
            if other == one:
                continue
            there, found = visible(depths[other], rows[other], columns[other], distances[other])
            theirs = looked_up(views[other].double(), rows[other][there], columns[other][there])
            total += float((mine[:, there] - theirs).abs().mean(0).sum())
            pairs += found
    return (total / pairs if pairs else float("nan")), pairs


def visible(
    depth: Float[Tensor, "s s"], rows: Float[Tensor, " n"], columns: Float[Tensor, " n"], distances: Float[Tensor, " n"]
) -> tuple[Bool[Tensor, " n"], int]:
    """Return which points a view sees, by its depth, and how many these are."""
    size = depth.shape[-1]
    inside = (rows > 0.5) & (rows < size - 0.5) & (columns > 0.5) & (columns < size - 0.5)
    there = torch.zeros_like(inside)
    found = looked_up(depth[None].double(), rows[inside], columns[inside])[0]  # infinite beside the background
    there[inside] = (found - distances[inside]).abs() < NEAR
    return there, int(there.sum())


def looked_up(
    picture: Float[Tensor, "c s s"], rows: Float[Tensor, " n"], columns: Float[Tensor, " n"]
) -> Float[Tensor, "c n"]:
    """Return a picture's values at places in pixels, between the middles of four."""
    size = picture.shape[-1]
    row, column = (places - 0.5 for places in (rows, columns))
    top, left = (part.floor().clamp(0, size - 2).long() for part in (row, column))
    down, right = row - top, column - left
    total = torch.zeros(len(picture), len(rows), dtype=picture.dtype)
    for i, share_down in ((0, 1 - down), (1, down)):
        for j, share_right in ((0, 1 - right), (1, right)):
            total = total + share_down * share_right * picture[:, top + i, left + j]
    return total
