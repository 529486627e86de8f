"""DataModule: the base of every data set; it turns items into replayable, sharded batches.

What a subclass gives: ``prepare`` (fills ``train_set`` and ``val_set``), ``describe`` (facts for the model),
``collate``. What it gets: the global batch at (epoch, step) is a pure function of (seed, epoch, step); N processes see
the same global batches as one; a resumed run goes on with the next batch, whatever ``num_workers`` is. Nothing reads or
sets a global seed.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, cast

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from unisono.data.audit import Audit
from unisono.data.loader import ReplayableLoader
from unisono.data.mixing import MixedBatchSampler, Weight
from unisono.data.sampler import OrderedBatchSampler, ReplayableBatchSampler
from unisono.errors import DataError


class ItemSet(Protocol):
    """A map-style data set: all its randomness comes from the generator that it is handed."""

    def __len__(self) -> int: ...

    def size(self, index: int) -> int:
        """Return a measure of length; items of similar size share a batch."""
        ...

    def item(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        """Return one item; the loader adds its ``row``, which is ``index``, for ``Model.row_seeds``."""
        ...


class DataModule(LightningDataModule):
    """The base of every data set.

    Its loaders are not ``DataLoader`` objects, so Lightning leaves them alone; set
    ``use_distributed_sampler: false`` in the trainer anyway where other loaders are mixed in.

    Args:
        batch_size: items of one optimiser step over *all* processes; their number must divide it.
        num_workers: processes per rank that load items; 0 loads in the main process. Same batches
            either way.

    Attributes:
        uses: roles of the recipe's components that items are made with, such as the codec whose tokens they hold;
            ``attach`` is called with each before ``prepare``.
        seed: the recipe's seed; set before the loaders are made.
        mixing: groups' weights, a number or points ``[[step, weight], …]``; set before the loaders are made.
        one_epoch: show the batches of the first epoch in each, as ``trainer.overfit_batches`` asks.
        train_set, val_set: filled by ``prepare``; ``val_set`` may stay None.
        facts: what ``describe`` returns unless a subclass says otherwise; set by ``prepare``.
        audit: what ``prepare`` returned.
    """

    uses: ClassVar[tuple[str, ...]] = ()
    flat: ClassVar[dict[str, str]] = {}
    """Where constructor arguments of recipe format 1 are now, as in ``Model``."""

    def __init__(self, batch_size: int = 16, num_workers: int = 0):
        super().__init__()
        self._components: dict[str, Any] = {}
        if batch_size < 1:
            raise DataError(
                f"batch_size={batch_size} must be at least 1", code="range", path="data.batch_size", value=batch_size
            )
        if num_workers < 0:
            raise DataError(
                f"num_workers={num_workers} must be at least 0",
                code="range",
                path="data.num_workers",
                value=num_workers,
            )
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = 0
        self.mixing: Mapping[str, Weight] = {}
        self.one_epoch = False
        self.train_set: Any = None
        self.val_set: Any = None
        self.facts: Mapping[str, Any] | None = None
        self.audit: Audit | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "describe" in cls.__dict__:
            cls.describe = _after_prepare(cls.__dict__["describe"])

    # ---- what a data set defines ---------------------------------------------------------------

    def prepare(self, progress: bool = True) -> Audit:
        """Read the corpus, fill the sets, and end with ``return self.finish(audit)``."""
        raise TypeError(f"{type(self).__name__} defines no prepare()")

    def describe(self) -> Mapping[str, Any]:
        """Return the facts that a model is built from, ``Facts`` or plain JSON; call after ``prepare``."""
        if self.facts is not None:
            return self.facts
        if self.audit is None:
            raise self._unprepared()
        raise TypeError(f"{type(self).__name__} defines no describe(), and its prepare() sets no facts")

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Turn a list of items into one batch."""
        raise TypeError(f"{type(self).__name__} defines no collate()")

    # ---- components ----------------------------------------------------------------------------

    def attach(self, role: str, component: Any) -> None:
        """Take a component that items are made with; it is the same export that the model is given."""
        if role not in self.uses:
            raise DataError(
                f"{type(self).__name__} uses no component {role!r}",
                code="unknown",
                path=f"components.{role}",
                value=role,
            )
        self._components[role] = component

    def component(self, role: str) -> Any:
        """Return a component, or raise ``DataError`` that says how to give one."""
        if role not in self._components:
            raise DataError(
                f"{type(self).__name__} makes its items with a {role}: add --components.{role}=FOLDER to the recipe",
                code="missing",
                path=f"components.{role}",
            )
        return self._components[role]

    # ---- what it gets --------------------------------------------------------------------------

    def setup(self, stage: str | None = None) -> None:
        if self.train_set is None:
            self.prepare(progress=False)

    def train_dataloader(self) -> ReplayableLoader:
        """Return this rank's training batches, from the trainer's position on."""
        self.setup()
        rank, world_size = self._rank()
        if self.batch_size % world_size:
            raise DataError(
                f"data.batch_size={self.batch_size} is not divisible by {world_size} processes: "
                f"use a multiple of {world_size}",
                code="value",
                path="data.batch_size",
                value=self.batch_size,
            )
        sampler = self._sampler()
        return ReplayableLoader(
            self.train_set,
            sampler,
            self.collate,
            self._position,
            self.seed,
            rank,
            world_size,
            self.num_workers,
        )

    def val_dataloader(self) -> ReplayableLoader | list:
        """Return this rank's validation batches, the same at every validation."""
        self.setup()
        if not self.val_set:
            return []
        rank, world_size = self._rank()
        return ReplayableLoader(
            self.val_set,
            OrderedBatchSampler(_sizes(self.val_set), self.batch_size),
            self.collate,
            lambda: ("validation", 0),
            self.seed,
            rank,
            world_size,
            self.num_workers,
        )

    def _sampler(self) -> ReplayableBatchSampler | MixedBatchSampler:
        """What plans the training batches."""
        sizes = _sizes(self.train_set)
        if self.mixing:
            names, groups = _groups(self.train_set)
            return MixedBatchSampler(sizes, names, groups, self.mixing, self.batch_size, self.seed)
        return ReplayableBatchSampler(sizes, self.batch_size, self.seed)

    def finish(self, audit: Audit) -> Audit:
        """Close a preparation: note how many items sit out each epoch; return the audit."""
        left_over = len(self.train_set) % self.batch_size
        if left_over:
            audit.note(
                f"{left_over} of {len(self.train_set)} training items, others each epoch, sit out: "
                f"they fill no batch of {self.batch_size}"
            )
        self.audit = audit
        return audit

    def _unprepared(self) -> DataError:
        return DataError(
            f"{type(self).__name__}.describe() is asked before the data were read: call prepare() first", code="state"
        )

    def _rank(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        apart = getattr(self.trainer.strategy, "data_ranks", None)  # some processes work on the same items
        return apart or (self.trainer.global_rank, self.trainer.world_size)

    def _position(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 0
        # All batches of the run so far, rather than Lightning's epoch counters: those count an
        # epoch twice when a run of max_steps is resumed from the end of an epoch.
        done = self.trainer.fit_loop.epoch_loop.batch_progress.total.completed
        epoch, step = divmod(done, int(self.trainer.num_training_batches))
        return (0 if self.one_epoch else epoch), step

    def __getstate__(self) -> dict[str, Any]:
        # `collate` travels to worker processes; the trainer must not, and components need not
        return {**self.__dict__, "trainer": None, "_components": {}}


def _sizes(items: Any) -> Tensor:
    """The sizes of a set's items; ``sizes()`` gives them at once where the set has it."""
    if callable(known := getattr(items, "sizes", None)):
        return torch.as_tensor(known())
    return torch.tensor([items.size(index) for index in range(len(items))])


def _groups(items: Any) -> tuple[Sequence[str], Tensor]:
    """The groups of a set's items: names, and each item's number among them."""
    known = getattr(items, "groups", None)
    if not callable(known):
        raise DataError(
            f"run.mixing weights groups of items, and {type(items).__name__} has none: leave it out",
            code="unsupported",
            path="run.mixing",
        )
    names, numbers = cast(Any, known())
    return names, torch.as_tensor(numbers, dtype=torch.int64)


def _after_prepare(describe: Any) -> Any:
    """Say in one sentence what is missing where ``describe`` needs what ``prepare`` would have found."""

    @functools.wraps(describe)
    def described(self: DataModule) -> Mapping[str, Any]:
        try:
            return describe(self)
        except (AttributeError, TypeError, KeyError, IndexError) as error:
            if self.train_set is None and self.audit is None:
                raise self._unprepared() from error
            raise

    return described
