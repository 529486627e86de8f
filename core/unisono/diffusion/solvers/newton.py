"""Newton: G is the step's Jacobian, or its diagonal (DEER, Lim et al., arXiv:2309.12252).

    x_{i+1}' = F_i(x_i) + J_i (x_i' − x_i)

Newton is quadratic, and exact after one round where steps are affine, but has a row per dimension and step: for small
states. The diagonal (quasi-DEER, Gonzalez et al., NeurIPS 2024) is estimated as z ⊙ J z with random signs z. Both need
a network with forward derivatives, and a chain without history. A row with a derivative counts as one row.

Letters: k samples of a lane, d numbers of a state, m tangents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unisono.diffusion.chain.tree import cat, flat, leaves, tree_map, unflat
from unisono.diffusion.limits import whole
from unisono.diffusion.solvers.job import Job
from unisono.diffusion.solvers.picard import linear_sweep
from unisono.diffusion.solvers.window import Lane, WindowSolver, check_history
from unisono.errors import UnisonoError


@dataclass(frozen=True)
class Newton(WindowSolver):
    """G = the whole Jacobian of a step.

    Raises:
        UnisonoError: if a state has more than `limit` numbers, or the chain has a history.
    """

    limit: int = 256

    def run(self, job: Job) -> Any:
        check_history(job.recurrence, self)
        size = sum(leaf[0].numel() for leaf in leaves(job.x))
        if size > self.limit:
            raise UnisonoError(
                f"Newton would take {size} rows for each state of {size} numbers, above limit={self.limit}: "
                "use Picard or DiagNewton",
                code="limit",
                path="limit",
                value=size,
            )
        return super().run(job)

    def update(self, job: Job, lane: Lane) -> tuple[list[Any], list[Any]]:
        first = lane.states[0]
        size = flat(first).shape[1]
        basis = torch.eye(size, device=flat(first).device)[:, None].expand(size, len(lane.sample), size)
        jacobians = [flat_images.permute(1, 2, 0) for flat_images in _pushed(job, lane, basis)]

        def propagate(k: int, delta: Any) -> Any:
            return unflat((jacobians[k] @ flat(delta)[..., None])[..., 0], delta)

        return linear_sweep(job, lane, propagate)


@dataclass(frozen=True)
class DiagNewton(WindowSolver):
    """G = the Jacobian's diagonal, estimated with `probes` random signs from the seed: one row more per probe."""

    probes: int = 1
    seed: int = 0

    def __post_init__(self):
        whole("DiagNewton.probes", self.probes)

    def run(self, job: Job) -> Any:
        check_history(job.recurrence, self)
        return super().run(job)

    def update(self, job: Job, lane: Lane) -> tuple[list[Any], list[Any]]:
        # Signs depend on the window alone, so that a sample meets the same ones in any batch.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + lane.front)

        size = flat(lane.states[0]).shape[1]
        signs = 2 * torch.randint(0, 2, (self.probes, 1, size), generator=generator) - 1
        probes = signs.to(flat(lane.states[0])).expand(self.probes, len(lane.sample), size)
        diagonals = [(probes * images).mean(0) for images in _pushed(job, lane, probes)]

        def propagate(k: int, delta: Any) -> Any:
            return unflat(diagonals[k] * flat(delta), delta)

        return linear_sweep(job, lane, propagate)


def _pushed(job: Job, lane: Lane, tangents: Float[Tensor, "m k d"]) -> list[Float[Tensor, "m k d"]]:
    """J_i t of every step of a window, for each tangent t.

    The network is differentiated in one batch of all steps and tangents, the cheap part of a step for all tangents.
    """
    recurrence, size, k, m = job.recurrence, len(lane.outputs), len(lane.sample), len(tangents)
    step = torch.tensor([lane.front + i for i in range(size) for _ in range(k)], device=lane.sample.device).repeat(m)
    sample = lane.sample.repeat(size * m)
    x = cat([*lane.states] * m)
    t = unflat(tangents[:, None].expand(-1, size, -1, -1).reshape(m * size * k, -1), x)
    job.report.count(sample.tolist())
    output, d_output = _jvp(lambda x: recurrence.evaluate(x, step, sample), (x,), (t,))
    split = tree_map(lambda leaf: leaf.reshape(m, size, k, *leaf.shape[1:]), (output, d_output, t))
    recurrence.restore(lane.carry)
    images = []
    for i in range(size):
        carry = recurrence.snapshot()
        value, *slopes = tree_map(lambda leaf, i=i: leaf[:, i], split)
        value = tree_map(lambda leaf: leaf[0], value)

        def pushed(d_output: Any, d_x: Any, i: int = i, value: Any = value) -> Any:
            def advance(output: Any, x: Any) -> Any:
                return recurrence.advance(output, lane.front + i, x)

            return _jvp(advance, (value, lane.states[i]), (d_output, d_x))[1]

        # The same noise for every tangent: it has no part in the derivative.
        image = torch.func.vmap(pushed, randomness="same")(*slopes)
        images.append(torch.stack([flat(tree_map(lambda leaf, n=n: leaf[n], image)) for n in range(m)]))
        recurrence.restore(carry)
        recurrence.advance(lane.outputs[i], lane.front + i, lane.states[i])
    return images


def _jvp(function: Callable[..., Any], args: tuple, tangents: tuple) -> tuple[Any, Any]:
    try:
        value, slope = torch.func.jvp(function, args, tangents)[:2]
        return value, slope
    except (NotImplementedError, RuntimeError) as error:
        if "forward" not in str(error).lower():
            raise
        raise UnisonoError(
            f"the network has no forward derivative ({str(error).splitlines()[0][:150]}): use Picard, or attention "
            "without a fused kernel",
            code="unsupported",
            path="network",
        ) from None
