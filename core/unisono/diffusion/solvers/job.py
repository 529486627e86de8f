"""Job: what a solver works on; it evaluates rows and writes down what was accepted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from jaxtyping import Int
from torch import Tensor

from unisono.diffusion.chain.purity import check_repeatable, has_rows
from unisono.diffusion.chain.recurrence import Recurrence
from unisono.diffusion.chain.tree import cat, leaves, num_rows, rows, tree_map
from unisono.diffusion.report import Report, Round
from unisono.diffusion.solvers.accept import Accept
from unisono.diffusion.solvers.evaluator import Evaluator
from unisono.errors import UnisonoError
from unisono.stopping import may_stop


@dataclass
class Job:
    """The chains of one call of `solve`, and its bill.

    Attributes:
        window: how many steps of a sample may be open at once.
        kept: accepted states as (samples, step, state), if the trajectory was asked for.
        done: accepted steps per sample.
    """

    recurrence: Recurrence
    x: Any
    accept: Accept
    evaluator: Evaluator
    window: int
    report: Report
    on_round: Callable[[Round], None] | None = None
    kept: list[tuple[Tensor, int, Any]] | None = None
    done: dict[int, int] = field(default_factory=dict)

    def __post_init__(self):
        self.device = leaves(self.x)[0].device
        self.report.begin(num_rows(self.x))
        self._checked = self.window == 1

    def evaluate(self, x: Any, step: Int[Tensor, " n"], sample: Int[Tensor, " n"]) -> Any:
        """The outputs of a round's rows.

        Raises:
            UnisonoError: if the outputs are not as many as the rows, or one row has two answers.
        """
        may_stop()
        twice = not self._checked
        if twice:
            x, step, sample = cat([x, rows(x, slice(1))]), torch.cat([step, step[:1]]), torch.cat([sample, sample[:1]])
        n, before = len(step), time.perf_counter()
        output = self.evaluator(self.recurrence.evaluate, x, step, sample)
        self.report.network_wall += time.perf_counter() - before
        if not has_rows(output, n):
            shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves(output))
            raise UnisonoError(
                f"the network answered {n} rows with tensors of shape {shapes}: give one output per row",
                code="shape",
                path="network",
                value=[tuple(leaf.shape) for leaf in leaves(output)],
            )
        self.report.count(sample.tolist())
        if twice:
            self._checked = True
            check_repeatable(rows(output, slice(1)), rows(output, slice(n - 1, n)))
            output = rows(output, slice(n - 1))
        return output

    def keep(self, sample: Int[Tensor, " k"], step: int, state: Any) -> None:
        """Write down an accepted state x_step."""
        if self.kept is not None:
            self.kept.append((sample, step, state))

    def end_round(self, accepted: dict[int, int], residual: float) -> None:
        """Write down a round: the steps accepted per sample that took part, the largest movement they rest on."""
        report = self.report
        for s, n in accepted.items():
            self.done[s] = self.done.get(s, 0) + n
        total = report.num_steps * report.num_samples
        done = (sum(self.done.values()) + sum(report.num_steps - self.done.get(s, 0) for s in report.failures)) / total
        event = report.end_round(accepted, residual, done)
        if self.on_round is not None:
            self.on_round(event)

    def blank_failed(self, state: Any) -> Any:
        """The batch's states with NaN in the rows that failed."""
        for leaf in leaves(state):
            leaf[list(self.report.failures)] = torch.nan
        return state

    def trajectory(self) -> list[Any] | None:
        """All states x_0 … x_T, where they were kept; NaN where a sample failed."""
        if self.kept is None:
            return None
        blank = tree_map(lambda leaf: torch.full_like(leaf, torch.nan), self.x)
        states = [tree_map(torch.clone, blank) for _ in range(self.recurrence.num_steps + 1)]
        for sample, step, state in self.kept:
            for into, part in zip(leaves(states[step]), leaves(state), strict=True):
                into[sample] = part.to(into.dtype)
        return states


class Solver(Protocol):
    """Solves the chains of a job; a solver that has one window only says so by `window`."""

    @property
    def window(self) -> int | None: ...

    def run(self, job: Job) -> Any: ...
