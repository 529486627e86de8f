"""Orders: a rank per position, known beforehand.

Low-discrepancy and locality-aware orders keep positions of one step far apart, so that what they do not
know of each other matters little.

Letters: l positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unisono.checks import is_whole
from unisono.errors import UnisonoError
from unisono.masked.canvas import Layout, check_grid


def left_to_right(length: int) -> Int[Tensor, " l"]:
    """0, 1, 2, …"""
    return torch.arange(length)


def halton_order(height: int, width: int) -> Int[Tensor, " l"]:
    """Cells of a grid in the order in which the 2-D Halton sequence (bases 2 and 3) first visits them.

    Halton-MaskGIT (arXiv:2503.17076).
    """
    check_grid(height, width, 1)
    rank = [-1] * (height * width)
    seen, n = 0, 0
    while seen < len(rank):
        # bases 2 and 3 share no factor, so every cell is visited in the end
        cell = int(_radical_inverse(n, 2) * height) * width + int(_radical_inverse(n, 3) * width)
        if rank[cell] < 0:
            rank[cell] = seen
            seen += 1
        n += 1
    return torch.tensor(rank)


def locality_aware(layout: Layout, sizes: Sequence[int], start: int = 0) -> Int[Tensor, " l"]:
    """Positions near what is known and far from each other within a step (LPD, arXiv:2507.01957).

    Step i takes `sizes[i]` positions, one at a time: among the nearer half of the open positions by their
    distance to what earlier steps took (all, in the first step), the one farthest from what this step has
    taken already; of equals the lowest. Distances are those of the layout's coordinates. Published with
    tuned thresholds; here "the nearer half" is the only one.

    Raises:
        UnisonoError: if the sizes do not add up to the layout's positions.
    """
    n = layout.length
    if not all(is_whole(size, 1) for size in sizes):
        raise UnisonoError(
            f"steps of {list(sizes)} positions: give whole numbers of at least 1",
            code="range",
            path="sizes",
            value=list(sizes),
        )
    if sum(sizes) != n:
        raise UnisonoError(
            f"steps of {list(sizes)} positions add up to {sum(sizes)}: this layout has {n}",
            code="shape",
            path="sizes",
            value=list(sizes),
        )
    if not 0 <= start < max(n, 1):
        raise UnisonoError(f"start {start}: a position from 0 to {n - 1}", code="range", path="start", value=start)
    coord = layout.coord.double()
    distance = torch.cdist(coord, coord)
    order: list[int] = []
    for i, size in enumerate(sizes):
        before, now = list(order), []
        for _ in range(size):
            left = torch.tensor([at for at in range(n) if at not in set(order)])
            if i == 0 and not now:
                chosen = start
            else:
                near = _nearer_half(distance, left, before) if before else left
                chosen = int(near[distance[near][:, now].amin(1).argmax()]) if now else int(near[0])
            now.append(chosen)
            order.append(chosen)
    rank = torch.empty(n, dtype=torch.int64)
    rank[torch.tensor(order, dtype=torch.int64)] = torch.arange(n)
    return rank


def _nearer_half(distance: Float[Tensor, "l l"], left: Int[Tensor, " n"], known: list[int]) -> Int[Tensor, " m"]:
    near = distance[left][:, known].amin(1)
    order = near.argsort(stable=True)
    return left[order[: max(1, -(-len(left) // 2))]]


def _radical_inverse(n: int, base: int) -> float:
    """The digits of n mirrored at the point: 6 = 110₂ → 0.011₂."""
    numerator, denominator = 0, 1
    while n:
        n, digit = divmod(n, base)
        numerator, denominator = numerator * base + digit, denominator * base
    return numerator / denominator
