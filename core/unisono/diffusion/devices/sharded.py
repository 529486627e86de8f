"""Sharded: rows of a round over ranks, and branches of guidance over ranks; exact, as every output is gathered fresh.

Each rank replays the whole sampler, so that what is sent is the network's output alone, once per round. Ranks of
different makes may round differently: the number of accepted steps is the first rank's.

The evaluators compose: `TimeSharded(time, inner=Replicated(guidance))` with a `CFGSplit(network, scale, guidance)`
spreads rows over one dimension of a mesh and branches over the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Int
from torch import Tensor

from unisono.diffusion.chain.recurrence import Quantity, Recurrence
from unisono.diffusion.chain.tree import cat, rows, tree_map
from unisono.diffusion.devices.exchange import Group, exchange, group_rank, group_size
from unisono.diffusion.guide import Branched, ClassifierFree
from unisono.diffusion.limits import whole
from unisono.diffusion.report import Round, Solution
from unisono.diffusion.solve import solve
from unisono.diffusion.solvers.accept import FixedSteps
from unisono.diffusion.solvers.evaluator import Evaluate, Evaluator, Local
from unisono.diffusion.solvers.picard import Picard
from unisono.errors import UnisonoError


class Replicated:
    """Every rank evaluates all rows, as where the network itself is split; the first rank decides what is accepted."""

    def __init__(self, group: Group = None, inner: Evaluator | None = None):
        self.group, self.inner = group, inner or Local()
        self._device = torch.device("cpu")

    @property
    def pure(self) -> bool:
        """Whether the inner evaluator is."""
        return self.inner.pure

    def __call__(self, evaluate: Evaluate, x: Any, step: Int[Tensor, " n"], sample: Int[Tensor, " n"]) -> Any:
        self._device = step.device
        return self.inner(evaluate, x, step, sample)

    def agree(self, counts: Sequence[int]) -> list[int]:
        """The first rank's counts, on all ranks of this group and of the inner evaluator's."""
        if group_size(self.group) > 1:
            decided = torch.tensor(list(counts), dtype=torch.int64, device=self._device)
            dist.broadcast(decided, group_src=0, group=self.group)
            counts = decided.tolist()
        return self.inner.agree(counts)


class TimeSharded(Replicated):
    """Each rank evaluates its share of a round's rows and gets the outputs of all: what `Local` gives.

    Where ranks do not divide the rows, the last row is evaluated more than once.
    """

    def __call__(self, evaluate: Evaluate, x: Any, step: Int[Tensor, " n"], sample: Int[Tensor, " n"]) -> Any:
        self._device = step.device
        if group_size(self.group) == 1:
            return self.inner(evaluate, x, step, sample)
        n = len(step)
        index = _share(n, self.group, step.device)
        output = self.inner(evaluate, rows(x, index), step[index], sample[index])
        return _gathered(output, n, self.group)


class CFGSplit(ClassifierFree):
    """Classifier-free guidance whose rows, two per sample, are spread over the ranks; a branch each if they are two."""

    def __init__(self, network: Branched, scale: float | Tensor, group: Group = None):
        super().__init__(network, scale)
        self.group = group

    def __call__(self, x: Any, t: Tensor, sample: Int[Tensor, " n"]) -> Any:
        n = len(sample)
        index = _share(2 * n, self.group, sample.device)
        branch = torch.arange(2, device=sample.device).repeat_interleave(n)[index]
        index = index % n
        both = _gathered(self.network(rows(x, index), t[index], sample[index], branch), 2 * n, self.group)
        return self.combine(rows(both, slice(n)), rows(both, slice(n, None)), sample)


def parastep(
    recurrence: Recurrence,
    x: Any,
    *,
    group: Group = None,
    steps: int | None = None,
    warmup: int = 1,
    hold: Quantity = "output",
    on_round: Callable[[Round], None] | None = None,
) -> Solution:
    """ParaStep (Wang et al., NeurIPS 2025, arXiv:2505.14741): `steps` steps per round, one on each rank, untested.

    `steps` is the number of ranks by default; the first `warmup` steps are serial. Guesses are made with the newest
    output `hold`-ed, where the paper takes each rank's own last one. Nothing tells how far the sample is from the
    serial one: see `unisono.diffusion.FixedSteps`.

    Raises:
        UnisonoError: if there is one process and no `steps`, or they are more than the chain has.
    """
    steps = group_size(group) if steps is None else whole("steps", steps)
    if steps < 2:
        raise UnisonoError(
            f"parastep with {steps} step per round is serial: start more processes, or give steps=",
            code="range",
            path="steps",
            value=steps,
        )
    return solve(
        recurrence,
        x,
        solver=Picard(hold=hold),
        accept=FixedSteps(steps, warmup),
        evaluator=TimeSharded(group),
        on_round=on_round,
    )


def _share(n: int, group: Group, device: torch.device) -> Int[Tensor, " m"]:
    """The rows of this rank, ⌈n / ranks⌉ everywhere: what there is none of is the last row again."""
    size = group_size(group)
    each = -(-n // size)
    return (torch.arange(each, device=device) + group_rank(group) * each).clamp_max(n - 1)


def _gathered(output: Any, n: int, group: Group) -> Any:
    """The first n rows of all ranks' outputs, whose shares are of one size."""

    def gather(leaf: Tensor) -> Tensor:
        return cat(exchange("rows", leaf, 0, group, sizes=[len(leaf)] * group_size(group)))[:n]

    return tree_map(gather, output)
