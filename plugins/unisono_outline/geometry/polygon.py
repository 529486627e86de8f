"""Polygon: an outline as its vertices, in one direction, from one start, at equal distances along the line.

Points are (x, y), x to the right and y down, in pixels or in shares of the picture's side. The line goes on from the
last vertex to the first.

Shapes: n vertices.
"""

import numpy as np
from jaxtyping import Float

Vertices = Float[np.ndarray, "n 2"]


def signed_area(vertices: Vertices) -> float:
    """Return the area by the shoelace formula; positive where the line is clockwise as seen (y is down)."""
    x, y = np.asarray(vertices, np.float64).T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


def canonical(vertices: Vertices) -> Vertices:
    """Return the same outline clockwise as seen, from its top-most vertex on; of several the left-most.

    Where an edge lies level at the top, a small turn of the object moves the start by that edge: no convention is free
    of such jumps, which is why training can compare up to a shift (``nearest_shift``).
    """
    points = np.asarray(vertices, np.float64)
    if signed_area(points) < 0:
        points = points[::-1]
    start = np.lexsort((points[:, 0], points[:, 1]))[0]
    return np.roll(points, -start, axis=0)


def resampled(vertices: Vertices, count: int) -> Float[np.ndarray, "count 2"]:
    """Return ``count`` points at equal distances along the line, the first vertex first.

    Corners between two of them are cut; the polygon through the points lies within half a distance of the line.
    """
    points = np.asarray(vertices, np.float64)
    closed = np.concatenate([points, points[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    places = np.arange(count) * (along[-1] / count)
    return np.stack([np.interp(places, along, closed[:, axis]) for axis in (0, 1)], axis=1)


def centre_of(vertices: Vertices) -> Float[np.ndarray, " 2"]:
    """Return the mean of the vertices: of points at equal distances, the middle of the line."""
    return np.asarray(vertices, np.float64).mean(axis=0)


def box_of(vertices: Vertices) -> Float[np.ndarray, "4 2"]:
    """Return the corners of the box around an outline, clockwise from the top left."""
    (left, top), (right, bottom) = np.min(vertices, axis=0), np.max(vertices, axis=0)
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
