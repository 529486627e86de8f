"""Whole: sharded weights as whole ones, and whole ones as shards.

A weight that is sharded is a ``DTensor``, of which each rank holds a part. What is said here of all ranks is a
collective operation: all of them call it, in the same order.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Replicate


def local(value: Any) -> Any:
    """Return this rank's part of a sharded tensor, and anything else as it is."""
    return value.to_local() if isinstance(value, DTensor) else value


def whole(value: Any) -> Any:
    """Return a sharded tensor put together, on all ranks, and anything else as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def whole_state(state: Mapping[str, Any], keep: bool) -> dict[str, Any]:
    """Return a state's tensors whole and in the memory of the processor, one after the other, on all ranks.

    Those that ``keep`` nothing help the others, and get an empty state.
    """
    made = {}
    for name, value in state.items():
        value = whole(value)
        if keep:
            made[name] = value.detach().cpu() if isinstance(value, Tensor) else value
    return made


def shard_like(value: Tensor, like: Any) -> Any:
    """Return a whole tensor, which every rank has, as ``like`` is sharded; nothing is sent."""
    if not isinstance(like, DTensor):
        return value
    value = value.to(like.device)
    copies = DTensor.from_local(value, like.device_mesh, [Replicate()] * like.device_mesh.ndim, run_check=False)
    return copies.redistribute(placements=like.placements)


@torch.no_grad()
def load_whole(model: nn.Module, state: Mapping[str, Tensor], strict: bool = True) -> None:
    """Load a whole state into a model whose weights may be sharded."""
    reshard(model)
    own = model.state_dict()
    model.load_state_dict({k: shard_like(v, own.get(k)) for k, v in state.items()}, strict=strict)


def reshard(model: nn.Module) -> None:
    """Free what was gathered: the model's parameters are the sharded ones, which optimisers and averages hold."""
    for module in _sharded(model):
        module.reshard()


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Hold all weights whole on every rank, so that each may go its own way until the end of the block.

    All ranks enter and leave it together. No gradient may be asked for inside.
    """
    modules = list(_sharded(model))
    before = [_reshards(module) for module in modules]
    for module in modules:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module, reshards in zip(modules, before, strict=True):
            module.reshard()
            module.set_reshard_after_forward(reshards, recurse=False)


def is_sharded(model: nn.Module) -> bool:
    """Whether some of a model's weights are sharded, or are the gathered copies of such."""
    return isinstance(model, FSDPModule) or any(isinstance(p, DTensor) for p in model.parameters())


def kinds(parameters: Iterable[Any]) -> set[Any]:
    """Return what kinds of tensors these are: plain ones, and those of each mesh; no operation takes two kinds."""
    return {(p.device_mesh, p.placements) if isinstance(p, DTensor) else None for p in parameters}


def _sharded(model: nn.Module) -> Iterator[Any]:
    return (module for module in model.modules() if isinstance(module, FSDPModule))


def _reshards(module: Any) -> bool:
    return all(group._reshard_after_forward for group in module._get_fsdp_state()._fsdp_param_groups)
