"""ViewFacts: what a model must know of its views."""

from dataclasses import dataclass, field

from unisono.data import Facts
from unisono.errors import DataError

from unisono_views.cameras import Cameras

MOST_PIXELS = 1024
BACKGROUND = (255, 255, 255)
"""What lies behind objects, and what transparent pictures are laid on: red, green and blue."""


@dataclass(frozen=True, kw_only=True)
class ViewFacts(Facts):
    """Facts about sets of views.

    Attributes:
        size: pixels a side of a view.
        cameras: what the views are seen by, in the order of the views.
        words: of the training captions, sorted; none where there are no captions.
        sample_captions: a few, for what is shown of the model.
        held_out: ids of the objects that are validated on.
        count: of training objects.
    """

    size: int
    cameras: Cameras = field(default_factory=Cameras)
    words: tuple[str, ...] = ()
    sample_captions: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    count: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.size <= MOST_PIXELS:
            raise DataError(
                f"facts: size={self.size} must be from 1 to {MOST_PIXELS} pixels",
                code="range",
                path="size",
                value=self.size,
            )
