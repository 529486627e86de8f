"""Grammar: phrases that single out one thing of a scene, such as "the small red circle on the left".

::

    phrase = "the" [size] [colour] (name | "shape") [place]
    size   = "small" | "large"                       the thing's own
    place  = "on the left" | "on the right" | "at the top" | "at the bottom"

A phrase without a place must fit one thing alone. With a place, of several things that the rest fits it means the one
that lies furthest on that side, by ``MARGIN``; of a single one it must be true, that thing lying in the outer part of
the picture. A scene has no phrase for a thing that nothing singles out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

PLACES = {
    "on the left": (0, -1),
    "on the right": (0, 1),
    "at the top": (1, -1),
    "at the bottom": (1, 1),
}
"""Axis and direction of each."""
MARGIN = 0.1
"""Of the picture's side, by which the thing meant lies further out than the next."""
OUTER = 0.4
"""Share of the picture's side in which a single thing is said to be on that side."""
ANY = "shape"


@dataclass(frozen=True)
class Thing:
    """What phrases are about: a name, perhaps a colour, the word for its size, and its middle in sides."""

    name: str
    colour: str
    size: str
    middle: tuple[float, float]


def phrases_for(things: Sequence[Thing], target: int) -> list[str]:
    """Return all phrases that mean ``things[target]`` and nothing else, in a fixed order."""
    own = things[target]
    found = []
    for size, colour, name in product(*[(False, True)] * 3):
        if (colour and not own.colour) or (not name and not own.colour):  # "the shape" is said of shapes alone
            continue
        alike = [
            index
            for index, thing in enumerate(things)
            if (not size or thing.size == own.size)
            and (not colour or thing.colour == own.colour)
            and (not name or thing.name == own.name)
        ]
        words = [own.size] * size + [own.colour] * colour + [own.name if name else ANY]
        said = "the " + " ".join(words)
        if alike == [target]:
            found.append(said)
        found += [f"{said} {place}" for place in _true_places(things, alike, target)]
    return found


def _true_places(things: Sequence[Thing], alike: Sequence[int], target: int) -> Iterator[str]:
    """The places that mean the target among those that the rest of a phrase fits."""
    for place, (axis, sign) in PLACES.items():
        mine = sign * (things[target].middle[axis] - 0.5)
        others = [sign * (things[index].middle[axis] - 0.5) for index in alike if index != target]
        if mine >= max(others) + MARGIN if others else mine >= 0.5 - OUTER:
            yield place
