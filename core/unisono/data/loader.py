"""ReplayableLoader: an iterable over this rank's part of the planned batches, starting where the run is.

The position (epoch, step) is asked for when the first batch is drawn, not when the loader is made: by then Lightning
has settled its counters after a restart, so a resumed epoch goes on with the very next batch, with any number of
workers.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from unisono.data.sampler import item_generator
from unisono.errors import DataError

Position = Callable[[], tuple[Any, int]]


class ReplayableLoader:
    """Batches of ``items`` as ``sampler`` plans them, seen from one rank.

    It is not a ``torch.utils.data.DataLoader`` (it owns one), hence Lightning puts no
    ``DistributedSampler`` into it. Its state is what a resumed run must agree with; another number
    of processes is allowed.

    Args:
        items: has ``item(index, generator) -> dict``; each item gets its index as ``row``.
        sampler: has ``batches(epoch)``, a sequence of lists of indices, and ``len()``.
        collate: list of items → batch.
        position: returns the epoch and the step within it to start at; asked once per iteration.
        seed: the run's seed; an item's generator depends on it, the epoch and the item's index.

    Attributes:
        waited: seconds that batches were waited for, so far.
    """

    def __init__(
        self,
        items: Any,
        sampler: Any,
        collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
        position: Position = lambda: (0, 0),
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
    ):
        smallest = min(map(len, sampler.batches(0)))
        if smallest < world_size:
            raise DataError(
                f"a batch of {smallest} items cannot be shared by {world_size} processes: "
                "give more items or use fewer devices",
                code="limit",
                path="devices",
                value=world_size,
            )
        self.items = items
        self.plan = sampler
        self.position = position
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.waited = 0.0
        self._keys = _Keys()
        with warnings.catch_warnings():
            # a recipe's num_workers may exceed this machine's cores: slow, but the same result
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            self._loader = DataLoader(
                _Keyed(items, seed),
                batch_sampler=self._keys,
                collate_fn=collate,
                num_workers=num_workers,
                persistent_workers=num_workers > 0,
                pin_memory=torch.cuda.is_available(),
                generator=torch.Generator(),  # or it would draw from the global one
            )

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        epoch, start = self.position()
        self._keys.planned = epoch, self.plan.batches(epoch)[start:], self.rank, self.world_size
        batches = iter(self._loader)
        while True:
            begun = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - begun
            if batch is None:
                return
            yield batch

    @property
    def _iterator(self) -> Any:
        """The inner loader's iterator, where Lightning's teardown looks for workers to stop.

        Left to the garbage collector, each worker would be waited for in vain for five seconds.
        """
        return self._loader._iterator

    @_iterator.setter
    def _iterator(self, value: Any) -> None:
        self._loader._iterator = value

    def state_dict(self) -> dict[str, int]:
        return {
            "seed": self.seed,
            "batch_size": self.plan.batch_size,
            "num_items": len(self.items),
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Raise ``DataError`` where this loader would not go on with the same batches."""
        for name, here in self.state_dict().items():
            if state[name] != here:
                raise DataError(
                    f"the run to resume had {name}={state[name]}, this one has {here}: restore it, or start a new run",
                    code="conflict",
                    path=name,
                    value=here,
                )


class _Keys:
    """The batch sampler that the inner loader reads: one rank's part of whatever was planned last."""

    def __init__(self):
        self.planned: tuple[Any, Sequence[list[int]], int, int] = (0, [], 0, 1)

    def __iter__(self) -> Iterator[list[tuple[Any, int]]]:
        epoch, batches, rank, world_size = self.planned
        return ([(epoch, index) for index in batch[rank::world_size]] for batch in batches)

    def __len__(self) -> int:
        return len(self.planned[1])


class _Keyed(Dataset):
    """Items by (epoch, index)."""

    def __init__(self, items: Any, seed: int):
        self.items = items
        self.seed = seed

    def __getitem__(self, key: tuple[Any, int]) -> dict[str, Any]:
        epoch, index = key
        item = self.items.item(index, item_generator(self.seed, epoch, index))
        if item.setdefault("row", index) != index:
            raise DataError(
                f"item {index} says row={item['row']!r:.40}: 'row' is the item's index, which the loader adds; "
                "call yours otherwise",
                code="conflict",
                path="row",
                value=item["row"],
            )
        return item
