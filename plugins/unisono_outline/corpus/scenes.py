"""Scenes: small pictures of a few things that do not touch, with the exact outline of each and a phrase for one.

A scene is a function of its purpose and number alone: scene 3 of "train" is the same on every machine, and no scene of
another purpose. Things are coloured shapes, or emoji where sprites are given.

Shapes: s pixels a side, n vertices.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from jaxtyping import UInt8
from unisono.data import derive_seed

from unisono_outline.corpus.emoji import Sprite
from unisono_outline.corpus.grammar import Thing, phrases_for
from unisono_outline.corpus.shapes import COLOURS, SHAPES, shape_outline
from unisono_outline.geometry.polygon import Vertices
from unisono_outline.geometry.raster import coverage

RADII = {"small": (0.1, 0.13), "large": (0.18, 0.23)}
"""Of things by the word for their size, in sides of the picture."""
GAP = 0.02
"""Between the circles around two things, and to the border."""
TRIES = 60
KINDS = tuple(f"{colour} {name}" for colour, name in product(COLOURS, SHAPES))
"""Colour and shape of all that is made."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture uint8 [3, s, s], its things and their outlines in sides, and a phrase that means ``target``."""

    picture: UInt8[np.ndarray, "3 s s"]
    things: tuple[Thing, ...]
    outlines: tuple[Vertices, ...]
    target: int
    phrase: str

    @property
    def outline(self) -> Vertices:
        """Of what the phrase means."""
        return self.outlines[self.target]


@dataclass(frozen=True, eq=False)
class SceneMaker:
    """Makes scenes.

    Args:
        size: pixels a side.
        least, most: things in a scene; fewer where one finds no place.
        unseen: kinds (of ``KINDS``) that scenes do not show, but those that are asked to.
        sprites: emoji instead of shapes.
    """

    size: int = 64
    least: int = 2
    most: int = 4
    unseen: tuple[str, ...] = ()
    sprites: tuple[Sprite, ...] = ()
    kinds: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", tuple(kind for kind in KINDS if kind not in self.unseen))

    def __call__(self, purpose: str, number: int, unseen: bool = False) -> Scene:
        """Return a scene; with ``unseen`` the phrase means a thing of a kind that other scenes do not show."""
        draw = np.random.default_rng(derive_seed("scene", purpose, number))
        while True:
            made = self._attempt(draw, unseen)
            if made is not None:
                return made

    def _attempt(self, draw: np.random.Generator, unseen: bool) -> Scene | None:
        """Draw a scene; None where nothing singles out a thing that may be asked for."""
        things: list[Thing] = []
        outlines: list[Vertices] = []
        taken: list[tuple[float, float, float]] = []
        level = draw.uniform(195, 250) + draw.normal(0, 4, (3, 1, 1))
        picture = np.broadcast_to(level, (3, self.size, self.size)).copy()
        for index in range(int(draw.integers(self.least, self.most + 1))):
            word = str(draw.choice(list(RADII)))
            radius = draw.uniform(*RADII[word])
            place = _free_place(draw, radius, taken)
            if place is None:
                continue
            taken.append((*place, radius))
            if self.sprites:
                sprite = self.sprites[int(draw.integers(len(self.sprites)))]
                outline, place = sprite.paste(picture, place, radius)
                name, colour = sprite.name, ""
            else:
                kinds = self.unseen if unseen and index == 0 else self.kinds
                colour, name = kinds[int(draw.integers(len(kinds)))].split(" ")
                outline = shape_outline(name, place, radius, draw.uniform(-np.pi, np.pi))
                _paint(picture, outline, np.array(COLOURS[colour]) + draw.normal(0, 8, 3))
            things.append(Thing(name, colour, word, place))
            outlines.append(outline)
        if len(things) < min(self.least, 2):
            return None
        order = [0] if unseen and not self.sprites else draw.permutation(len(things)).tolist()
        for target in order:
            known = phrases_for(things, target)
            if known:
                phrase = known[int(draw.integers(len(known)))]
                noisy = picture + 3 * draw.standard_normal(picture.shape, np.float32)
                pixels = noisy.round().clip(0, 255).astype(np.uint8)
                return Scene(pixels, tuple(things), tuple(outlines), target, phrase)
        return None


def _free_place(
    draw: np.random.Generator, radius: float, taken: Sequence[tuple[float, float, float]]
) -> tuple[float, float] | None:
    """A place for a circle that touches neither the border nor another circle; None where none was found."""
    for _ in range(TRIES):
        x, y = draw.uniform(radius + GAP, 1 - radius - GAP, 2).tolist()
        if all(np.hypot(x - a, y - b) > radius + other + GAP for a, b, other in taken):
            return x, y
    return None


def _paint(picture: np.ndarray, outline: Vertices, colour: np.ndarray) -> None:
    """Lay a flat colour over what an outline in sides holds."""
    points = outline * picture.shape[1]
    low = np.floor(points.min(axis=0)).astype(int)
    high = np.ceil(points.max(axis=0)).astype(int)
    width, height = high - low
    share = coverage(points - low, height, width)
    rows, columns = slice(low[1], high[1]), slice(low[0], high[0])
    picture[:, rows, columns] += share * (colour[:, None, None] - picture[:, rows, columns])
