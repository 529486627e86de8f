"""Shapes: objects made of two to five primitives as signed distances, each of a colour; their captions.

Distances are exact for each primitive (Hart, "Sphere tracing", 1996; the usual closed forms); that of an object is the
least of its parts', which is exact outside and a bound inside. An object lies within `REACH` of the origin.

Shapes: n points.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from unisono.data import derive_seed

COLOURS = {
    "red": (0.85, 0.13, 0.12),
    "orange": (0.95, 0.52, 0.08),
    "yellow": (0.93, 0.84, 0.15),
    "green": (0.16, 0.62, 0.20),
    "cyan": (0.15, 0.75, 0.80),
    "blue": (0.14, 0.28, 0.85),
    "purple": (0.52, 0.20, 0.72),
    "pink": (0.95, 0.52, 0.72),
}
"""Red, green and blue in [0, 1]; none is grey, white or black."""

SHAPES = ("sphere", "box", "cylinder", "torus", "capsule")
REACH = 0.95
FEWEST, MOST = 2, 5


@dataclass(frozen=True)
class Part:
    """A primitive: its shape, its colour, where its middle is, how it is turned, and its sizes.

    ``size`` is (radius,) of a sphere, the half sides of a box, (radius, half height) of a cylinder and of a capsule,
    (radius of the ring, radius of the tube) of a torus. Axes are z before turning; ``turn`` has the rows of a matrix.
    """

    shape: str
    colour: str
    middle: tuple[float, float, float]
    size: tuple[float, ...]
    turn: tuple[tuple[float, float, float], ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

    @property
    def reach(self) -> float:
        """How far its surface is from its middle at most."""
        match self.shape:
            case "box":
                return math.hypot(*self.size)
            case "cylinder":
                return math.hypot(*self.size)
            case _:
                return sum(self.size)

    def distance(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Return signed distances, below 0 inside."""
        local = (points - points.new_tensor(self.middle)) @ points.new_tensor(self.turn).T
        across, z = local[:, :2].norm(dim=-1), local[:, 2]
        match self.shape:
            case "sphere":
                return local.norm(dim=-1) - self.size[0]
            case "box":
                return _of_corner(local.abs() - local.new_tensor(self.size))
            case "cylinder":
                return _of_corner(torch.stack([across - self.size[0], z.abs() - self.size[1]], dim=-1))
            case "torus":
                return torch.hypot(across - self.size[0], z) - self.size[1]
            case "capsule":
                return torch.hypot(across, (z.abs() - self.size[1]).clamp(min=0)) - self.size[0]
        raise ValueError(f"unknown shape {self.shape!r}")


@dataclass(frozen=True)
class Shape:
    """An object: the union of its parts."""

    parts: tuple[Part, ...]

    @property
    def caption(self) -> str:
        """What is seen: its parts, the largest first."""
        return caption_of([(part.colour, part.shape) for part in sorted(self.parts, key=lambda part: -part.reach)])

    def distance(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Return signed distances to the nearest part, below 0 inside."""
        return torch.stack([part.distance(points) for part in self.parts]).amin(0)

    def nearest(self, points: Float[Tensor, "n 3"]) -> Int[Tensor, " n"]:
        """Return the number of the part that is nearest to each point."""
        return torch.stack([part.distance(points) for part in self.parts]).argmin(0)

    def colours(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Return the colour of the part that is nearest to each point, in [0, 1]."""
        return points.new_tensor([COLOURS[part.colour] for part in self.parts])[self.nearest(points)]

    def normals(self, points: Float[Tensor, "n 3"], step: float = 1e-4) -> Float[Tensor, "n 3"]:
        """Return outward unit normals at points of the surface, by differences over a tetrahedron."""
        corners = points.new_tensor([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]])
        near = (points[None] + step * corners[:, None]).flatten(0, 1)
        slope = (self.distance(near).view(4, -1)[..., None] * corners[:, None]).sum(0)
        return slope / slope.norm(dim=-1, keepdim=True).clamp(min=1e-12)


def caption_of(parts: Sequence[tuple[str, str]]) -> str:
    """Return a caption of (colour, shape) pairs: ``a red sphere, an orange box and a blue torus``."""
    named = [f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {shape}" for colour, shape in parts]
    return f"{', '.join(named[:-1])} and {named[-1]}" if len(named) > 1 else named[0]


def make_shape(number: int, seed: int = 0) -> Shape:
    """Return the object of a number: two to five parts that touch, of different colours, scaled to `REACH`."""
    draws = np.random.default_rng(derive_seed("views", seed, number))
    count = int(draws.integers(FEWEST, MOST + 1))
    colours = draws.permutation(list(COLOURS))[:count]
    parts: list[Part] = []
    for colour in colours:
        shape = str(draws.choice(SHAPES))
        middle = np.zeros(3)
        scale = draws.uniform(0.35, 0.55) if not parts else draws.uniform(0.2, 0.4)
        if parts:  # on the surface of an earlier part, about
            other = parts[int(draws.integers(len(parts)))]
            way = draws.normal(size=3)
            middle = np.array(other.middle) + way / np.linalg.norm(way) * (0.6 * other.reach + 0.5 * scale)
        size = {
            "sphere": (scale,),
            "box": tuple(scale * draws.uniform(0.5, 0.9, 3)),
            "cylinder": (scale * draws.uniform(0.4, 0.8), scale * draws.uniform(0.5, 1.0)),
            "torus": (scale * 0.8, scale * draws.uniform(0.22, 0.4)),
            "capsule": (scale * draws.uniform(0.3, 0.5), scale * draws.uniform(0.5, 0.9)),
        }[shape]
        parts.append(Part(shape, str(colour), _plain(middle), tuple(map(float, size)), _turn(draws)))
    return _fitted(parts)


def _fitted(parts: Sequence[Part]) -> Shape:
    """The parts moved and scaled so that the balls round them just fit into the ball of `REACH`."""
    middles, reaches = np.array([part.middle for part in parts]), np.array([part.reach for part in parts])
    middle = middles.mean(0)
    for turn in range(2, 200):  # towards the ball that reaches farthest, less each time (Badoiu and Clarkson 2003)
        away = middles - middle
        far = int((np.linalg.norm(away, axis=1) + reaches).argmax())
        middle = middle + away[far] / turn
    scale = REACH / (np.linalg.norm(middles - middle, axis=1) + reaches).max()
    return Shape(
        tuple(
            replace(
                part,
                middle=_plain(scale * (np.array(part.middle) - middle)),
                size=tuple(float(scale * length) for length in part.size),
            )
            for part in parts
        )
    )


def _turn(draws: np.random.Generator) -> tuple[tuple[float, float, float], ...]:
    """A rotation, uniform over all: of a unit quaternion."""
    w, x, y, z = (q := draws.normal(size=4)) / np.linalg.norm(q)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return tuple(_plain(row) for row in rows)


def _plain(numbers: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(number) for number in numbers)
    return x, y, z


def _of_corner(beyond: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """The distance to a corner's faces: of how far a point is beyond each."""
    return beyond.clamp(min=0).norm(dim=-1) + beyond.amax(-1).clamp(max=0)
