"""Tensor parallelism: each layer of a transformer on several ranks, by a plan that the layer declares."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


def parallelize(model: nn.Module, mesh: Any) -> list[nn.Parameter]:
    raise NotImplementedError


@torch.no_grad()
def average_copies(parameters: Iterable[nn.Parameter], group: Any, count: int) -> None:
    """Replace gradients by their sum over a group's ranks, divided by ``count``."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if gradients:
        flat = nn.utils.parameters_to_vector(gradients)
        torch.distributed.all_reduce(flat, group=group)
        nn.utils.vector_to_parameters(flat / count, gradients)
