"""Cache: keys and values of the tokens that were read, which can be rolled back when tokens are refused.

The network appends keys and values, layer by layer. `Target` then calls `advance`, `truncate` and, after a tree,
`select` to keep the accepted path. Each row has its own length.

    slot        0 1 2 3 4 5 6 7
    row 0       x x x x|d d d          length 4, three nodes appended, of which truncate keeps some
    row 1       x x|d d d

Decoding with the cache gives the same result as without one: keys and values depend on a token, its position and
the tokens that it sees, and a node sees only the prefix and its ancestors.

Letters: b batch, h heads, n new tokens, m slots in use, d channels. Masks: True = keep.
"""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unisono.checks import fault_of, is_whole
from unisono.errors import UnisonoError


class Cache(Protocol):
    """The part of a cache that `Target` uses. How the network reads and fills the cache is not part of the protocol."""

    length: Int[Tensor, " b"]

    def advance(self, count: int) -> None:
        """Count `count` more entries in every row; the network has appended them."""

    def truncate(self, length: Int[Tensor, " b"]) -> None:
        """Shorten the rows that are longer than `length`."""

    def select(self, start: Int[Tensor, " b"], path: Int[Tensor, "b d"]) -> None:
        """Move the entries start + path[j] to start + j, so that a path of a tree becomes a chain."""


class KVCache:
    """Keys and values of any number of layers, in buffers that grow as needed.

    A layer calls ``append`` and attends to the result, with the mask of ``mask``.
    """

    def __init__(self, num_rows: int, device: torch.device | str | None = None):
        if not is_whole(num_rows, 0):
            raise UnisonoError(
                f"a cache of {num_rows!r} rows: give a whole number of at least 0",
                code=fault_of(num_rows, whole=True),
                path="num_rows",
                value=num_rows,
            )
        self.length = torch.zeros(num_rows, dtype=torch.int64, device=device)
        self._sizes: tuple[int, bool] | None = (0, True)
        self._raw: set[int] = set()  # layers whose unused memory was never written
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}

    def append(
        self, layer: int, key: Float[Tensor, "b h n d"], value: Float[Tensor, "b h n d"]
    ) -> tuple[Float[Tensor, "b h m d"], Float[Tensor, "b h m d"]]:
        """Write the new entries after each row's length, and return all entries: views that the next call overwrites.

        Raises:
            UnisonoError: if the batch is not the cache's.
        """
        if len(key) != len(self.length):
            raise UnisonoError(
                f"keys of {len(key)} rows for a cache of {len(self.length)}: make one per batch",
                code="shape",
                path="key",
                value=len(key),
            )
        n = key.shape[2]
        longest, even = self._measured()
        used = n + longest
        # Rows of one length are written as a plain slice, which is many times cheaper.
        slots = None if even else (self.length[:, None] + torch.arange(n, device=key.device))[:, None, :, None]
        kept, grown = [], False
        for new, old in zip((key, value), self.layers.get(layer, (None, None)), strict=True):
            have = 0 if old is None else old.shape[2]
            if have < used:
                bigger = new.new_empty(*new.shape[:2], max(used, 2 * have), new.shape[3])
                if old is not None:
                    bigger[:, :, :longest] = old[:, :, :longest]
                old, grown = bigger, True
            assert old is not None
            if not even and (grown or layer in self._raw):
                # What a shorter row has not written is returned: NaN there times an attention weight of 0 is NaN.
                old[:, :, longest:] = 0
            # In place: copying the whole buffer at each call would cost more and more.
            if slots is None:
                old[:, :, longest:used] = new
            else:
                old.scatter_(2, slots.expand_as(new), new)
            kept.append(old)
        if not even:
            self._raw.discard(layer)
        elif grown:
            self._raw.add(layer)
        self.layers[layer] = (kept[0], kept[1])
        return kept[0][:, :, :used], kept[1][:, :, :used]

    def mask(self, visible: Bool[Tensor, "b n n"]) -> Bool[Tensor, "b n m"]:
        """Return what each new token sees: all entries of its row, and the new tokens that `visible` allows."""
        b, n, _ = visible.shape
        longest, even = self._measured()
        if even:
            return torch.nn.functional.pad(visible, (longest, 0), value=True)
        held = torch.arange(n + longest, device=visible.device) < self.length[:, None]
        slots = self.length[:, None] + torch.arange(n, device=visible.device)
        return held[:, None].repeat(1, n, 1).scatter(2, slots[:, None].expand(b, n, n), visible)

    def sees_all(self, count: int) -> bool:
        """Whether so many new tokens in each row see all that is then held: one token, in rows of one length.

        Then nothing need be masked.
        """
        return count == 1 and self._measured()[1]

    def advance(self, count: int) -> None:
        self.length = self.length + count
        if self._sizes is not None:
            self._sizes = self._sizes[0] + count, self._sizes[1]

    def truncate(self, length: Int[Tensor, " b"]) -> None:
        self.length, self._sizes = torch.minimum(self.length, length), None

    def select(self, start: Int[Tensor, " b"], path: Int[Tensor, "b d"]) -> None:
        d = path.shape[1]
        source = (start[:, None] + path)[:, None, :, None]
        slots = (start[:, None] + torch.arange(d, device=path.device))[:, None, :, None]
        for pair in self.layers.values():
            for x in pair:
                shape = (*x.shape[:2], d, x.shape[3])
                x.scatter_(2, slots.expand(shape), x.gather(2, source.expand(shape)))

    def _measured(self) -> tuple[int, bool]:
        """Return the length of the longest row, and whether all are of that length."""
        if self._sizes is None:  # once for all layers: reading it makes the host wait for the device
            lengths = self.length.tolist() or [0]
            self._sizes = max(lengths), min(lengths) == max(lengths)
        return self._sizes
