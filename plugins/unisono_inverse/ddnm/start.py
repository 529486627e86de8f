"""Start: the initial noise of a chain, moved so that the prior's own last estimate agrees with the measurement.

DeqIR's initialisation (Cao et al., CVPR 2024, arXiv:2311.11600): descent on ‖A x0 − y‖² by gradients through the fixed
point of the whole chain (`unisono.diffusion.differentiable`). Here x0 is the last step's estimate before it is
corrected, since after the correction nothing is left to descend; distances are those of A⁺A x0 and A⁺y; the noise keeps
its norm, so that it stays noise; and the best start that was seen is kept. One picture at a time.

Shapes: b pictures, c h w of a picture.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.diffusion import Accept, Solver, differentiable
from unisono.stopping import may_stop

from unisono_inverse.ddnm.chain import DDNM

__all__ = ["improved_start"]

RATE = 0.05


def improved_start(
    chain: DDNM,
    x: Float[Tensor, "1 c h w"],
    num_steps: int,
    run: tuple[Solver, Accept, int | None],
    on_step: Callable[[], None] = lambda: None,
) -> tuple[Float[Tensor, "1 c h w"], list[float], int]:
    """Return a better start for one picture's chain, its losses by step, and the rows that were evaluated.

    ``chain`` must leave its last estimate uncorrected (``correct_last=False``).
    """
    solver, accept, window = run
    norm = x.norm()
    moving = x.clone().requires_grad_()
    optimiser = torch.optim.Adam([moving], lr=RATE)
    best, losses, rows = x, [], 0
    for _ in range(num_steps + 1):
        may_stop()
        with torch.enable_grad():
            made, report = differentiable(chain, moving, solver=solver, accept=accept, window=window)
            loss = (chain.operator.project(made) - chain.back).square().mean()
        rows += report.rows + chain.num_steps
        losses.append(float(loss.detach()))
        if losses[-1] == min(losses):
            best = moving.detach().clone()
        if len(losses) > num_steps:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            moving.mul_(norm / moving.norm())
        on_step()
    return best, losses, rows
