"""Facts: what a restorer and a prior of kernels must know before they see anything."""

from dataclasses import dataclass

from unisono.data import Facts
from unisono.errors import DataError

__all__ = ["KernelFacts", "RestorerFacts"]


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


@dataclass(frozen=True, kw_only=True)
class KernelFacts(Facts):
    """Facts of a prior of kernels.

    Attributes:
        size: pixels a side, odd.
    """

    size: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 3 <= self.size <= 255 or self.size % 2 == 0:
            raise DataError(
                f"facts: size={self.size} must be odd, from 3 to 255", code="range", path="size", value=self.size
            )
