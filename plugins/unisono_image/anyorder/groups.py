"""Groups: places of a grid that are filled together, near the known, far from each other (LPD, arXiv:2507.01957).

Places of one step do not know of each other's tokens, so they should say little of one another; and each should have
known neighbours that say much of it. The published order, for a group of a given size:

1. The nearness of an open place is the sum of 1 / distance over its known neighbours, of the eight around it.
2. Places with nearness of at least 1 are taken in falling nearness, each only if no place of the group is within the
   repulsion radius in both directions (Chebyshev distance).
3. What is missing is taken one by one from the others: always the place farthest from those of the group; of equals the
   nearer to what is known, those of step 2 last.

Equals come in random order, and a group of which nothing is near, as the first, begins with a random place. Difference
from the released code: places that are given count as known from the start, and sizes are then those of what is left.

This is not `unisono.masked.locality_aware`, which takes the nearer half of all open places and then the farthest.

Shapes: n places of a grid. Masks: True = known.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor
from unisono.errors import UnisonoError

PUBLISHED_SIZES: dict[int, tuple[int, ...]] = {
    8: (1, 15, 24, 32, 40, 45, 49, 50),
    12: (1, 7, 11, 15, 19, 22, 25, 28, 30, 32, 33, 33),
    16: (1, 4, 6, 8, 11, 13, 15, 17, 19, 20, 22, 23, 24, 24, 24, 25),
    20: (1, 2, 4, 5, 7, 8, 10, 11, 12, 14, 15, 16, 17, 18, 18, 19, 19, 20, 20, 20),
    24: (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 11, 12, 13, 14, 14, 14, 15, 15, 16, 16, 16, 17, 17),
    32: (1, 1, 2, 2, 3, 3, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 10, 11, 11, 11, 11, *[12] * 8),
}
"""Sizes of groups by steps, of 256 places."""

ORDERS = 256
"""How many orders of a grid there are; published, too, is a list made beforehand, from which batches take theirs."""


@lru_cache(maxsize=512)
def group_sizes(num_places: int, num_steps: int) -> tuple[int, ...]:
    """Return sizes of groups: published ones where there are some for these steps, else 1 − cos, which they come near.

    Sums of the published sizes are scaled to ``num_places``. Every group has a place; where steps are more than places,
    each place is a group.
    """
    if num_steps < 1:
        raise UnisonoError(f"{num_steps} steps: give at least 1", code="range", path="num_steps", value=num_steps)
    steps = min(num_steps, num_places)
    if steps in PUBLISHED_SIZES:
        done = np.cumsum(PUBLISHED_SIZES[steps]) * num_places / 256
    else:
        done = num_places * (1 - np.cos(np.pi / 2 * np.arange(1, steps + 1) / max(steps, 1)))
    sums, last = [], 0
    for i, share in enumerate(done):
        last = min(max(int(share + 0.5), last + 1), num_places - (steps - 1 - i))
        sums.append(last)
    return tuple(int(size) for size in np.diff([0, *sums]))


def grouped_order(
    height: int,
    width: int,
    sizes: Sequence[int],
    *,
    radius: int = 2,
    seed: int = 0,
    known: Sequence[int] = (),
) -> list[int]:
    """Return the places that are not ``known``, in the published order: those of the first group, of the second, ….

    Raises:
        UnisonoError: if the sizes do not add up to the open places.
    """
    n = height * width
    taken = np.zeros(n, dtype=bool)
    taken[list(known)] = True
    open_places = n - int(taken.sum())
    if sum(sizes) != open_places or min(sizes, default=1) < 1:
        raise UnisonoError(
            f"groups of {list(sizes)} places add up to {sum(sizes)}: {open_places} are open, and each group has one",
            code="shape",
            path="sizes",
            value=list(sizes),
        )
    if radius < 0:
        raise UnisonoError(f"radius {radius}: give at least 0", code="range", path="radius", value=radius)
    rng = np.random.default_rng(seed)
    place = np.stack(np.divmod(np.arange(n), width), 1)
    order: list[int] = []
    for size in sizes:
        near = nearness(taken.reshape(height, width)).ravel()
        candidates = rng.permutation(np.flatnonzero(~taken))
        candidates = candidates[np.argsort(-near[candidates], kind="stable")]
        first, rest = candidates[near[candidates] >= 1], candidates[near[candidates] < 1]
        group: list[int] = []
        for at in first:
            if len(group) < size and (not group or np.abs(place[group] - place[at]).max(1).min() > radius):
                group.append(int(at))
        rest = np.concatenate([rest, first[~np.isin(first, group)]])
        while len(group) < size:
            pick = 0
            if group:
                pick = int(np.square(place[rest][:, None] - place[group]).sum(-1).min(1).argmax())
            group.append(int(rest[pick]))
            rest = np.delete(rest, pick)
        taken[group] = True
        order += group
    return order


def nearness(known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return of each place of a grid the sum of 1 / distance over its known neighbours, of the eight around it."""
    height, width = known.shape
    wide = np.pad(known.astype(float), 1)
    near = np.zeros((height, width))
    for row in (-1, 0, 1):
        for column in (-1, 0, 1):
            if row or column:
                there = wide[1 + row : 1 + row + height, 1 + column : 1 + column + width]
                near += there / np.hypot(row, column)
    return near


def groups_of_row(
    height: int,
    width: int,
    num_steps: int,
    *,
    radius: int = 2,
    seed: int = 0,
    near: bool = True,
    known: Sequence[int] = (),
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """Return each place's group and its rank in the order, those of a row with this seed; −1 where it is known.

    ``near``: by nearness and repulsion; else an order that is random. One of `ORDERS` orders that rows share.
    """
    groups, rank = _groups(height, width, num_steps, radius, seed % ORDERS, near, tuple(known))
    return torch.from_numpy(groups.copy()), torch.from_numpy(rank.copy())


@lru_cache(maxsize=4 * ORDERS)
def _groups(
    height: int, width: int, num_steps: int, radius: int, seed: int, near: bool, known: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    n = height * width
    sizes = group_sizes(n - len(known), num_steps) if len(known) < n else ()
    if near:
        order = grouped_order(height, width, sizes, radius=radius, seed=seed, known=known)
    else:
        order = np.random.default_rng(seed).permutation(np.setdiff1d(np.arange(n), known)).tolist()
    groups, rank = np.full(n, -1), np.full(n, -1)
    groups[order] = np.repeat(np.arange(len(sizes)), sizes)
    rank[order] = np.arange(len(order))
    return groups, rank
