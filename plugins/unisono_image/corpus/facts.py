"""ImageFacts: what an image model must know of its pictures."""

from dataclasses import dataclass

from unisono.data import Facts
from unisono.errors import DataError


@dataclass(frozen=True, kw_only=True)
class ImageFacts(Facts):
    """Facts about pictures.

    Attributes:
        size: pixels a side.
        classes: names, in the order of their numbers.
        words: of the training captions, sorted.
        sample_captions: a few, for previews.
        held_out: ids of the pictures that are validated on, where the corpus has no test part of its own.
        count: of training pictures.
        background: what transparent pictures are laid on, red, green and blue from 0 to 255.
    """

    size: int
    classes: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    sample_captions: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    count: int | None = None
    background: tuple[int, int, int] = (255, 255, 255)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.size <= 65536:
            raise DataError(
                f"facts: size={self.size} must be from 1 to 65536 pixels", code="range", path="size", value=self.size
            )
        if not all(0 <= part <= 255 for part in self.background):
            raise DataError(
                f"facts: background={list(self.background)} must be three numbers from 0 to 255",
                code="range",
                path="background",
                value=list(self.background),
            )
