"""Gradient: gradients through a sampler, from the fixed point instead of the chain.

Deep equilibrium models; DeqIR (Cao et al., CVPR 2024, arXiv:2311.11600).

The states are the fixed point of a round's map, X = Φ(X; x_0, θ), which replays the chain on held outputs. With v the
gradient with respect to X,

    v = g + v ∂Φ/∂X,   and then the gradient of anything else is v ∂Φ/∂(x_0, θ)

Φ is strictly triangular, so iterating v is exact after T products and in practice as quick as the sampler; each is one
batched product through the network. The one-step gradient takes v = g: cheap, biased, often enough.

All T rows are evaluated at once, with their activations kept. Letters: b batch.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from unisono.diffusion.chain.recurrence import Quantity, Recurrence
from unisono.diffusion.chain.tree import cat, leaves, num_rows, rows, tree_map
from unisono.diffusion.limits import positive
from unisono.diffusion.report import Report
from unisono.diffusion.solve import solve_now
from unisono.diffusion.solvers.accept import Accept
from unisono.diffusion.solvers.evaluator import Evaluator
from unisono.diffusion.solvers.job import Solver
from unisono.diffusion.turns import turn
from unisono.errors import UnisonoError, did_you_mean


def differentiable(
    recurrence: Recurrence,
    x: Any,
    gradient: Literal["implicit", "one-step"] = "implicit",
    *,
    solver: Solver | None = None,
    accept: Accept | None = None,
    window: int | None = None,
    evaluator: Evaluator | None = None,
    hold: Quantity = "v",
    tolerance: float = 1e-6,
) -> tuple[Any, Report]:
    """The sample x_T [b, …], with gradients with respect to x_0 and to whatever the network was made of.

    Its value is one replay from the states that `solve` found. The implicit gradient iterates until it moves by less
    than `tolerance` relative to its norm, at most T times; it is that of the chain as far as the states are its own:
    a tight `accept` gives a tight gradient. `hold` is the quantity that stays fixed in Φ.

    Raises:
        UnisonoError: if the gradient is of another kind, or the tolerance is not above 0, and as `solve` does.
    """
    if gradient not in ("implicit", "one-step"):
        raise UnisonoError(
            f"gradient={gradient!r} is unknown{did_you_mean(gradient, ('implicit', 'one-step'))}",
            code="unknown",
            path="gradient",
            value=gradient,
        )
    tolerance = positive("tolerance", tolerance, ", such as 1e-6")
    with turn([recurrence], "this chain"):
        return _differentiable(recurrence, x, gradient, solver, accept, window, evaluator, hold, tolerance)


def _differentiable(
    recurrence: Recurrence,
    x: Any,
    gradient: str,
    solver: Solver | None,
    accept: Accept | None,
    window: int | None,
    evaluator: Evaluator | None,
    hold: Quantity,
    tolerance: float,
) -> tuple[Any, Report]:
    every = torch.arange(num_rows(x), device=leaves(x)[0].device)
    start = recurrence.begin(every)  # before the generators move
    solution = solve_now(recurrence, tree_map(Tensor.detach, x), solver, accept, window, evaluator, trajectory=True)
    assert solution.states is not None
    steps = recurrence.num_steps
    with torch.enable_grad():
        fixed = [x, *(tree_map(lambda s: s.detach().requires_grad_(), s) for s in solution.states[1:steps])]
        step = torch.arange(steps, device=every.device).repeat_interleave(len(every))
        output = recurrence.evaluate(cat(fixed), step, every.repeat(steps))
        recurrence.restore(start)
        state, mapped = x, []
        for i in range(steps):
            here = rows(output, slice(i * len(every), (i + 1) * len(every)))
            held = here if i == 0 else recurrence.hold(here, i, fixed[i], state, hold)
            state = recurrence.advance(held, i, state)
            mapped.append(state)
    if gradient == "implicit":
        flat = [leaf for s in mapped for leaf in leaves(s)]
        inputs = [leaf for s in fixed[1:] for leaf in leaves(s)]
        flat = list(_Adjoint.apply(tolerance, steps, inputs, *flat))
        last = iter(flat[len(flat) - len(leaves(state)) :])
        state = tree_map(lambda _: next(last), state)
    return state, solution.report


class _Adjoint(torch.autograd.Function):
    """The identity of Φ's values; on the way back, g becomes v."""

    @staticmethod
    def forward(ctx: Any, tolerance: float, steps: int, inputs: list[Tensor], *mapped: Tensor) -> tuple[Tensor, ...]:
        ctx.tolerance, ctx.steps, ctx.inputs = tolerance, steps, inputs
        ctx.save_for_backward(*mapped)
        return tuple(m.view_as(m) for m in mapped)

    @staticmethod
    def backward(ctx: Any, *g: Tensor) -> tuple[Any, ...]:
        mapped, inputs = ctx.saved_tensors, ctx.inputs
        shift = len(mapped) // ctx.steps  # tensors per state: the last state is no input
        v = list(g)
        for _ in range(ctx.steps if inputs else 0):
            with torch.enable_grad():
                back = torch.autograd.grad(mapped, inputs, v, retain_graph=True, allow_unused=True)
            new = [a if b is None else a + b for a, b in zip(g, back, strict=False)] + list(g[len(g) - shift :])
            moved = sum(float((a - b).square().sum()) for a, b in zip(new, v, strict=True))
            v = new
            if moved <= ctx.tolerance**2 * sum(float(a.square().sum()) for a in v):
                break
        return None, None, None, *v
