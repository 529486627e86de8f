"""Render: objects as pictures and depths, by sphere tracing (Hart 1996), many rays at once on a CPU.

Light comes from one side and from everywhere; it does not depend on who looks, so that a point has one colour in all
views. Behind an object all is white.

Shapes: v views, s pixels a side, n rays.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unisono_views.cameras import Cameras
from unisono_views.shapes import Shape

LIGHT = (0.36, 0.27, 0.89)
AMBIENT = 0.45
SAMPLES = 2
"""Rays a side of a pixel; their mean is its colour."""

STEPS, NEAR = 96, 1e-4
Distance = Callable[[Tensor], Tensor]


def render(
    shape: Shape, cameras: Cameras, size: int, samples: int = SAMPLES
) -> tuple[Float[Tensor, "v 3 s s"], Float[Tensor, "v s s"]]:
    """Return pictures in [0, 1] and depths: the ray's length through the middle of each pixel, infinite behind."""
    origins, directions = cameras.rays(samples * size)
    shaded = lit(shape, origins, directions.float())
    return averaged(shaded, samples), depth(shape, cameras, size)


def depth(shape: Shape, cameras: Cameras, size: int) -> Float[Tensor, "v s s"]:
    """Return how long the ray through the middle of each pixel is, in float64; infinite where it meets nothing."""
    origins, directions = cameras.rays(size)
    starts = origins[:, None, None].expand_as(directions).reshape(-1, 3)
    return trace(shape.distance, starts, directions.reshape(-1, 3)).view(directions.shape[:-1])


def lit(shape: Shape, origins: Float[Tensor, "v 3"], directions: Float[Tensor, "v s s 3"]) -> Float[Tensor, "v s s 3"]:
    """Return the colour that each ray meets."""
    starts = origins.to(directions)[:, None, None].expand_as(directions).reshape(-1, 3)
    ways = directions.reshape(-1, 3)
    lengths = trace(shape.distance, starts, ways)
    hit = lengths.isfinite()
    points = starts[hit] + lengths[hit, None] * ways[hit]
    colours = torch.ones_like(ways)
    colours[hit] = shape.colours(points) * light(shape.normals(points))[:, None]
    return colours.view(directions.shape)


def trace(
    distance: Distance, starts: Float[Tensor, "n 3"], ways: Float[Tensor, "n 3"], reach: float = 1.0
) -> Float[Tensor, " n"]:
    """Return how far along each ray a surface within ``reach`` of the origin is; infinite where there is none.

    A ray goes on by the distance to the nearest surface until that is below `NEAR`. ``distance`` is below 0 inside.
    """
    half = (starts * ways).sum(-1)
    inside = half.square() - starts.square().sum(-1) + reach**2  # of the ball, as half the discriminant
    found = torch.full_like(half, torch.inf)
    root = inside.clamp(min=0).sqrt()
    at, end = (-half - root).clamp(min=0), -half + root
    open_ = (inside > 0).nonzero()[:, 0]
    at, end = at[open_], end[open_]
    for _ in range(STEPS):
        gap = distance(starts[open_] + at[:, None] * ways[open_])
        there = gap < NEAR
        found[open_[there]] = at[there]
        at = at + gap
        on = ~there & (at < end)
        open_, at, end = open_[on], at[on], end[on]
        if not len(open_):
            break
    return found


def light(normals: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Return how bright surfaces of these normals are, from `AMBIENT` to 1."""
    towards = normals.new_tensor(LIGHT)
    return AMBIENT + (1 - AMBIENT) * (normals @ (towards / towards.norm())).clamp(min=0)


def averaged(shaded: Float[Tensor, "v t t 3"], samples: int) -> Float[Tensor, "v 3 s s"]:
    """Return the mean colour of each pixel's rays."""
    return torch.nn.functional.avg_pool2d(shaded.permute(0, 3, 1, 2), samples).clamp(0, 1)


def foreground(depths: Float[Tensor, "v s s"]) -> Bool[Tensor, "v s s"]:
    """Return where rays meet something."""
    return depths.isfinite()
