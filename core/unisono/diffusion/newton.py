"""Newton solvers (DEER, Lim et al., arXiv:2309.12252): G is the step's Jacobian, or its diagonal.

    x_{i+1}' = F_i(x_i) + J_i (x_i' − x_i)

Newton is quadratic, and exact after one round where steps are affine, but has a row per dimension and step: for small
states. The diagonal (quasi-DEER, Gonzalez et al., NeurIPS 2024) is estimated as z ⊙ J z with random signs z. Both need
a network with forward derivatives, and a chain without history. A row with a derivative counts as one row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unisono.diffusion.picard import linear_sweep
from unisono.diffusion.tree import cat, leaves, rows, tree_map
from unisono.diffusion.window import Lane, WindowSolver, check_history
from unisono.errors import UnisonoError

if TYPE_CHECKING:
    from unisono.diffusion.solve import Job


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
                "use Picard or DiagNewton"
            )
        return super().run(job)

    def update(self, job: Job, lane: Lane) -> tuple[list[Any], list[Any]]:
        parts = leaves(lane.states[0])
        size = sum(part[0].numel() for part in parts)
        columns = []
        for column in torch.eye(size, dtype=parts[0].dtype, device=parts[0].device):
            pieces = iter(column.split([part[0].numel() for part in parts]))

            def basis(part: Tensor, pieces: Any = pieces) -> Tensor:
                return next(pieces).reshape(part[0].shape).expand_as(part)

            columns.append(tree_map(basis, lane.states[0]))
        images = _pushed(job, lane, columns)

        def propagate(k: int, delta: Any) -> Any:
            weight = torch.cat([leaf.flatten(1) for leaf in leaves(delta)], 1)
            change = tree_map(torch.zeros_like, delta)
            for c in range(size):
                change = tree_map(lambda s, j, c=c: s + _wide(weight[:, c], j) * j, change, images[c][k])
            return change

        return linear_sweep(job, lane, propagate)


@dataclass(frozen=True)
class DiagNewton(WindowSolver):
    """G = the Jacobian's diagonal, estimated with `probes` random signs from the seed: one row more per probe."""

    probes: int = 1
    seed: int = 0

    def __post_init__(self):
        if self.probes < 1:
            raise UnisonoError(f"DiagNewton(probes={self.probes}) must be at least 1")

    def run(self, job: Job) -> Any:
        check_history(job.recurrence, self)
        return super().run(job)

    def update(self, job: Job, lane: Lane) -> tuple[list[Any], list[Any]]:
        # Signs depend on the window alone, so that a sample meets the same ones in any batch.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + lane.front)

        def signs(part: Tensor) -> Tensor:
            drawn = torch.randint(0, 2, part.shape[1:], generator=generator)
            return (2 * drawn - 1).to(part).expand_as(part)

        probes = [tree_map(signs, lane.states[0]) for _ in range(self.probes)]
        images = _pushed(job, lane, probes)

        def propagate(k: int, delta: Any) -> Any:
            change = tree_map(torch.zeros_like, delta)
            for z, image in zip(probes, images, strict=True):
                change = tree_map(lambda s, z, j, d: s + z * j[k] * d / self.probes, change, z, _at(image), delta)
            return change

        return linear_sweep(job, lane, propagate)


class _Each:
    """The images of one tangent at all steps, for one tensor of the state."""

    def __init__(self, per_step: list[Tensor]):
        self.per_step = per_step

    def __getitem__(self, k: int) -> Tensor:
        return self.per_step[k]


def _at(images: list[Any]) -> Any:
    return tree_map(lambda *parts: _Each(list(parts)), *images)


def _wide(weight: Tensor, like: Tensor) -> Tensor:
    return weight.reshape(-1, *[1] * (like.ndim - 1)).to(like)


def _pushed(job: Job, lane: Lane, tangents: list[Any]) -> list[list[Any]]:
    """J_i t of every step of a window, for each tangent t [k, …]: per tangent a list over steps.

    The network is differentiated in one batch of all steps and tangents, the cheap part of the step one by one.
    """
    recurrence, size, k = job.recurrence, len(lane.outputs), len(lane.sample)
    step = torch.tensor([lane.front + i for i in range(size) for _ in range(k)], device=lane.sample.device)
    step, sample = step.repeat(len(tangents)), lane.sample.repeat(size * len(tangents))
    x = cat([*lane.states] * len(tangents))
    t = cat([tangent for tangent in tangents for _ in range(size)])
    job.count(sample)
    output, d_output = _jvp(lambda x: recurrence.evaluate(x, step, sample), (x,), (t,))
    carry, carries = lane.carry, []
    recurrence.restore(carry)
    for i in range(size):
        carries.append(carry)
        recurrence.advance(lane.outputs[i], lane.front + i, lane.states[i])
        carry = recurrence.snapshot()
    images = []
    for n, tangent in enumerate(tangents):
        image = []
        for i in range(size):
            here = slice((n * size + i) * k, (n * size + i + 1) * k)
            recurrence.restore(carries[i])

            def advance(output: Any, x: Any, i: int = i) -> Any:
                return recurrence.advance(output, lane.front + i, x)

            args = rows(output, here), lane.states[i]
            image.append(_jvp(advance, args, (rows(d_output, here), tangent))[1])
        images.append(image)
    return images


def _jvp(function: Callable[..., Any], args: tuple, tangents: tuple) -> tuple[Any, Any]:
    tangents = tree_map(lambda t: t.contiguous(), tangents)
    try:
        return torch.func.jvp(function, args, tangents)
    except (NotImplementedError, RuntimeError) as error:
        if "forward" not in str(error).lower():
            raise
        raise UnisonoError(
            f"the network has no forward derivative ({str(error).splitlines()[0][:150]}): use Picard, or attention "
            "without a fused kernel"
        ) from None
