"""Solvers over a sliding window: each lane of samples has its own, and the rows of all are one batch.

A round evaluates the network at the window's guesses, lets the solver propose new states, accepts the leading steps
whose guesses held still, slides the window behind them, and guesses the states that came into it by running on with
the last output held.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unisono.diffusion.chain.recurrence import Quantity, Recurrence
from unisono.diffusion.chain.tree import cat, distance, finite, num_rows, rows
from unisono.diffusion.solvers.job import Job
from unisono.errors import UnisonoError


@dataclass
class Lane:
    """Samples that share a window: steps `front` … front + len(states) − 1.

    `states[0]` is exact, the others are guesses; `outputs` are the network's at these states; `carry` is what the
    recurrence carries at `front`; `memory` is the solver's own.
    """

    sample: Int[Tensor, " k"]
    states: list[Any]
    carry: Any
    alive: Bool[Tensor, " k"]
    front: int = 0
    outputs: list[Any] = field(default_factory=list)
    memory: Any = None


class WindowSolver:
    """The base of solvers over a window; one that defines `update` is complete.

    `hold` is the quantity that stays fixed where an output is used at another state than its own.
    """

    window: int | None = None  # where the solver fixes it
    hold: Quantity = "v"

    def update(self, job: Job, lane: Lane) -> tuple[list[Any], list[Any]]:
        """The new states x'_{front+1} …, one per output of the lane, and what is carried after each step."""
        raise TypeError(f"{type(self).__name__} defines no update()")

    def refine(self, lane: Lane, new: list[Any], done: int) -> list[Any]:
        """The guesses that follow from new states of which `done` are accepted; by default the states themselves."""
        return new

    def run(self, job: Job) -> Any:
        """Solve the chain of every sample; returns the last states [b, …]."""
        recurrence, accept, total = job.recurrence, job.accept, job.recurrence.num_steps
        index = torch.arange(num_rows(job.x), device=job.device)
        lanes = []
        for sample in index.split(1 if accept.per_sample else len(index)):
            state = rows(job.x, sample)
            lanes.append(Lane(sample, [state], recurrence.begin(sample), torch.ones_like(sample, dtype=torch.bool)))
            job.keep(sample, 0, state)
        open_lanes = lanes
        while open_lanes:
            self._evaluate(job, open_lanes)
            open_lanes = [lane for lane in open_lanes if bool(lane.alive.any())]
            proposals = [self.update(job, lane) for lane in open_lanes]
            moved = self._movement(open_lanes, proposals)
            counts = job.evaluator.agree([accept.count(m) for m in moved])
            residual = 0.0
            for lane, (new, carries), m, n in zip(open_lanes, proposals, moved, counts, strict=True):
                residual = max([residual, *m[: n - 1]])
                for k in range(n):
                    job.keep(lane.sample, lane.front + k + 1, new[k])
                guesses = self.refine(lane, new, n)
                # The window always begins with an accepted state, which no refinement touches.
                states = [new[n - 1], *guesses[n:]]
                front = lane.front + n
                if front < total:
                    size = min(accept.span(job.window, front), total - front)
                    self._extend(recurrence, lane, states, carries[-1], lane.front + len(new), front + size)
                    states = states[:size]
                lane.states, lane.carry, lane.front = states, carries[n - 1], front
            pairs = zip(open_lanes, counts, strict=True)
            job.end_round({s: n for lane, n in pairs for s in lane.sample.tolist()}, residual)
            open_lanes = [lane for lane in open_lanes if lane.front < total]
        for lane in lanes:
            recurrence.restore(lane.carry)  # generators end where the serial loop leaves them
        return job.blank_failed(cat([lane.states[0] for lane in lanes]))

    def _evaluate(self, job: Job, lanes: list[Lane]) -> None:
        """Fill the lanes' outputs; an output that is not finite ends the window before it, or the sample."""
        states = [state for lane in lanes for state in lane.states]
        step = [lane.front + k for lane in lanes for k in range(len(lane.states)) for _ in range(len(lane.sample))]
        sample = torch.cat([lane.sample for lane in lanes for _ in lane.states])
        output = job.evaluate(cat(states), torch.tensor(step, device=job.device), sample)
        good = finite(output).cpu()
        at = 0
        for lane in lanes:
            size, k = len(lane.states), len(lane.sample)
            fine = good[at : at + size * k].reshape(size, k)
            lane.outputs = [rows(output, slice(at + j * k, at + (j + 1) * k)) for j in range(size)]
            at += size * k
            for s in (lane.alive & ~fine[0]).nonzero().flatten().tolist():
                job.report.failures[int(lane.sample[s])] = lane.front
            lane.alive = lane.alive & fine[0]
            usable = int((fine | ~lane.alive).all(1).long().cumprod(0).sum())
            lane.outputs, lane.states = lane.outputs[: max(usable, 1)], lane.states[: max(usable, 1)]

    def _movement(self, lanes: list[Lane], proposals: list[tuple[list[Any], list[Any]]]) -> list[list[float]]:
        """How far each guess after the first moved, per lane: the most of its samples; one copy to the host."""
        parts = [
            distance(new[k - 1], lane.states[k])[lane.alive.to(lane.sample.device)].amax()
            for lane, (new, _) in zip(lanes, proposals, strict=True)
            for k in range(1, len(new))
        ]
        values = iter(torch.stack(parts).tolist() if parts else [])
        return [[next(values) for _ in range(len(new) - 1)] for new, _ in proposals]

    def _extend(self, recurrence: Recurrence, lane: Lane, states: list[Any], carry: Any, at: int, end: int) -> None:
        """Guess on from the state of step `at`, the last one there is, until step end − 1 has one."""
        if at >= end - 1:
            return
        recurrence.restore(carry)
        last, x = len(lane.outputs) - 1, states[-1]
        for j in range(at, end - 1):
            held = recurrence.hold(lane.outputs[last], lane.front + last, lane.states[last], x, self.hold, j)
            x = recurrence.advance(held, j, x)
            states.append(x)


def check_history(recurrence: Recurrence, solver: object) -> None:
    """Refuse a chain whose steps depend on more than their state.

    Raises:
        UnisonoError: if it has a history; its parts are named.
    """
    history = recurrence.history()
    if history:
        name = getattr(recurrence, "name", type(recurrence).__name__)
        raise UnisonoError(
            f"{type(solver).__name__} needs a chain that can start at any state, but {name} keeps "
            f"{', '.join(history)} from step to step: use Picard, or a scheduler such as DDIM, Euler or flow matching",
            code="unsupported",
            path="solver",
            value=type(solver).__name__,
        )
