"""Cache: keys and values of what was read, rolled back where verification refuses.

The protocol is four verbs. A network appends as it goes through its layers; who verifies advances,
truncates, and, after a tree, selects the path that was accepted. Rows have lengths of their own.

    slot        0 1 2 3 4 5 6 7
    row 0       x x x x|d d d          length 4, three nodes appended, of which truncate keeps some
    row 1       x x|d d d

An exact cache equals no cache: keys and values depend on a token, its position and what it sees, and a
node sees the prefix and its ancestors only.

Letters: b batch, h heads, n new tokens, m slots in use, d channels. Masks: True = keep.
"""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unisono.checks import is_whole
from unisono.errors import UnisonoError


class Cache(Protocol):
    """What `Target` asks of a cache; how a network fills it is between the two of them."""

    length: Int[Tensor, " b"]

    def advance(self, count: int) -> None:
        """The network has appended `count` entries to every row."""

    def truncate(self, length: Int[Tensor, " b"]) -> None:
        """Forget what stands behind `length`, where a row is longer."""

    def select(self, start: Int[Tensor, " b"], path: Int[Tensor, "b d"]) -> None:
        """Move the entries start + path[j] to start + j: a path of a tree becomes a chain."""


class KVCache:
    """Keys and values of any number of layers, in slots that grow as needed.

    A layer calls ``append`` and attends to what that returns under ``mask``.
    """

    def __init__(self, num_rows: int, device: torch.device | str | None = None):
        if not is_whole(num_rows, 0):
            raise UnisonoError(f"a cache of {num_rows!r} rows: give a whole number of at least 0")
        self.length = torch.zeros(num_rows, dtype=torch.int64, device=device)
        self._longest: int | None = 0
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}

    def append(
        self, layer: int, key: Float[Tensor, "b h n d"], value: Float[Tensor, "b h n d"]
    ) -> tuple[Float[Tensor, "b h m d"], Float[Tensor, "b h m d"]]:
        """Write behind each row's length, and return all slots in use: views, which the next call writes to.

        Raises:
            UnisonoError: if the batch is not the cache's.
        """
        if len(key) != len(self.length):
            raise UnisonoError(f"keys of {len(key)} rows for a cache of {len(self.length)}: make one per batch")
        n = key.shape[2]
        used = self._used(n)
        one = len(key) == 1  # has no other row's length to mind
        slots = None if one else (self.length[:, None] + torch.arange(n, device=key.device))[:, None, :, None]
        kept = []
        for new, old in zip((key, value), self.layers.get(layer, (None, None)), strict=True):
            have = 0 if old is None else old.shape[2]
            if have < used:
                # Zeros, not whatever memory holds: a NaN times a weight of 0 is NaN.
                bigger = new.new_zeros(*new.shape[:2], max(used, 2 * have), new.shape[3])
                if old is not None:
                    bigger[:, :, :have] = old
                old = bigger
            assert old is not None
            # In place: a copy of all costs more each time.
            if slots is None:
                old[:, :, used - n : used] = new
            else:
                old.scatter_(2, slots.expand_as(new), new)
            kept.append(old)
        self.layers[layer] = (kept[0], kept[1])
        return kept[0][:, :, :used], kept[1][:, :, :used]

    def mask(self, visible: Bool[Tensor, "b n n"]) -> Bool[Tensor, "b n m"]:
        """What each new token sees: all that its row holds, and of the new ones what `visible` says."""
        b, n, _ = visible.shape
        if b == 1:
            return torch.nn.functional.pad(visible, (self._used(0), 0), value=True)
        held = torch.arange(self._used(n), device=visible.device) < self.length[:, None]
        slots = self.length[:, None] + torch.arange(n, device=visible.device)
        return held[:, None].repeat(1, n, 1).scatter(2, slots[:, None].expand(b, n, n), visible)

    def advance(self, count: int) -> None:
        self.length, self._longest = self.length + count, None

    def truncate(self, length: Int[Tensor, " b"]) -> None:
        self.length, self._longest = torch.minimum(self.length, length), None

    def select(self, start: Int[Tensor, " b"], path: Int[Tensor, "b d"]) -> None:
        d = path.shape[1]
        source = (start[:, None] + path)[:, None, :, None]
        slots = (start[:, None] + torch.arange(d, device=path.device))[:, None, :, None]
        for pair in self.layers.values():
            for x in pair:
                shape = (*x.shape[:2], d, x.shape[3])
                x.scatter_(2, slots.expand(shape), x.gather(2, source.expand(shape)))

    def _used(self, n: int) -> int:
        if self._longest is None:  # looked at once for all layers: the host waits for the device
            self._longest = int(self.length.max()) if len(self.length) else 0
        return n + self._longest
