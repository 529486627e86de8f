"""OutlineFacts: what an outline model must know of its pictures, phrases and outlines."""

from dataclasses import dataclass

from unisono.data import Facts
from unisono.errors import DataError

SMALLEST, LARGEST = 16, 1024
"""Pixels a side of the pictures that models see."""
FEWEST, MOST = 8, 512
"""Vertices of an outline that is learnt."""


@dataclass(frozen=True, kw_only=True)
class OutlineFacts(Facts):
    """Facts about pictures with outlines.

    Attributes:
        size: pixels a side of the pictures that the model sees.
        num_vertices: of each outline, at equal distances along it.
        spread: how far vertices lie from the middle of theirs, root mean square of each coordinate, in sides.
        mean_outline: the mean of the training outlines, vertex by vertex, in sides.
        words: of the training phrases, sorted.
        sample_phrases: a few, for previews.
        unseen: what was kept out of the training scenes, such as ("red star", "blue moon").
        held_out: ids of the pictures that are validated on, where they are a user's own.
        count: of training items.
    """

    size: int
    num_vertices: int
    spread: float
    mean_outline: tuple[tuple[float, float], ...]
    words: tuple[str, ...]
    sample_phrases: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    count: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self.size, self.num_vertices, "facts: ", "")
        if len(self.mean_outline) != self.num_vertices:
            raise DataError(
                f"facts: mean_outline has {len(self.mean_outline)} vertices, num_vertices is {self.num_vertices}",
                code="shape",
                path="mean_outline",
                value=len(self.mean_outline),
            )
        if self.spread <= 0:
            raise DataError(
                f"facts: spread={self.spread} must be above 0", code="range", path="spread", value=self.spread
            )


def check_sizes(size: int, num_vertices: int, before: str, key: str) -> None:
    """Raise ``DataError`` for sizes out of bounds; ``key`` is what stands before their names in its path."""
    bounds = {"size": (size, SMALLEST, LARGEST), "num_vertices": (num_vertices, FEWEST, MOST)}
    for name, (value, least, most) in bounds.items():
        if not least <= value <= most:
            message = f"{before}{key}{name}={value} must be from {least} to {most}"
            raise DataError(message, code="range", path=f"{key}{name}", value=value)
