"""Fixed-point solvers: Jacobi, the cumulative sum of ParaDiGMS, and frozen-output replay; serial is window 1.

They differ in G of x_{i+1}' = F_i(x_i) + G_i(x_i') − G_i(x_i): nothing, the identity, or the step itself with the
network's output held.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import torch

from unisono.diffusion.chain.recurrence import Quantity
from unisono.diffusion.chain.tree import tree_map
from unisono.diffusion.solvers.job import Job
from unisono.diffusion.solvers.window import Lane, WindowSolver
from unisono.errors import UnisonoError, did_you_mean


@dataclass(frozen=True)
class Picard(WindowSolver):
    """Frozen-output replay: the recurrence's own steps, in order, each output held from the last round.

    `hold` is what of the output stays fixed when its state has moved: v (the default; fewest rounds over a whole
    chain), x0, eps, or the raw output.
    """

    hold: Quantity = "v"

    def __post_init__(self):
        check_quantity(self.hold)

    def update(self, job: Job, lane: Lane) -> tuple[list[Any], list[Any]]:
        recurrence = job.recurrence
        recurrence.restore(lane.carry)
        x, new, carries = lane.states[0], [], []
        for k, (state, output) in enumerate(zip(lane.states, lane.outputs, strict=True)):
            held = output if k == 0 else recurrence.hold(output, lane.front + k, state, x, self.hold)
            x = recurrence.advance(held, lane.front + k, x)
            new.append(x)
            carries.append(recurrence.snapshot())
        return new, carries


@dataclass(frozen=True)
class Serial(Picard):
    """The serial sampler, as a window of 1 of the same path."""

    window = 1


@dataclass(frozen=True)
class Jacobi(WindowSolver):
    """G = 0: each state from the last round's one before it (Song et al., ICML 2021); slow, and the simplest."""

    def update(self, job: Job, lane: Lane) -> tuple[list[Any], list[Any]]:
        return linear_sweep(job, lane, lambda k, delta: None)


@dataclass(frozen=True)
class Identity(WindowSolver):
    """G = identity: Picard iteration as in ParaDiGMS (arXiv:2305.16317), corrections summed along the window.

    Differs from the paper in that the sum is carried from state to state, so that a converged prefix is exact to the
    bit.
    """

    def update(self, job: Job, lane: Lane) -> tuple[list[Any], list[Any]]:
        return linear_sweep(job, lane, lambda k, delta: delta)


def linear_sweep(job: Job, lane: Lane, propagate: Any) -> tuple[list[Any], list[Any]]:
    """x_{i+1}' = F_i(x_i) + propagate(k, x_i' − x_i), over a lane's window."""
    recurrence = job.recurrence
    recurrence.restore(lane.carry)
    delta, new, carries = None, [], []
    for k, (state, output) in enumerate(zip(lane.states, lane.outputs, strict=True)):
        x = recurrence.advance(output, lane.front + k, state)
        change = None if delta is None else propagate(k, delta)
        x = x if change is None else tree_map(torch.add, x, change)
        new.append(x)
        carries.append(recurrence.snapshot())
        if k + 1 < len(lane.states):
            delta = tree_map(torch.sub, x, lane.states[k + 1])
    return new, carries


def check_quantity(quantity: str) -> None:
    """Raise `UnisonoError` unless a quantity can be held."""
    known = get_args(Quantity)
    if quantity not in known:
        raise UnisonoError(
            f"hold={quantity!r} is unknown{did_you_mean(str(quantity), known)}",
            code="unknown",
            path="hold",
            value=quantity,
        )
