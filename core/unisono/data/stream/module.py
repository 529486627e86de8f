"""StreamData: the base of data sets whose rows are streamed from shards."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from unisono.data.audit import Audit
from unisono.data.collate import collate_items
from unisono.data.mixing import MixedBatchSampler
from unisono.data.module import DataModule
from unisono.data.sampler import ReplayableBatchSampler
from unisono.data.stream.index import Examined, StreamIndex, index_shards
from unisono.data.stream.parts import Part, Row
from unisono.data.stream.rows import Make, StreamSet
from unisono.data.stream.source import JoinedSource, open_source
from unisono.errors import DataError


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """How a stream is read.

    window: shards whose rows are shuffled together; more shuffle better, and read from more places at once.
    spool_gb: disk that shards from elsewhere, and unpacked ones, may take.
    measured: training rows that statistics are measured on, spread evenly over the shards.
    num_processes: of the pass over the shards; all cores where None.
    """

    window: int = 16
    spool_gb: float = 20.0
    measured: int = 2000
    num_processes: int | None = None

    def __post_init__(self):
        for name in ("window", "measured"):
            if (value := getattr(self, name)) < 1:
                path = f"data.stream.{name}"
                raise DataError(f"{path}={value} must be at least 1", code="range", path=path, value=value)


class StreamData(DataModule):
    """Rows of shards, read when they are needed: neither memory nor the cache holds the corpus.

    A subclass names its ``parts``, looks at a row (``examine``), makes items (``maker``) and says what the corpus is
    (``describe``). One pass over the shards, side by side in several processes, finds what can be used; then rows are
    read where they lie. The global batch of a step is a function of the seed and the step, as of data in memory.

    Args:
        root: a shard, a folder of shards, a pattern such as ``train-{000..009}.tar``, or ``hf:NAME?split=train``; or
            several with names, ``name=ROOT,name=ROOT``, which ``run.mixing`` weights.
        val_size: rows held out, chosen by themselves alone.
        stream: how it is read.
        batch_size, num_workers: as in ``DataModule``.
    """

    parts: ClassVar[tuple[Part, ...]] = ()
    items: ClassVar[str] = "rows"
    """What an audit calls the rows."""
    unit: ClassVar[str] = ""

    def __init__(
        self,
        root: str,
        *,
        stream: StreamOptions = StreamOptions(),
        val_size: int = 128,
        batch_size: int = 16,
        num_workers: int = 0,
    ):
        super().__init__(batch_size, num_workers)
        if val_size < 0:
            raise DataError(
                f"data.val_size={val_size} must be at least 0", code="range", path="data.val_size", value=val_size
            )
        self.root, self.val_size, self.stream = root, val_size, stream
        self.index: StreamIndex | None = None

    # ---- what a subclass defines -----------------------------------------------------------------

    def examine(self, row: Row) -> Examined:
        """Look at a row, in a worker; raise ``Drop`` where it cannot be used."""
        raise TypeError(f"{type(self).__name__} defines no examine()")

    def version(self) -> str:
        """Return what ``examine`` depends on beside the rows."""
        raise TypeError(f"{type(self).__name__} defines no version()")

    def maker(self, random: bool) -> Make:
        """Return what makes an item of a row; ``random`` for training items."""
        raise TypeError(f"{type(self).__name__} defines no maker()")

    # ---- what it gets ----------------------------------------------------------------------------

    def prepare(self, progress: bool = True) -> Audit:
        audit = Audit(self.items)
        source = open_source(self.root, self.parts, self.stream.spool_gb, audit)
        index = index_shards(
            source,
            self.parts,
            self.examine,
            f"{type(self).__module__}.{type(self).__qualname__} {self.version()}",
            unit=self.unit,
            num_processes=self.stream.num_processes,
            progress=progress,
        )
        index.tell(audit)
        if not len(index):
            reasons = ", ".join(f"{count} {reason}" for reason, count in audit.reasons.items())
            raise DataError(
                f"no usable row in {self.root!r:.200}: {reasons or 'it is empty'}", code="empty", path="data.root"
            )
        self.index = index
        held = index.held_out(self.val_size)
        kept = np.ones(len(index), bool)
        kept[held] = False
        self.train_set = StreamSet(source, index, np.flatnonzero(kept))
        self.val_set = StreamSet(source, index, held) if len(held) else None
        if isinstance(source, JoinedSource):
            names, numbers = self.train_set.groups()
            counts = np.bincount(numbers, minlength=len(names)).tolist()
            audit.note(f"corpora trained on: {', '.join(map('{} {}'.format, names, counts))}")
        self.settle(audit)
        self.train_set.make = self.maker(True)
        if self.val_set is not None:
            self.val_set.make = self.maker(False)
        return self.finish(audit)

    def settle(self, audit: Audit) -> None:
        """Find what ``describe`` and ``maker`` need, from rows as they are stored: see ``sample``."""

    def sample(self) -> Iterator[Row]:
        """Yield ``stream.measured`` training rows, or all there are, spread evenly over the shards: for statistics."""
        total = len(self.train_set)
        for index in np.linspace(0, total - 1, min(self.stream.measured, total)).astype(int).tolist():
            yield self.train_set.row(index)

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Pad with 0 to the longest; a subclass whose items need other padding, or lengths, says so."""
        return collate_items(items)

    def _sampler(self) -> ReplayableBatchSampler | MixedBatchSampler:
        if self.mixing:
            return super()._sampler()
        sizes, shards = (torch.as_tensor(values) for values in (self.train_set.sizes(), self.train_set.shards()))
        return ReplayableBatchSampler(sizes, self.batch_size, self.seed, shards, self.stream.window)

    @property
    def num_measured(self) -> int:
        """How many rows ``sample`` yields."""
        return min(self.stream.measured, len(self.train_set))

    def __getstate__(self) -> dict[str, Any]:
        # workers get what makes items, not the sets
        return {**super().__getstate__(), "train_set": None, "val_set": None}
