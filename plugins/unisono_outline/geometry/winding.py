"""Winding: the angle sum of points against outlines, and outlines compared up to their start (PVD, arXiv:2303.07216).

The signed angles under which a point sees the edges of a closed line add up to 2π for each time that the line winds
round the point: 1 turn inside, 0 outside, 2 where a contour that crosses itself winds twice.

Exact sums are whole numbers. Moving a vertex moves two angles by opposite amounts, so that their gradient is exactly
zero: as it stands the sum cannot be learnt from. ``softness`` s adds s² to the cosine side of each angle,
atan2(cross, dot + s²). A point that is far from the line, by s, sees almost the whole number; near the line the sum
goes from 0 to 1 smoothly over a few s, and there it has a gradient. It also bounds the angle at a vertex, where atan2
is singular.

Shapes: b batch, m points, n vertices.
"""

import torch
from jaxtyping import Float
from torch import Tensor

TINY = 1e-12
"""Of squared distances: below it an angle is undefined, and counts as 0."""


def angle_sum(
    points: Float[Tensor, "b m 2"], vertices: Float[Tensor, "b n 2"], softness: float = 0.0
) -> Float[Tensor, "b m"]:
    """Return the angle sums of points in turns; positive where the line is clockwise as seen (y is down).

    With ``softness`` 0 they are winding numbers up to rounding; a point on a vertex sees its two edges under angle 0.
    """
    seen = vertices[:, None] - points[:, :, None]  # [b, m, n, 2]
    after = seen.roll(-1, dims=2)
    cross = seen[..., 0] * after[..., 1] - seen[..., 1] * after[..., 0]
    dot = (seen * after).sum(-1) + softness**2
    undefined = cross.square() + dot.square() < TINY**2
    angle = torch.atan2(torch.where(undefined, 0.0, cross), torch.where(undefined, 1.0, dot))
    return angle.sum(-1) / (2 * torch.pi)


def nearest_shift(made: Float[Tensor, "b n 2"], wanted: Float[Tensor, "b n 2"]) -> Float[Tensor, "b n"]:
    """Return squared distances of vertices to those wanted, by the shift of the start that makes their mean least."""
    n = made.shape[1]
    apart = (made[:, :, None] - wanted[:, None]).square().sum(-1)  # [b, n, n]
    place = torch.arange(n, device=made.device)
    shifted = (place[:, None] + place) % n  # [shift, vertex]
    each = apart[:, place, shifted]  # [b, shift, vertex]
    best = each.mean(-1).argmin(-1)
    return each[torch.arange(len(made), device=made.device), best]
