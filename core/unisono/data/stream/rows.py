"""Rows: a stream's rows as a set of items, read where they lie when they are asked for."""

import contextlib
import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from unisono.data.audit import Drop
from unisono.data.stream.index import StreamIndex
from unisono.data.stream.parts import Row, Shard, Source
from unisono.data.stream.source import JoinedSource
from unisono.errors import DataError

OPEN_FILES = 32
"""Shards that a process keeps open."""

Make = Callable[[Row, torch.Generator], dict[str, Any]]
"""Makes an item of a row; all its randomness comes from the generator; picklable."""


class StreamSet:
    """A part of a stream's rows as a map-style set.

    Args:
        rows: which rows of the index, ascending.
        make: makes an item; set before one is asked for. What it raises as ``Drop`` was not seen when the shard was
            indexed, and is a ``DataError``.
    """

    def __init__(self, source: Source, index: StreamIndex, rows: Int[np.ndarray, "m"], make: Make | None = None):
        self.source, self.index, self.rows, self.make = source, index, rows, make
        self._files: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self.rows)

    def size(self, index: int) -> int:
        return int(self.index.sizes[self.rows[index]])

    def sizes(self) -> Int[np.ndarray, "m"]:
        """Return all sizes at once."""
        return np.asarray(self.index.sizes)[self.rows]

    def shards(self) -> Int[np.ndarray, "m"]:
        """Return the number of each item's shard, ascending: items of one shard are read together."""
        return np.asarray(self.index.shard_of)[self.rows]

    def groups(self) -> tuple[list[str], Int[np.ndarray, "m"]]:
        """Return the groups' names, and the number of each item's group: its corpus, where several are named."""
        if isinstance(self.source, JoinedSource):
            names = self.source.corpora
            numbers = np.array([names.index(self.source.corpus_of(shard)) for shard in self.index.shards])
            return names, numbers[self.shards()]
        return self.index.groups, np.asarray(self.index.group_of)[self.rows]

    def row(self, index: int) -> Row:
        """Return a row as it is stored."""
        row = int(self.rows[index])
        descriptor = self._open(int(self.index.shard_of[row]))
        parts = {}
        for part, (start, size) in zip(self.index.parts, self.index.places[row].tolist(), strict=True):
            if start < 0:
                continue
            data = os.pread(descriptor, size, start)
            if len(data) < size:
                raise self._changed(row, f"{part.name} has {len(data)} of {size} bytes")
            parts[part.name] = data
        return Row(self.index.id(row), parts)

    def item(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        assert self.make is not None
        row = self.row(index)
        try:
            return self.make(row, generator)
        except Drop as drop:
            raise self._changed(int(self.rows[index]), str(drop)) from None

    def _open(self, number: int) -> int:
        if number in self._files:
            self._files.move_to_end(number)
            return self._files[number]
        shard: Shard = self.index.shards[number]
        self._files[number] = os.open(self.source.local(shard), os.O_RDONLY)
        while len(self._files) > OPEN_FILES:
            os.close(self._files.popitem(last=False)[1])
        return self._files[number]

    def _changed(self, row: int, what: str) -> DataError:
        return DataError(
            f"{self.index.id(row)}: {what}: the shard has changed since its index was made; start again, and it is "
            "read anew",
            code="damaged",
            path=self.index.id(row),
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": OrderedDict()}

    def __del__(self):
        for descriptor in self._files.values():
            with contextlib.suppress(OSError):
                os.close(descriptor)
