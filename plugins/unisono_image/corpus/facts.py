"""ImageFacts: what an image model must know of its pictures."""

from dataclasses import dataclass

from unisono.data import Facts


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
