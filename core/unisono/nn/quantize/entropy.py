"""Entropy: of the mean of soft assignments to codes, over all ranks, in slabs so that the assignments are never all
there.

Shapes: n vectors, k codes.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from unisono.errors import UnisonoError
from unisono.nn.quantize.base import total
from unisono.peers import num_peers

SLAB = 2**22
"""Numbers of one slab: 16 MiB."""


SMALLEST = 1e-20


def check_temperature(temperature: float) -> None:
    """Raise ``UnisonoError`` unless a temperature is above 0."""
    if not 0 < temperature < math.inf:
        raise UnisonoError(
            f"temperature={temperature} must be above 0", code="range", path="temperature", value=temperature
        )


def slabs(n: int, width: int) -> list[int]:
    """Return how many of ``n`` rows of ``width`` numbers each slab takes."""
    rows = max(1, SLAB // max(width, 1))
    return [min(rows, n - first) for first in range(0, n, rows)] or [0]


def summed(
    assignment: Callable[[Tensor], Float[Tensor, "n k"]], x: Float[Tensor, "n d"], num_codes: int
) -> Float[Tensor, "k"]:
    """Return the sum of ``assignment(x)`` over rows; slabs are computed again for the gradient."""
    parts = x.split(slabs(len(x), num_codes))
    found = [checkpoint(lambda part: assignment(part).sum(0), part, use_reentrant=False) for part in parts]
    return torch.stack(found).sum(0)


def entropy_of_mean(sums: Float[Tensor, "k"], count: int, together: bool) -> Float[Tensor, ""]:
    """Return the entropy in nats of the mean assignment, of all ranks where ``together``.

    Its gradient is each rank's part, times the number of ranks, whose gradients are averaged.
    """
    number = torch.tensor(float(count), device=sums.device, dtype=torch.float64)
    if together:
        ranks, everywhere, number = num_peers(), total(sums.detach().clone()), total(number)
        sums = everywhere + ranks * (sums - sums.detach())
    mean = sums / number.clamp(min=1).to(sums)
    return -(mean * mean.clamp(min=SMALLEST).log()).sum()  # the slope of x · log x is endless at 0
