"""Mixing: batches in which each group of items has its weight, by the step where that changes (a curriculum).

The share of each group is met in every batch to within one item, and in the long run exactly: the groups' shares lie
one after another on a line of ``batch_size``, and a comb of that many teeth is laid over it, whose offset moves by the
golden ratio from step to step (a Kronecker sequence). Each group deals its items out in an order of its own, shuffled
anew when all were shown. All of it is a function of the seed and the step.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from unisono.checks import is_real
from unisono.data.sampler import POOL_BATCHES, Batches, derive_seed
from unisono.errors import DataError, did_you_mean, shown

Weight: TypeAlias = float | Sequence[Sequence[float]]
"""A group's weight: a number, or points ``[[step, weight], …]`` with straight lines between them."""

GOLDEN = (math.sqrt(5) - 1) / 2
NUM_LISTED = 12


class MixedBatchSampler:
    """Batches of exactly ``batch_size`` items with weighted groups.

    An epoch has as many steps as it takes to show as many items as there are; items of heavy groups come more than
    once in it. In pools of 32 batches each group's items are dealt out by size, so that batches hold similar sizes.

    Args:
        sizes: a size per item.
        names: of the groups.
        groups: the number of each item's group.
        weights: by group; every group has one, and 0 leaves it out. Raises ``DataError`` for an unknown group, one
            that is left out, weights below 0, steps that do not ascend, and a step at which all weights are 0.
        batch_size: items of a global batch.
        seed: the run's seed.
    """

    def __init__(
        self,
        sizes: Int[Tensor, "m"],
        names: Sequence[str],
        groups: Int[Tensor, "m"],
        weights: Mapping[str, Weight],
        batch_size: int,
        seed: int,
    ):
        if batch_size < 1:
            raise DataError(
                f"batch_size={batch_size} must be at least 1", code="range", path="batch_size", value=batch_size
            )
        counts = torch.bincount(groups, minlength=len(names))
        there = [name for name, count in zip(names, counts.tolist(), strict=True) if count]
        for name in weights:
            if name not in there:
                listed = f"; there are {', '.join(map(shown, there[:NUM_LISTED]))}"
                raise DataError(
                    f"run.mixing has the group {shown(name)}, which no training item is of"
                    f"{did_you_mean(name, there) or listed}",
                    code="unknown",
                    path=f"run.mixing.{name}",
                    value=name,
                )
        for name in there:
            if name not in weights:
                raise DataError(
                    f"run.mixing has no weight for the group {shown(name)}: give one, 0 to leave it out",
                    code="missing",
                    path=f"run.mixing.{name}",
                )
        self.points = [_points(name, weights[name]) for name in there]
        self.names = there
        self.items = [(groups == number).nonzero()[:, 0] for number, name in enumerate(names) if name in there]
        self.sizes, self.batch_size, self.seed = sizes, batch_size, seed
        self._some_weight()

    def __len__(self) -> int:
        return max(1, len(self.sizes) // self.batch_size)

    def shares(self, steps: Int[np.ndarray, "t"]) -> Float[np.ndarray, "t g"]:
        """Return each group's share of a batch at each step, in [0, 1]."""
        weights = np.stack([np.interp(steps, *points) for points in self.points], 1)
        return weights / weights.sum(1, keepdims=True)

    def counts(self, steps: Int[np.ndarray, "t"]) -> Int[np.ndarray, "t g"]:
        """Return how many items of each group a batch has at each step; every row's sum is ``batch_size``."""
        bounds = (self.shares(steps).cumsum(1) * self.batch_size)[:, :-1]
        first = derive_seed("mixing", self.seed) / 2**63
        offset = (first + GOLDEN * steps) % 1
        # teeth at offset, offset + 1, …: so many lie below a bound
        below = np.ceil(bounds - offset[:, None]).clip(0, self.batch_size).astype(np.int64)
        ends = np.concatenate(
            [np.zeros((len(steps), 1), np.int64), below, np.full((len(steps), 1), self.batch_size)], 1
        )
        return np.diff(ends, axis=1)

    def batches(self, epoch: int) -> Batches:
        """Return the global batches of an epoch, in order."""
        first = epoch * len(self)
        done = self._done(first)
        counts = self.counts(np.arange(first, first + len(self)))
        table = torch.empty(len(self), self.batch_size, dtype=torch.int64)
        for start in range(0, len(self), POOL_BATCHES):
            pool = counts[start : start + POOL_BATCHES]
            generator = torch.Generator().manual_seed(derive_seed("pool", self.seed, first + start))
            order = torch.randperm(len(pool), generator=generator).tolist()
            filled = [0] * len(pool)
            for group, number in enumerate(pool.sum(0).tolist()):
                drawn = self._drawn(group, done[group], number)
                done[group] += number
                drawn = drawn[torch.argsort(self.sizes[drawn], stable=True)]
                place = 0
                for batch in order:
                    count = int(pool[batch, group])
                    table[start + batch, filled[batch] : filled[batch] + count] = drawn[place : place + count]
                    filled[batch] += count
                    place += count
        return Batches(table)

    def _done(self, step: int) -> list[int]:
        """How many items each group has dealt out before a step."""
        total = np.zeros(len(self.items), np.int64)
        for start in range(0, step, 2**16):
            total += self.counts(np.arange(start, min(start + 2**16, step))).sum(0)
        return total.tolist()

    def _drawn(self, group: int, first: int, count: int) -> Int[Tensor, "n"]:
        """The items that a group deals out from its ``first`` on."""
        items = self.items[group]
        parts = []
        while count:
            turn, place = divmod(first, len(items))
            seed = derive_seed("mixed", self.seed, self.names[group], turn)
            order = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed))
            part = order[place : place + count]
            parts.append(items[part])
            first, count = first + len(part), count - len(part)
        return torch.cat(parts) if parts else items[:0]

    def _some_weight(self) -> None:
        steps = sorted({step for points in self.points for step in points[0]})
        for step in steps:
            if not sum(np.interp(step, *points) for points in self.points):
                raise DataError(
                    f"run.mixing: at step {step:g} all weights are 0: leave some group in",
                    code="value",
                    path="run.mixing",
                    value=step,
                )


def numbered(names: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return what a set's ``groups`` returns: the names that there are, sorted, and the number of each item's name."""
    there = sorted(set(names))
    number = {name: index for index, name in enumerate(there)}
    return there, [number[name] for name in names]


def _points(name: str, weight: Weight) -> tuple[list[float], list[float]]:
    """A weight as steps and values."""
    path = f"run.mixing.{name}"
    if is_real(weight, 0):
        return [0.0], [float(weight)]  # type: ignore[arg-type]
    if not isinstance(weight, Sequence) or isinstance(weight, str) or not weight:
        raise DataError(
            f"{path}={shown(weight)} must be a number of at least 0, or points [[step, weight], …]",
            code="type" if not is_real(weight) else "range",
            path=path,
            value=weight,
        )
    for point in weight:
        if (
            not isinstance(point, Sequence)
            or isinstance(point, str)
            or len(point) != 2
            or not (is_real(point[0], 0) and float(point[0]).is_integer())
            or not is_real(point[1], 0)
        ):
            raise DataError(
                f"{path}: the point {shown(point)} must be [step, weight], both at least 0",
                code="value",
                path=path,
                value=point,
            )
    steps = [float(point[0]) for point in weight]
    if steps != sorted(set(steps)):
        raise DataError(f"{path}: the steps {steps} must ascend", code="value", path=path, value=steps)
    return steps, [float(point[1]) for point in weight]
