"""Facts: what a restorer must know before it sees a picture."""

from dataclasses import dataclass

from unisono.data import Facts
from unisono.errors import DataError

__all__ = ["RestorerFacts"]


@dataclass(frozen=True, kw_only=True)
class RestorerFacts(Facts):
    """Facts of a restorer.

    Attributes:
        size: pixels a side of the pictures that its prior knows.
    """

    size: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 4 <= self.size <= 4096:
            raise DataError(
                f"facts: size={self.size} must be from 4 to 4096 pixels", code="range", path="size", value=self.size
            )
