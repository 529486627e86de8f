"""Parareal: blocks of steps in parallel (SRDS, Selvam et al., NeurIPS 2024, arXiv:2412.08292).

With S_b the state at the start of block b, F the block's steps and G one coarse jump over it,

    S_{b+1}^{k+1} = G(S_b^{k+1}) + F(S_b^k) − G(S_b^k)

The jump is the block's own steps with x0 and ε held at what the network says at its start: for DDIM and Euler this is
the one large step. Pipelined: a block starts as soon as its state is known, so that rounds are about
iterations·(steps per block) + blocks, and a block whose state did not change is not computed again.

Differs from the paper in the stopping rule, which is relative and per sample. Steps must depend on their state alone.
Samples that are accepted together fail together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from unisono.diffusion.chain.tree import cat, distance, finite, leaves, num_rows, rows, tree_map
from unisono.diffusion.limits import whole
from unisono.diffusion.solvers.accept import FixedSteps
from unisono.diffusion.solvers.job import Job
from unisono.diffusion.solvers.window import check_history
from unisono.errors import UnisonoError


@dataclass
class _Chain:
    """The fine steps of block `block` from one of its states on; `states` has those done so far."""

    block: int
    states: list[Any]
    carry: Any
    coarse: Any = None

    @property
    def x(self) -> Any:
        return self.states[-1]


class _Run:
    """One lane's blocks: `chains[k][b]` is what starts at S_b^k, the same object where the state is the same."""

    def __init__(self, sample: Int[Tensor, " k"], x: Any, carry: Any, edges: list[int]):
        self.sample, self.edges = sample, edges
        self.carries: dict[int, Any] = {0: carry}
        self.start = _Chain(0, [x], carry)
        self.chains: list[list[_Chain]] = [[self.start]]
        self.ends: list[Any] = []
        self.result: Any = None
        self.failed: int | None = None

    @property
    def num_blocks(self) -> int:
        return len(self.edges) - 1

    def length(self, chain: _Chain) -> int:
        return self.edges[chain.block + 1] - self.edges[chain.block]

    def step(self, chain: _Chain) -> int:
        return self.edges[chain.block] + len(chain.states) - 1

    def finished(self, chain: _Chain) -> bool:
        return len(chain.states) > self.length(chain)

    def open(self) -> list[_Chain]:
        """Every chain that has steps to do, once."""
        seen = {id(chain): chain for row in self.chains for chain in row}
        return [chain for chain in seen.values() if not self.finished(chain)]


@dataclass(frozen=True)
class Parareal:
    """Blocks of about √T steps by default; `blocks` says how many.

    Raises:
        UnisonoError: if there are fewer than 2 blocks or more than steps, or the chain has a history (a multistep or
            two-stage scheduler, which is named).
    """

    blocks: int | None = None
    window: int | None = None

    def run(self, job: Job) -> Any:
        recurrence, total = job.recurrence, job.recurrence.num_steps
        check_history(recurrence, self)
        if isinstance(job.accept, FixedSteps):
            raise UnisonoError(
                "Parareal needs a test of acceptance: use Tolerance or Exact instead of FixedSteps",
                code="conflict",
                path="accept",
                value=job.accept,
            )
        blocks = math.isqrt(total) if self.blocks is None else whole("Parareal.blocks", self.blocks, 2)
        if not 2 <= blocks <= total:
            raise UnisonoError(
                f"Parareal(blocks={blocks}) must be from 2 to the {total} steps",
                code="range",
                path="blocks",
                value=blocks,
            )
        job.report.window = blocks
        edges = [round(b * total / blocks) for b in range(blocks + 1)]
        index = torch.arange(num_rows(job.x), device=job.device)
        runs = []
        for sample in index.split(1 if job.accept.per_sample else len(index)):
            state = rows(job.x, sample)
            runs.append(_Run(sample, state, recurrence.begin(sample), edges))
            job.keep(sample, 0, state)
        while open_runs := [run for run in runs if run.result is None and run.failed is None]:
            self._round(job, open_runs)
            accepted = {}
            residual = 0.0
            for run in open_runs:
                moved = self._settle(job, run)
                residual = max([residual, *moved]) if run.result is not None else residual
                accepted |= {s: total if run.result is not None else 0 for s in run.sample.tolist()}
            job.end_round(accepted, residual)
        for run in runs:
            recurrence.restore(run.carries.get(blocks, run.carries[0]))
        blank = tree_map(lambda leaf: torch.full_like(leaf, torch.nan), job.x)
        return cat([rows(blank, run.sample) if run.result is None else run.result for run in runs])

    def _round(self, job: Job, runs: list[_Run]) -> None:
        """Evaluate every open chain once and move it by a step."""
        pairs = [(run, chain) for run in runs for chain in run.open()]
        step = [run.step(chain) for run, chain in pairs for _ in range(len(run.sample))]
        sample = torch.cat([run.sample for run, _ in pairs])
        output = job.evaluate(cat([chain.x for _, chain in pairs]), torch.tensor(step, device=job.device), sample)
        good, at = finite(output).cpu(), 0
        for run, chain in pairs:
            here = slice(at, at + len(run.sample))
            at += len(run.sample)
            if not bool(good[here].all()):
                run.failed = run.step(chain)
                # Who is accepted as a whole fails as a whole: blocks cannot go on without one of their rows.
                job.report.failures |= {s: run.failed for s in run.sample.tolist()}
                continue
            self._move(job, run, chain, rows(output, here))

    def _move(self, job: Job, run: _Run, chain: _Chain, output: Any) -> None:
        recurrence, i = job.recurrence, run.step(chain)
        if len(chain.states) == 1:
            recurrence.restore(chain.carry)
            x = chain.x
            for j in range(i, i + run.length(chain)):
                held = output if j == i else recurrence.hold(output, i, chain.x, x, "v", j)
                x = recurrence.advance(held, j, x)
            chain.coarse = x
            # What is carried at a block's start does not depend on the states: there is no history.
            run.carries.setdefault(chain.block + 1, recurrence.snapshot())
        recurrence.restore(chain.carry)
        chain.states.append(recurrence.advance(output, i, chain.x))
        chain.carry = recurrence.snapshot()

    def _settle(self, job: Job, run: _Run) -> list[float]:
        """Start the chains whose states are known now; set the result if an iteration moved nothing."""
        moved: list[float] = []
        if run.failed is not None:
            return moved
        first = run.chains[0]
        while len(first) < run.num_blocks and first[-1].coarse is not None:
            b = len(first)
            first.append(_Chain(b, [first[-1].coarse], run.carries[b]))
        if not run.ends and len(first) == run.num_blocks and first[-1].coarse is not None:
            run.ends.append(first[-1].coarse)
        k = 0
        while k < min(len(run.chains), run.num_blocks):
            if k + 1 == len(run.chains):
                run.chains.append([run.start])
            old, new = run.chains[k], run.chains[k + 1]
            while len(new) <= min(len(old), run.num_blocks):
                b = len(new)
                before, after = old[b - 1], new[b - 1]
                if after.coarse is None or not run.finished(before):
                    break
                x = tree_map(lambda g, f, o: f + (g - o), after.coarse, before.x, before.coarse)
                if b == run.num_blocks:
                    if len(run.ends) == k + 1:
                        run.ends.append(x)
                    break
                if b >= len(old):
                    break
                new.append(old[b] if _same(x, old[b].states[0]) else _Chain(b, [x], run.carries[b]))
            if len(new) == 1:
                run.chains.pop()
                break
            if len(run.ends) > k + 1 and run.result is None:
                starts = [(n.states[0], o.states[0]) for n, o in zip(new[1:], old[1:], strict=True)]
                moved = [float(distance(n, o).amax()) for n, o in [*starts, (run.ends[k + 1], run.ends[k])]]
                # After as many iterations as blocks the states are the serial ones.
                if job.accept.count(moved) > len(moved) or k + 1 >= run.num_blocks:
                    run.result = run.ends[k + 1]
                    self._keep(job, run, old)
                    return moved
            k += 1
        return moved

    def _keep(self, job: Job, run: _Run, chains: list[_Chain]) -> None:
        for chain in chains:
            for n, state in enumerate(chain.states[1:], 1):
                job.keep(run.sample, run.edges[chain.block] + n, state)
        job.keep(run.sample, run.edges[-1], run.result)


def _same(a: Any, b: Any) -> bool:
    return all(torch.equal(x, y) for x, y in zip(leaves(a), leaves(b), strict=True))
