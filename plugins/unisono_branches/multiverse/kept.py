"""Kept: keys and values of one lane, taken out of a cache, forked by copying and joined by concatenation.

    fork    every path begins with what its block's lane has kept
    join    the lane goes on with what it had, and what each path has added, in the paths' order

Keys are kept turned to their positions, which no fork or join changes: paths begin at one position, and what follows
begins behind the longest.

Shapes: h heads, n tokens, c channels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.verify import KVCache


class Kept(NamedTuple):
    """Keys and values by layer, for as many tokens as all of them have."""

    layers: dict[int, tuple[Float[Tensor, "h n c"], Float[Tensor, "h n c"]]]

    @property
    def length(self) -> int:
        """Tokens."""
        return next(iter(self.layers.values()))[0].shape[1] if self.layers else 0

    def after(self, start: int) -> "Kept":
        """Return what was kept from a token on."""
        return Kept({layer: (key[:, start:], value[:, start:]) for layer, (key, value) in self.layers.items()})


def take(cache: KVCache, row: int) -> Kept:
    """Return what a row of a cache has kept, copied."""
    length = int(cache.length[row])
    layers = {
        n: (key[row, :, :length].clone(), value[row, :, :length].clone()) for n, (key, value) in cache.layers.items()
    }
    return Kept(layers)


def stack(rows: Sequence[Kept], device: torch.device) -> KVCache:
    """Return a cache whose rows have kept that much, each its own length."""
    cache = KVCache(len(rows), device)
    longest = max(row.length for row in rows)
    if not longest:
        return cache
    for layer in next(row for row in rows if row.length).layers:
        pair = []
        for part in (0, 1):
            like = next(row for row in rows if row.length).layers[layer][part]
            padded = like.new_zeros(len(rows), like.shape[0], longest, like.shape[2])
            for number, row in enumerate(rows):
                if row.length:
                    padded[number, :, : row.length] = row.layers[layer][part]
            pair.append(padded)
        cache.layers[layer] = (pair[0], pair[1])
    cache.advance(longest)
    cache.truncate(torch.tensor([row.length for row in rows], device=device))
    return cache


def join(rows: Sequence[Kept], start: int) -> Kept:
    """Return the first row with what the others have kept from token ``start`` on behind it."""
    parts = [rows[0], *(row.after(start) for row in rows[1:])]
    return Kept(
        {
            layer: (
                torch.cat([part.layers[layer][0] for part in parts], 1),
                torch.cat([part.layers[layer][1] for part in parts], 1),
            )
            for layer in rows[0].layers
        }
    )
