"""Norm: the length of a gradient that lies in parts on several ranks, and clipping by it.

``torch.nn.utils.clip_grad_norm_`` takes tensors of one mesh only. Here each rank squares what it holds, a value that
``n`` ranks hold counts 1/n of its square on each, and one number is summed over all ranks.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate

from unisono.train.strategies.whole import local


@torch.no_grad()
def gradient_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return the Euclidean norm of all gradients, the same on every rank."""
    world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    squares = []
    for parameter in parameters:
        if parameter.grad is not None:
            part = local(parameter.grad)
            squares.append(torch.linalg.vector_norm(part, dtype=torch.float32).square() / _holders(parameter, world))
    if not squares:
        return torch.zeros(())
    total = torch.stack(squares).sum()
    if world > 1:
        torch.distributed.all_reduce(total)
    return total.sqrt()


@torch.no_grad()
def clip_by_norm(parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
    """Scale all gradients so that their norm is at most ``limit``; return the norm that they had."""
    norm = gradient_norm(parameters)
    factor = (limit / (norm + 1e-6)).clamp(max=1.0)
    for parameter in parameters:
        if parameter.grad is not None:
            part = local(parameter.grad)
            part.mul_(factor.to(part.device, part.dtype))
    return norm


@torch.no_grad()
def clip_by_value(parameters: Sequence[nn.Parameter], limit: float) -> None:
    """Cut each number of all gradients to ``[-limit, limit]``."""
    for parameter in parameters:
        if parameter.grad is not None:
            local(parameter.grad).clamp_(-limit, limit)


def _holders(parameter: nn.Parameter, world: int) -> int:
    """On how many ranks each number of a parameter lies."""
    if not isinstance(parameter, DTensor):
        return world
    mesh = parameter.device_mesh
    copies = math.prod(mesh.size(i) for i, place in enumerate(parameter.placements) if isinstance(place, Replicate))
    return copies * (world // mesh.size())
