"""Calibration: whether what a recogniser is sure of is right as often as it says (expected calibration error).

Guo et al., arXiv:1706.04599: answers are put into bins by their confidence; in each the mean confidence is held against
the share that is right, and the differences are averaged by how many answers a bin has.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Calibration", "right_ones"]

BINS = 10


@dataclass
class Calibration:
    """Answers with their confidences, in [0, 1], and whether they are right."""

    sure: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)

    def add(self, sure: Sequence[float], right: Sequence[bool]) -> None:
        """Take more answers in."""
        self.sure += sure
        self.right += right

    @property
    def error(self) -> float | None:
        """The expected calibration error, in [0, 1]; None without answers."""
        if not self.sure:
            return None
        sure, right = np.array(self.sure), np.array(self.right, float)
        bins = np.minimum((sure * BINS).astype(int), BINS - 1)
        gaps = [abs((sure[bins == b] - right[bins == b]).sum()) for b in range(BINS)]
        return float(sum(gaps) / len(sure))

    @property
    def mean_confidence(self) -> float | None:
        """The mean confidence, None without answers."""
        return float(np.mean(self.sure)) if self.sure else None

    @property
    def accuracy(self) -> float | None:
        """The share that is right, None without answers."""
        return float(np.mean(self.right)) if self.right else None


def right_ones(reference: Sequence[Any], heard: Sequence[Any]) -> list[bool]:
    """Return, for each unit that was heard, whether it stands in the reference, by an alignment of fewest edits."""
    table = np.zeros((len(reference) + 1, len(heard) + 1), np.int64)
    table[:, 0], table[0] = np.arange(len(reference) + 1), np.arange(len(heard) + 1)
    for i, unit in enumerate(reference, 1):
        for j, other in enumerate(heard, 1):
            table[i, j] = min(table[i - 1, j - 1] + (unit != other), table[i - 1, j] + 1, table[i, j - 1] + 1)
    right = [False] * len(heard)
    i, j = len(reference), len(heard)
    while i and j:
        same = reference[i - 1] == heard[j - 1]
        if table[i, j] == table[i - 1, j - 1] + (not same):
            i, j = i - 1, j - 1
            right[j] = same
        elif table[i, j] == table[i - 1, j] + 1:
            i -= 1
        else:
            j -= 1
    return right
