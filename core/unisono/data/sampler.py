"""Samplers: batches as pure functions of (seed, epoch, step), so that a resumed run equals an uninterrupted one.

Both plan the *global* batches of an epoch; ranks share each out afterwards (rank r takes items r, r + world,
r + 2 world, …), so the number of processes changes nothing but who computes what.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from unisono.errors import DataError

POOL_BATCHES = 32


def derive_seed(*parts: int | str) -> int:
    """Mix numbers and names into one 63-bit seed; any change of any part gives an unrelated one."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def item_generator(seed: int, epoch: int | str, index: int) -> torch.Generator:
    """Return the generator for one item of one epoch, the same on any rank and in any worker."""
    return torch.Generator().manual_seed(derive_seed("item", seed, epoch, index))


class Batches(Sequence[list[int]]):
    """The batches of an epoch, [n, b], each turned into a list when it is asked for."""

    def __init__(self, table: Int[Tensor, "n b"]):
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: Any) -> Any:
        return Batches(self.table[index]) if isinstance(index, slice) else self.table[index].tolist()

    def __iter__(self) -> Iterator[list[int]]:
        return (batch.tolist() for batch in self.table)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)


class ReplayableBatchSampler:
    """Shuffled batches of exactly ``batch_size`` items, each of similar sizes.

    An epoch's permutation is cut to whole batches (``left_over`` items sit out, others each epoch),
    taken in pools of 32 batches that are sorted by size and cut into batches, whose order is
    shuffled again. Within an epoch no item comes twice.

    With ``shards`` the order is drawn in two steps, so that a run reads from few shards at a time: the shards are
    shuffled, and the items of ``window`` neighbours among them; pools are shuffled each by itself.

    Args:
        sizes: a size per item, such as frames; equal sizes switch bucketing off by themselves.
        batch_size: items of a global batch. More than there are items raises ``DataError``.
        seed: the run's seed.
        shards: the number of each item's shard, ascending.
        window: shards whose items are shuffled together.
    """

    def __init__(
        self,
        sizes: Sequence[int] | Int[Tensor, "m"],
        batch_size: int,
        seed: int,
        shards: Int[Tensor, "m"] | None = None,
        window: int = 16,
    ):
        if batch_size < 1:
            raise DataError(
                f"batch_size={batch_size} must be at least 1", code="range", path="data.batch_size", value=batch_size
            )
        if len(sizes) < batch_size:
            raise DataError(
                f"{len(sizes)} training items cannot fill one batch: "
                f"lower data.batch_size={batch_size} to at most {len(sizes)}, or give more data",
                code="limit" if len(sizes) else "empty",
                path="data.batch_size",
                value=batch_size,
            )
        self.sizes = torch.as_tensor(sizes)
        self.batch_size = batch_size
        self.seed = seed
        self.shards, self.window = shards, window
        self.left_over = len(sizes) % batch_size

    def __len__(self) -> int:
        return len(self.sizes) // self.batch_size

    def batches(self, epoch: int) -> Batches:
        """Return the global batches of an epoch, in order."""
        generator = torch.Generator().manual_seed(derive_seed("epoch", self.seed, epoch))
        if self.shards is None:
            order = torch.randperm(len(self.sizes), generator=generator)
        else:
            order = self._by_window(self.shards, generator)
        pools = []
        for pool in order[: len(self) * self.batch_size].split(POOL_BATCHES * self.batch_size):
            table = pool[torch.argsort(self.sizes[pool], stable=True)].view(-1, self.batch_size)
            if self.shards is not None:
                table = table[torch.randperm(len(table), generator=generator)]
            pools.append(table)
        table = torch.cat(pools)
        return Batches(table if self.shards is not None else table[torch.randperm(len(table), generator=generator)])

    def _by_window(self, shards: Int[Tensor, "m"], generator: torch.Generator) -> Int[Tensor, "m"]:
        """Shuffle the shards, and the items of each window of them."""
        _, counts = torch.unique_consecutive(shards, return_counts=True)
        ends = counts.cumsum(0)
        starts = ends - counts
        order = []
        for window in torch.randperm(len(counts), generator=generator).split(self.window):
            items = torch.cat([torch.arange(int(starts[shard]), int(ends[shard])) for shard in window])
            order.append(items[torch.randperm(len(items), generator=generator)])
        return torch.cat(order)


class OrderedBatchSampler:
    """Every item once, by size, the same each epoch: for validation.

    Items are shared out over ``max(1, len // batch_size)`` batches as evenly as they go, so that no batch is too
    small to give every process an item; a batch may then hold up to ``2 * batch_size - 1`` items.
    """

    def __init__(self, sizes: Sequence[int] | Int[Tensor, "m"], batch_size: int):
        self.order = torch.argsort(torch.as_tensor(sizes), stable=True)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return max(1, len(self.order) // self.batch_size)

    def batches(self, epoch: int | str = 0) -> list[list[int]]:
        return [part.tolist() for part in self.order.tensor_split(len(self))]
