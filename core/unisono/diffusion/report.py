"""Report: what a parallel run gave, and its bill: rounds, rows, movement of accepted states, time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from unisono.errors import UnisonoError


@dataclass(frozen=True)
class Round:
    """One batched evaluation and what came of it.

    `number` counts from 1, `rows` were evaluated, `accepted` steps per sample, `residual` is the largest relative
    movement of a guess that an accepted state rests on, `done` the share of all steps that are done, in [0, 1].
    """

    number: int
    rows: int
    accepted: list[int]
    residual: float
    done: float


@dataclass
class Report:
    """What a run cost: counts are measured. Times in seconds; `wall` includes everything.

    `rows_of` and `rounds_of` are per sample, `failures` has the step at which a sample's output was not finite.
    """

    solver: str
    window: int
    num_steps: int = 0
    num_samples: int = 0
    rounds: int = 0
    rows: int = 0
    rows_of: list[int] = field(default_factory=list)
    rounds_of: list[int] = field(default_factory=list)
    history: list[Round] = field(default_factory=list)
    residual: float = 0.0
    wall: float = 0.0
    network_wall: float = 0.0
    failures: dict[int, int] = field(default_factory=dict)

    def begin(self, num_samples: int) -> None:
        """Open the books for so many samples."""
        self.num_samples = num_samples
        self.rows_of, self.rounds_of = [0] * num_samples, [0] * num_samples

    def count(self, samples: Iterable[int]) -> None:
        """Write down evaluated rows, by their samples."""
        for s in samples:
            self.rows += 1
            self.rows_of[s] += 1

    def end_round(self, accepted: Mapping[int, int], residual: float, done: float) -> Round:
        """Write down a round: the steps accepted per sample that took part, the largest movement they rest on, and the
        share of all steps that are done."""
        for s in accepted:
            self.rounds_of[s] += 1
        self.rounds += 1
        self.residual = max(self.residual, residual)
        rows = self.rows - sum(event.rows for event in self.history)
        counts = [accepted.get(s, 0) for s in range(self.num_samples)]
        self.history.append(Round(self.rounds, rows, counts, residual, done))
        return self.history[-1]

    @property
    def work(self) -> float:
        """Rows evaluated, relative to the serial sampler's."""
        return self.rows / (self.num_steps * self.num_samples)

    @property
    def speedup(self) -> float:
        """Serial rounds over rounds: the gain in time if a batch took no longer than a row, and an upper limit."""
        return self.num_steps / max(self.rounds, 1)

    def __str__(self) -> str:
        text = (
            f"{self.solver}: {self.num_steps} steps in {self.rounds} rounds ({self.speedup:.1f}x fewer), "
            f"window {self.window}, work {self.work:.2f}, residual {self.residual:.1e}, {self.wall:.2f} s"
        )
        if self.failures:
            text += f", not finite: {', '.join(f'sample {s} at step {i}' for s, i in self.failures.items())}"
        return text


@dataclass(frozen=True)
class Solution:
    """The sample x_T [b, …], what it cost, and, if asked for, all states x_0 … x_T."""

    sample: Any
    report: Report
    states: list[Any] | None = None


class NonFiniteError(UnisonoError):
    """The network gave NaN or infinity for some samples; `solution` has the others, finished."""

    def __init__(self, solution: Solution):
        self.solution = solution
        failures = solution.report.failures
        named = ", ".join(f"sample {sample} at step {step}" for sample, step in sorted(failures.items()))
        super().__init__(
            f"the network's output is not finite for {named}; {solution.report.num_samples - len(failures)} of "
            f"{solution.report.num_samples} samples finished and are in this error's .solution: "
            "look at these rows' inputs, or use a wider dtype",
            code="failed",
            path="network",
            value=sorted(failures),
        )
