"""StreamData: the base of data sets whose rows are streamed from shards."""

from typing import Any, ClassVar

import numpy as np

from unisono.data.audit import Audit
from unisono.data.module import DataModule
from unisono.data.stream.index import Examined, StreamIndex, index_shards
from unisono.data.stream.parts import Part, Row
from unisono.data.stream.rows import Make, StreamSet
from unisono.data.stream.source import open_source
from unisono.errors import DataError


class StreamData(DataModule):
    """Rows of shards, read when they are needed: neither memory nor the cache holds the corpus.

    A subclass names its ``parts``, looks at a row (``examine``), makes items (``maker``) and says what the corpus is
    (``describe``). One pass over the shards, side by side in several processes, finds what can be used; then rows are
    read where they lie. The global batch of a step is a function of the seed and the step, as of data in memory.

    Args:
        root: a shard, a folder of shards, a pattern such as ``train-{000..009}.tar``, or ``hf:NAME?split=train``.
        val_size: rows held out, chosen by themselves alone.
        window: shards whose rows are shuffled together; more shuffle better, and read from more places at once.
        spool_gb: disk that shards from elsewhere, and unpacked ones, may take.
        num_processes: of the pass over the shards; all cores where None.
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
        val_size: int = 128,
        window: int = 16,
        spool_gb: float = 20.0,
        num_processes: int | None = None,
        batch_size: int = 16,
        num_workers: int = 0,
    ):
        super().__init__(batch_size, num_workers)
        for name, value, least in (("val_size", val_size, 0), ("window", window, 1)):
            if value < least:
                raise DataError(
                    f"data.{name}={value} must be at least {least}", code="range", path=f"data.{name}", value=value
                )
        self.root, self.val_size, self.window = root, val_size, window
        self.spool_gb, self.num_processes = spool_gb, num_processes
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
        source = open_source(self.root, self.parts, self.spool_gb, audit)
        index = index_shards(
            source,
            self.parts,
            self.examine,
            f"{type(self).__module__}.{type(self).__qualname__} {self.version()}",
            unit=self.unit,
            num_processes=self.num_processes,
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
        self.settle(audit)
        self.train_set.make = self.maker(True)
        if self.val_set is not None:
            self.val_set.make = self.maker(False)
        return self.finish(audit)

    def settle(self, audit: Audit) -> None:
        """Find what ``describe`` and ``maker`` need, from rows as they are stored: see ``sample``."""

    def sample(self, count: int) -> list[Row]:
        """Return ``count`` training rows, or all there are, spread evenly over the shards: for statistics."""
        self.setup()
        total = len(self.train_set)
        return [self.train_set.row(i) for i in np.linspace(0, total - 1, min(count, total)).astype(int).tolist()]

    def __getstate__(self) -> dict[str, Any]:
        # workers get what makes items, not the sets
        return {**super().__getstate__(), "train_set": None, "val_set": None}
