"""Solve: a chain in parallel; arguments are checked, a solver runs, sample and report are handed over."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from unisono.diffusion.chain.recurrence import Recurrence
from unisono.diffusion.limits import whole
from unisono.diffusion.report import NonFiniteError, Report, Round, Solution
from unisono.diffusion.solvers.accept import Accept, FixedSteps, Tolerance
from unisono.diffusion.solvers.evaluator import Evaluator, Local
from unisono.diffusion.solvers.job import Job, Solver
from unisono.diffusion.solvers.picard import Picard
from unisono.diffusion.turns import turn
from unisono.errors import UnisonoError

WINDOW = 8


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
    with a window of 1 this is not needed and not done. `on_round` is called after each round. A chain that another
    thread solves is waited for.

    Raises:
        UnisonoError: if there are fewer than 2 steps for a parallel solver, or the window is no whole number, larger
            than the chain or below 1; if the network is stochastic, or the evaluator depends on earlier calls; if
            this thread is solving the chain already.
        NonFiniteError: at the end, if the network's output was not finite for some samples.
    """
    with turn([recurrence], "this chain"):
        return solve_now(recurrence, x, solver, accept, window, evaluator, on_round, trajectory)


def solve_now(
    recurrence: Recurrence,
    x: Any,
    solver: Solver | None = None,
    accept: Accept | None = None,
    window: int | None = None,
    evaluator: Evaluator | None = None,
    on_round: Callable[[Round], None] | None = None,
    trajectory: bool = False,
) -> Solution:
    """`solve` for a caller whose turn it is to use the chain."""
    start = time.perf_counter()
    solver, accept = solver or Picard(), accept or Tolerance()
    evaluator = evaluator or Local()
    width = _window(recurrence, solver, accept, window)
    if width > 1 and not evaluator.pure:
        raise UnisonoError(
            f"{type(evaluator).__name__} answers with values of earlier calls, so that rows of other steps would be "
            "mixed: use it with Serial(), or evaluate with fresh values",
            code="conflict",
            path="evaluator",
            value=type(evaluator).__name__,
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


def _window(recurrence: Recurrence, solver: Solver, accept: Accept, window: int | None) -> int:
    """The window of a run, or an error that says what it can be."""
    steps = recurrence.num_steps
    fixed = solver.window
    if window is not None:
        window = whole("window", window)
    if isinstance(accept, FixedSteps):
        if window not in (None, accept.steps):
            raise UnisonoError(
                f"window={window} contradicts FixedSteps({accept.steps}): leave the window out",
                code="conflict",
                path="window",
                value=window,
            )
        window = accept.steps
    if fixed is not None:
        if window not in (None, fixed):
            raise UnisonoError(
                f"{type(solver).__name__} has a window of {fixed}, not {window}: leave the window out",
                code="conflict",
                path="window",
                value=window,
            )
        return fixed
    if steps < 2 and window != 1:
        raise UnisonoError(
            f"{steps} step has nothing to run in parallel: give num_steps of 2 or more, or use Serial()",
            code="range",
            path="num_steps",
            value=steps,
        )
    if window is not None and window > steps:
        raise UnisonoError(
            f"window={window} is larger than the {steps} steps: give at most {steps}",
            code="range",
            path="window",
            value=window,
        )
    return min(WINDOW, steps) if window is None else window
