"""Run a chain in parallel: `solve` checks what it is given, runs a solver, and hands over sample and report."""

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
from unisono.diffusion.report import NonFiniteError, Report, Round
from unisono.diffusion.solvers.accept import Accept, FixedSteps, Tolerance
from unisono.diffusion.solvers.evaluator import Evaluator, Local
from unisono.diffusion.solvers.picard import Picard
from unisono.errors import UnisonoError

WINDOW = 8


class Solver(Protocol):
    """Solves the chains of a job; a solver that has one window only says so by `window`."""

    @property
    def window(self) -> int | None: ...

    def run(self, job: Job) -> Any: ...


@dataclass(frozen=True)
class Solution:
    """The sample x_T [b, …], what it cost, and, if asked for, all states x_0 … x_T."""

    sample: Any
    report: Report
    states: list[Any] | None = None


def solve(
    recurrence: Recurrence,
    x: Any,
    solver: Solver | None = None,
    accept: Accept | None = None,
    window: int | None = None,
    evaluator: Evaluator | None = None,
    on_round: Callable[[Round], None] | None = None,
    trajectory: bool = False,
) -> Solution:
    """Go from x_0 to x_T in rounds of one batched evaluation; by default with `Picard()` and `Tolerance(1e-2)`.

    Each sample has at most `window` steps open (default 8, or all if there are fewer); more than about 16 costs more
    work than it saves rounds. In the first round one row is evaluated twice, to see that the network repeats itself;
    with a window of 1 this is not needed and not done. `on_round` is called after each round.

    Raises:
        UnisonoError: if there are fewer than 2 steps for a parallel solver, or the window is larger than the chain or
            below 1; if the network is stochastic, or the evaluator depends on earlier calls.
        NonFiniteError: at the end, if the network's output was not finite for some samples.
    """
    start = time.perf_counter()
    solver, accept = solver or Picard(), accept or Tolerance()
    evaluator = evaluator or Local()
    width = _window(recurrence, solver, accept, window)
    if width > 1 and not evaluator.pure:
        raise UnisonoError(
            f"{type(evaluator).__name__} answers with values of earlier calls, so that rows of other steps would be "
            "mixed: use it with Serial(), or evaluate with fresh values"
        )
    report = Report(type(solver).__name__, width, recurrence.num_steps)
    job = Job(recurrence, x, accept, evaluator, width, report, on_round, [] if trajectory else None)
    with torch.no_grad():
        sample = solver.run(job)
        report.wall = time.perf_counter() - start
        solution = Solution(sample, report, job.trajectory())
    if report.failures:
        raise NonFiniteError(solution)
    return solution


@dataclass
class Job:
    """What a solver works on: it evaluates rows, says what was accepted, and both are written down."""

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
        twice = not self._checked
        if twice:
            x, step, sample = cat([x, rows(x, slice(1))]), torch.cat([step, step[:1]]), torch.cat([sample, sample[:1]])
        n, before = len(step), time.perf_counter()
        output = self.evaluator(self.recurrence.evaluate, x, step, sample)
        self.report.network_wall += time.perf_counter() - before
        if not has_rows(output, n):
            shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves(output))
            raise UnisonoError(f"the network answered {n} rows with tensors of shape {shapes}: give one output per row")
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


def _window(recurrence: Recurrence, solver: Solver, accept: Accept, window: int | None) -> int:
    """The window of a run, or an error that says what it can be."""
    steps = recurrence.num_steps
    fixed = solver.window
    if isinstance(accept, FixedSteps):
        if window not in (None, accept.steps):
            raise UnisonoError(f"window={window} contradicts FixedSteps({accept.steps}): leave the window out")
        window = accept.steps
    if fixed is not None:
        if window not in (None, fixed):
            raise UnisonoError(f"{type(solver).__name__} has a window of {fixed}, not {window}: leave the window out")
        return fixed
    if window is not None and window < 1:
        raise UnisonoError(f"window={window} must be at least 1")
    if steps < 2 and window != 1:
        raise UnisonoError(f"{steps} step has nothing to run in parallel: give num_steps of 2 or more, or use Serial()")
    if window is not None and window > steps:
        raise UnisonoError(f"window={window} is larger than the {steps} steps: give at most {steps}")
    return min(WINDOW, steps) if window is None else window
