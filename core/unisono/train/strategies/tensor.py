"""Tensor parallelism: each block of a transformer on several ranks, by the plan that its class declares.

Torch's ``ColwiseParallel`` and ``RowwiseParallel`` cut plain layers. A layer of several parts, such as queries, keys
and values in one, is cut within each part, so that a rank has the three of its own heads; its bias, where it has one,
stays whole on every rank, which reads its own share.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module
from torch.distributed.tensor.placement_types import _StridedShard
from torch.nn import functional as F

from unisono.errors import RecipeError
from unisono.nn.tensor_plan import TensorPlan
from unisono.train.strategies.whole import local


class PartedColumns(ParallelStyle):
    """Cut a linear layer by columns within each of its parts."""

    def __init__(self, parts: int):
        super().__init__()
        self.parts = parts

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        assert isinstance(module, nn.Linear)
        copies = DTensor.from_local(module.weight.detach(), device_mesh, [Replicate()], run_check=False)
        cut = copies.redistribute(placements=[_StridedShard(0, split_factor=self.parts)])
        module.weight = nn.Parameter(cut, requires_grad=module.weight.requires_grad)
        size, rank = device_mesh.size(), device_mesh.get_local_rank()

        def forward(input: Tensor) -> Tensor:
            # as it is; its gradient is summed over the ranks, each of which has that of its own columns
            copies = DTensor.from_local(input, device_mesh, [Replicate()], run_check=False)
            x = copies.to_local(grad_placements=[Partial()])
            bias = module.bias
            if bias is not None:
                bias = bias.unflatten(0, (self.parts, size, -1))[:, rank].flatten()
            return F.linear(x, local(module.weight), bias)

        module.forward = forward
        return module


def plans_of(model: nn.Module) -> dict[str, TensorPlan]:
    """Return the plan of each block that declares one, by the block's name."""
    found = {name: getattr(type(module), "tensor_plan", None) for name, module in model.named_modules()}
    return {name: plan for name, plan in found.items() if isinstance(plan, TensorPlan)}


def parallelize(model: nn.Module, mesh: DeviceMesh) -> list[str]:
    """Share a model's blocks among the ranks of a mesh; return the names of parameters whose gradients are summed.

    Raises:
        RecipeError: for a model without a plan or with adapters, and for heads or channels that the ranks do not
            divide.
    """
    plans = plans_of(model)
    kind = type(model).__name__
    if not plans:
        raise RecipeError(
            f"trainer.strategy: {kind} declares no tensor plan, so that its layers cannot be shared by {mesh.size()} "
            "processes: use fsdp2",
            path="trainer.strategy.name",
            value="tensor",
            code="unsupported",
        )
    if getattr(model, "adapted", None):
        raise RecipeError(
            f"trainer.strategy: the layers of a {kind} with adapters are not shared by processes: use fsdp2, or train "
            "it without adapters",
            path="trainer.strategy.name",
            value="tensor",
            code="conflict",
        )
    for name, plan in plans.items():
        _check(model.get_submodule(name), plan, mesh.size(), f"{kind}.{name}")
    summed = []
    for name, plan in plans.items():
        block = model.get_submodule(name)
        there = {path for path, _ in block.named_modules()}
        styles: dict[str, ParallelStyle] = {row: RowwiseParallel() for row in plan.rows if row in there}
        for column, parts in plan.columns.items():
            if column not in there:
                continue
            styles[column] = ColwiseParallel() if parts == 1 else PartedColumns(parts)
            if parts > 1 and block.get_submodule(column).bias is not None:
                summed.append(f"{name}.{column}.bias")
        if styles:
            parallelize_module(block, mesh, styles)
        for path in plan.heads:
            holder, attribute = _holder(block, path)
            setattr(holder, attribute, getattr(holder, attribute) // mesh.size())
        for path, counted in zip(plan.first, plan.heads[: len(plan.first)], strict=True):
            holder, attribute = _holder(block, path)
            setattr(holder, attribute, mesh.get_local_rank() * getattr(*_holder(block, counted)))
        own = {path for path, _ in block.named_parameters()}
        summed += [f"{name}.{shared}" for shared in plan.shared if shared in own]
    return summed


@torch.no_grad()
def add_up(parameters: Iterable[nn.Parameter], group: Any, count: int = 1) -> None:
    """Replace gradients by their sum over the ranks of a group, divided by ``count``."""
    gradients = [local(p.grad) for p in parameters if p.grad is not None]
    if gradients:
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat, group=group)
        for gradient, made in zip(gradients, (flat / count).split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(made.view_as(gradient))


def _check(block: nn.Module, plan: TensorPlan, size: int, name: str) -> None:
    counts = {path: getattr(*_holder(block, path)) for path in plan.heads}
    layers: dict[str, Any] = dict(block.named_modules())
    for column in plan.columns.keys() & layers.keys():
        counts[f"{column}.out_features"] = layers[column].out_features // plan.columns[column]
    for path, count in counts.items():
        if count % size:
            raise RecipeError(
                f"trainer.strategy: {name}.{path}: {count} is not divisible by {size} processes: take a size that "
                f"divides {count}, or another model",
                path="trainer.strategy.size",
                value=size,
                code="shape",
            )


def _holder(block: nn.Module, path: str) -> tuple[Any, str]:
    parent, _, attribute = path.rpartition(".")
    return block.get_submodule(parent), attribute
