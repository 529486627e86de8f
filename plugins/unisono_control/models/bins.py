"""Action bins: numbers of an action as tokens, between the percentiles of the training actions (OpenVLA's rule).

Each number of an action is cut to the 1st and 99th percentile that the training data had (Kim et al., 2024, OpenVLA,
arXiv:2406.09246, §3.2) and becomes one of ``bins`` tokens of equal width; a token is read as the middle of its bin.
Difference: OpenVLA has 255 middles between 256 edges, here each of the bins has its own.

Shapes: a numbers of an action.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from unisono.errors import DataError, RequestError


@dataclass(frozen=True)
class ActionBins:
    """Bins between the lowest and highest value of each number of an action.

    A number that never changes (its lowest value is its highest) is always bin 0, and read as that value.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    bins: int

    def __post_init__(self):
        if self.bins < 2:
            raise DataError(f"bins={self.bins} must be at least 2", code="range", path="bins", value=self.bins)

    def encode(self, actions: Float[Tensor, "*b a"]) -> Int[Tensor, "*b a"]:
        """Return the bin of each number; raises ``DataError`` for another count of numbers, or one that is NaN."""
        low, width = self._edges(actions)
        if not bool(actions.isfinite().all()):
            raise DataError("an action holds NaN or infinity: drop that episode", code="value", path="actions")
        whole = ((actions.double() - low) / width).floor()
        whole = torch.where(self._constant(actions.device), 0.0, whole)
        return whole.clamp(0, self.bins - 1).long()

    def decode(self, tokens: Int[Tensor, "*b a"]) -> Float[Tensor, "*b a"]:
        """Return the middle of each bin, as float32; raises ``RequestError`` for a bin that there is not."""
        low, width = self._edges(tokens)
        wrong = tokens[(tokens < 0) | (tokens >= self.bins)]
        if len(wrong):
            raise RequestError(
                f"action token {int(wrong[0])}: the bins are numbered from 0 to {self.bins - 1}",
                code="range",
                path="tokens",
                value=int(wrong[0]),
            )
        middle = low + (tokens.double() + 0.5) * width
        return torch.where(self._constant(tokens.device), low, middle).float()

    def _edges(self, given: Tensor) -> tuple[Tensor, Tensor]:
        if given.shape[-1] != len(self.low):
            raise DataError(
                f"actions of {given.shape[-1]} numbers, the bins are of {len(self.low)}: give one of each",
                code="shape",
                path="actions",
                value=given.shape[-1],
            )
        low, high = (torch.tensor(v, dtype=torch.float64, device=given.device) for v in (self.low, self.high))
        # A width of 0 would divide by 0; what is constant is set apart by the callers.
        return low, torch.where(high > low, (high - low) / self.bins, 1.0)

    def _constant(self, device: torch.device) -> Tensor:
        return torch.tensor([low == high for low, high in zip(self.low, self.high, strict=True)], device=device)
