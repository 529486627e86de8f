"""Recurrence: the serial sampler as a chain of steps, and what parallel solvers must know of it.

A chain of T steps goes from x_0 (noise) to x_T (the sample); step i goes from x_i to x_{i+1} and evaluates the
network once, at x_i. A row is one such evaluation for one sample. Every parallel-in-time method is

    x_{i+1}' = F_i(x_i) + G_i(x_i') − G_i(x_i)

with F_i the serial step, x the last round's states and x' this round's. `evaluate` is the costly part of F, pure
and batched over rows of any samples and steps; `advance` the cheap part, driven in order, so that a scheduler's own
history and noise serve unmodified.

States and outputs are tensors [rows, …] or trees of them (`unisono.diffusion.chain.tree`).
Letters: n rows, k samples of a lane (those that share a window).
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

from jaxtyping import Int
from torch import Tensor

Quantity = Literal["v", "x0", "eps", "output"]


class Recurrence(Protocol):
    """A chain of steps that a solver can run in parallel."""

    num_steps: int

    def evaluate(self, x: Any, step: Int[Tensor, " n"], sample: Int[Tensor, " n"]) -> Any:
        """The network's output for rows of any steps and samples; depends on nothing else."""
        ...

    def begin(self, sample: Int[Tensor, " k"]) -> Any:
        """What a lane of these samples carries from step to step, as it is before step 0."""
        ...

    def snapshot(self) -> Any:
        """A copy of what is carried now."""
        ...

    def restore(self, carry: Any) -> None:
        """Go back to a copy; it may be restored again later."""
        ...

    def advance(self, output: Any, i: int, x: Any) -> Any:
        """x_{i+1} from x_i and the network's output; moves what is carried."""
        ...

    def hold(self, output: Any, i: int, x_old: Any, x_new: Any, quantity: Quantity = "v", j: int | None = None) -> Any:
        """An output of step i at `x_old`, re-expressed at `x_new` of step j (default i) with a quantity held fixed.

        Returns the output itself, to the bit, where x_old equals x_new and j is i.
        """
        ...

    def history(self) -> tuple[str, ...]:
        """Names of what is carried and depends on the states; none if a step depends on x_i alone."""
        ...
