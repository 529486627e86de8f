"""Exchange: every rank gets all ranks' tensors, as they are now or as they were some calls ago.

With `Fresh` it is an all-gather, and whatever is built on it is exact. With `Stale(n)` it starts the all-gather and
returns the one of n calls before, which has arrived meanwhile: displaced patch parallelism (DistriFusion, Li et al.,
CVPR 2024, arXiv:2402.19481) with n = 1. Ranks must make the same calls in the same order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor

from unisono.diffusion.limits import whole
from unisono.errors import UnisonoError

Group = Any  # a torch.distributed.ProcessGroup; None is all processes, or this one alone where there are no others


@dataclass(frozen=True)
class Fresh:
    """Gather now, and wait for it."""

    pure: ClassVar[bool] = True

    def reset(self) -> None:
        """Nothing is kept."""

    def __str__(self) -> str:
        return "Fresh()"


class Stale:
    """Return what was gathered `steps` calls of the same key before, and gather meanwhile.

    The first `warmup` calls of a key, at least `steps`, are fresh. With `measure`, `drift` has for each key how far
    the last gathering used was from the one it stood for, relative to its norm: known once that one has arrived, so
    `steps` calls late. The values make a network depend on its earlier calls: `pure` is False.

    Raises:
        UnisonoError: if steps is below 1 or warmup below 0.
    """

    pure: ClassVar[bool] = False

    def __init__(self, steps: int = 1, warmup: int = 0, measure: bool = False):
        whole("Stale.", steps, fix=" call old: use Fresh() for none")
        whole("Stale.warmup", warmup, 0)
        self.steps, self.warmup, self.measure = steps, warmup, measure
        self.reset()

    def reset(self) -> None:
        """Forget what was gathered, as a new sample must: it begins with fresh calls again."""
        self.drift: dict[Hashable, float] = {}
        self._queues: dict[Hashable, deque[_Gathering]] = {}
        self._calls: dict[Hashable, int] = {}
        self._used: dict[Hashable, deque[Tensor]] = {}

    def __str__(self) -> str:
        return f"Stale({self.steps}, warmup={self.warmup})"

    def _turn(self, key: Hashable, new: _Gathering) -> list[Tensor]:
        queue = self._queues.setdefault(key, deque())
        call = self._calls[key] = self._calls.get(key, 0) + 1
        queue.append(new)
        if len(queue) <= self.steps:
            return new.parts()
        old = queue.popleft()
        if call <= self.warmup:
            return new.parts()
        if self.measure:
            # This one was on its way `steps` calls ago, when the oldest that is kept here was used in its place.
            now = torch.cat([part.flatten() for part in old.parts()])
            used = self._used.setdefault(key, deque())
            if len(used) == self.steps:
                before = used.popleft()
                tiny = torch.finfo(now.dtype).tiny
                self.drift[key] = float((now - before).norm() / now.norm().clamp_min(tiny))
            used.append(now)
        return old.parts()


Policy = Fresh | Stale


def exchange(
    key: Hashable,
    local: Tensor,
    dim: int,
    group: Group = None,
    policy: Policy | None = None,
    sizes: Sequence[int] | None = None,
) -> list[Tensor]:
    """The tensors of all ranks in their order, this one's included as it was gathered; one process gets its own back.

    `local` may differ in size between ranks along `dim` alone; `sizes` says how long each is, and saves asking. `key`
    names the place of the call for `Stale`. The policy is `Fresh()` by default.

    Raises:
        UnisonoError: if this process is not in the group, a gradient would be lost, or the sizes contradict `local`.
    """
    policy = policy or Fresh()
    size, rank = group_size(group), group_rank(group)
    if size == 1:
        return [local]
    if local.requires_grad and torch.is_grad_enabled():
        raise UnisonoError(
            f"exchange({key!r}) passes no gradient back: call the network under torch.no_grad()",
            code="unsupported",
            path="local",
        )
    sizes = gather_sizes(local, dim, group) if sizes is None else list(sizes)
    if len(sizes) != size or sizes[rank] != local.shape[dim]:
        raise UnisonoError(
            f"exchange({key!r}) on rank {rank} of {size} has {local.shape[dim]} along dimension {dim}, but was told "
            f"that the ranks have {sizes}",
            code="shape",
            path="sizes",
            value=sizes,
        )
    gathering = _Gathering(local, dim, group, sizes)
    return policy._turn(key, gathering) if isinstance(policy, Stale) else gathering.parts()


def gather_sizes(local: Tensor, dim: int, group: Group = None) -> list[int]:
    """How long each rank's tensor is along a dimension."""
    mine = torch.tensor([local.shape[dim]], device=local.device)
    found = [torch.empty_like(mine) for _ in range(group_size(group))]
    dist.all_gather(found, mine, group=group)
    return torch.cat(found).tolist()


def group_size(group: Group = None) -> int:
    """How many processes there are in a group; 1 where torch.distributed was not initialised."""
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


def group_rank(group: Group = None) -> int:
    """This process's number in a group.

    Raises:
        UnisonoError: if it is not in it.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return 0
    rank = dist.get_rank(group)
    if rank < 0:
        raise UnisonoError(
            f"process {dist.get_rank()} is not in the group that it was given: give it one of its own",
            code="value",
            path="group",
            value=dist.get_rank(),
        )
    return rank


class _Gathering:
    """An all-gather under way: tensors of one rank are padded to the longest, as not all backends take uneven ones."""

    def __init__(self, local: Tensor, dim: int, group: Group, sizes: list[int]):
        self.dim, self.sizes = dim, sizes
        longest = max(sizes)
        shape = [*local.shape]
        shape[dim] = longest
        self.sent = local.new_zeros(shape)  # a copy, which nobody changes while it is on its way
        self.sent.narrow(dim, 0, local.shape[dim]).copy_(local.detach())
        self.found = [torch.empty_like(self.sent) for _ in sizes]
        self.work = dist.all_gather(self.found, self.sent, group=group, async_op=True)

    def parts(self) -> list[Tensor]:
        if self.work is not None:
            self.work.wait()
            self.work = None
        return [part.narrow(self.dim, 0, size) for part, size in zip(self.found, self.sizes, strict=True)]
