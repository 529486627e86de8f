"""Peers: the processes of a training that work on other items of the same batch, this one included.

Usually these are all of them. Where a layer is shared by several processes (tensor parallelism), those work on the
same items, and are no peers. What a model sums or gathers over a batch goes through here; alone, nothing is done.
"""

from typing import Any

import torch
from torch import Tensor

_group: Any = None


def set_peers(group: Any) -> None:
    """Say which process group the peers are; None is all processes."""
    global _group
    _group = group


def num_peers() -> int:
    """Return how many processes share a batch."""
    return torch.distributed.get_world_size(_group) if _together() else 1


def peer_rank() -> int:
    """Return this process' number among them, in ``[0, num_peers())``."""
    return torch.distributed.get_rank(_group) if _together() else 0


def add_up(value: Tensor) -> Tensor:
    """Sum a tensor over all peers, in place where it is contiguous; return it."""
    if _together():
        value = value.contiguous()
        torch.distributed.all_reduce(value, group=_group)
    return value


def gather(value: Tensor) -> list[Tensor]:
    """Return the tensors of all peers, in their order; they have one shape."""
    if not _together():
        return [value]
    parts = [torch.empty_like(value) for _ in range(num_peers())]
    torch.distributed.all_gather(parts, value.contiguous(), group=_group)
    return parts


def _together() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
