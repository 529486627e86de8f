"""Shapes: flat shapes of one colour as exact outlines, for made scenes.

A shape is a polygon of radius 1 round its middle; curves have as many vertices as are needed to be within 0.001 of it.
"""

import functools
import math

import numpy as np
from jaxtyping import Float

from unisono_outline.geometry.polygon import Vertices

CURVE = 96
"""Vertices of a circle."""
COLOURS = {
    "red": (214, 40, 40),
    "orange": (244, 140, 6),
    "yellow": (240, 208, 30),
    "green": (56, 150, 60),
    "blue": (36, 84, 210),
    "purple": (134, 60, 180),
    "brown": (122, 76, 40),
    "black": (24, 24, 28),
}


def _corners(count: int, inner: float = 1.0) -> Vertices:
    """Corners of a regular polygon, or of a star whose inner corners lie at ``inner``."""
    points = count if inner == 1.0 else 2 * count
    angle = 2 * math.pi * np.arange(points) / points - math.pi / 2
    radius = np.where(np.arange(points) % 2, inner, 1.0)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _cross() -> Vertices:
    a, b = 0.32, math.sqrt(1 - 0.32**2)
    return np.array(
        [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)]
    )


def _heart() -> Vertices:
    t = 2 * math.pi * np.arange(CURVE) / CURVE
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y], axis=1) / 17


def _moon() -> Vertices:
    """A disc of radius 1 without the disc of radius 0.8 whose middle lies 0.5 to its right."""
    apart, radius = 0.5, 0.8
    x = (1 + apart**2 - radius**2) / (2 * apart)
    outer, inner = math.acos(x), math.acos((x - apart) / radius)
    far = np.linspace(outer, 2 * math.pi - outer, CURVE)
    near = np.linspace(2 * math.pi - inner, inner, CURVE)[1:-1]
    return np.concatenate(
        [
            np.stack([np.cos(far), np.sin(far)], axis=1),
            np.stack([apart + radius * np.cos(near), radius * np.sin(near)], axis=1),
        ]
    )


SHAPES = {
    "circle": lambda: _corners(CURVE),
    "square": lambda: _corners(4),
    "triangle": lambda: _corners(3),
    "pentagon": lambda: _corners(5),
    "star": lambda: _corners(5, inner=0.42),
    "cross": _cross,
    "heart": _heart,
    "moon": _moon,
}


@functools.cache
def unit_shape(name: str) -> Float[np.ndarray, "n 2"]:
    """Return the outline of a shape of radius 1; not to be written to."""
    outline = SHAPES[name]()
    outline.setflags(write=False)
    return outline


def shape_outline(name: str, middle: tuple[float, float], radius: float, turn: float) -> Vertices:
    """Return the outline of a shape in place; ``turn`` in radians, clockwise as seen."""
    cos, sin = math.cos(turn), math.sin(turn)
    return unit_shape(name) @ np.array([[cos, sin], [-sin, cos]]) * radius + np.asarray(middle)
