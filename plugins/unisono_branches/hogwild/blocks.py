"""Blocks: a cache of keys and values in blocks, which each worker sees in an order of its own, turned to their places.

Rodionov et al., 2025, Hogwild! inference (arXiv:2504.06261), §3: products of rotary keys and queries depend on
distances, so that a block which was written at one place serves at another when its keys are turned by the difference;
nothing is computed again::

    worker A sees   [common][block B][block A]
    worker B sees   [common][block A][block B]
    a finished step moves from its block to the end of common

Difference: the published kernel turns the queries once for each block instead of the keys; the products are the same.

Shapes: w rows, one for each worker, h heads, n tokens, m keys, c channels of a head.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.nn.attention import attend
from unisono.nn.rotary import rotate, rotation


class Block:
    """Keys and values of a run of tokens; keys are turned to positions counted from the block's beginning."""

    def __init__(self):
        self.layers: dict[int, tuple[Float[Tensor, "h n c"], Float[Tensor, "h n c"]]] = {}

    @property
    def length(self) -> int:
        """Tokens, those of a step under way as far as the first layer has them."""
        return self.layers[0][0].shape[1] if self.layers else 0

    def append(self, layer: int, keys: Float[Tensor, "h n c"], values: Float[Tensor, "h n c"]) -> None:
        """Add tokens behind those that the layer has; their keys are not turned yet."""
        had = self.layers.get(layer)
        keys = turned(keys, 0 if had is None else had[0].shape[1], steps=True)
        new = (keys, values)
        self.layers[layer] = new if had is None else (torch.cat([had[0], keys], 1), torch.cat([had[1], values], 1))

    def move(self, start: int, to: "Block") -> None:
        """Move the tokens from ``start`` on to the end of another block."""
        at = to.length
        for layer, (keys, values) in self.layers.items():
            moved, rest = turned(keys[:, start:], at - start), values[:, start:]
            had = to.layers.get(layer)
            to.layers[layer] = (
                (moved, rest) if had is None else (torch.cat([had[0], moved], 1), torch.cat([had[1], rest], 1))
            )
            self.layers[layer] = (keys[:, :start], values[:, :start])


class SharedCache:
    """A common block, and one for each worker.

    Args:
        num_workers: how many there are.
    """

    def __init__(self, num_workers: int):
        self.common = Block()
        self.blocks = [Block() for _ in range(num_workers)]

    def order(self, worker: int) -> list[Block]:
        """Return the blocks as a worker sees them: common, the others', its own."""
        others = [block for number, block in enumerate(self.blocks) if number != worker]
        return [self.common, *others, self.blocks[worker]]

    def view(self, worker: int, layer: int) -> tuple[Float[Tensor, "h m c"], Float[Tensor, "h m c"]]:
        """Return all keys, turned to where a worker sees them, and all values."""
        keys, values, at = [], [], 0
        for block in self.order(worker):
            if layer in block.layers:
                own_keys, own_values = block.layers[layer]
                keys.append(turned(own_keys, at))
                values.append(own_values)
                at += own_keys.shape[1]
        return torch.cat(keys, 1), torch.cat(values, 1)

    def finish_step(self, worker: int, kept: int) -> None:
        """Move a worker's tokens from the first ``kept`` on to the end of common."""
        self.blocks[worker].move(kept, self.common)


class Reading:
    """The sight of tokens that go into the common block, each of which sees what is not behind it."""

    def __init__(self, cache: SharedCache):
        self.cache = cache

    def __call__(
        self,
        layer: int,
        queries: Float[Tensor, "1 h n c"],
        keys: Float[Tensor, "1 h n c"],
        values: Float[Tensor, "1 h n c"],
    ) -> Float[Tensor, "1 n hc"]:
        common = self.cache.common
        before = common.layers[layer][0].shape[1] if layer in common.layers else 0
        common.append(layer, keys[0], values[0])
        all_keys, all_values = common.layers[layer]
        n, m = queries.shape[2], all_keys.shape[1]
        mask = torch.ones(n, m, dtype=torch.bool, device=keys.device).tril(m - n)
        return attend(turned(queries, before, steps=True), all_keys[None], all_values[None], mask)


class Working:
    """The sight of one new token of each of some workers: all blocks as it sees them, the others' new tokens included.

    A token that two workers write at once is seen by the other, since both were drawn before.
    """

    def __init__(self, cache: SharedCache, workers: Sequence[int]):
        self.cache, self.workers = cache, workers

    def __call__(
        self,
        layer: int,
        queries: Float[Tensor, "w h 1 c"],
        keys: Float[Tensor, "w h 1 c"],
        values: Float[Tensor, "w h 1 c"],
    ) -> Float[Tensor, "w 1 hc"]:
        for row, worker in enumerate(self.workers):
            self.cache.blocks[worker].append(layer, keys[row], values[row])
        views = [self.cache.view(worker, layer) for worker in self.workers]
        seen_keys, seen_values = (torch.stack(part) for part in zip(*views, strict=True))
        return attend(turned(queries, seen_keys.shape[2] - 1), seen_keys, seen_values)


def turned(x: Float[Tensor, "*w h n c"], by: int, steps: bool = False) -> Float[Tensor, "*w h n c"]:
    """Return vectors turned by so many positions, negative ones too; with ``steps``, each by one more than the last."""
    n = x.shape[-2]
    positions = torch.full((n,), by, device=x.device) + (torch.arange(n, device=x.device) if steps else 0)
    shaped = x if x.dim() == 4 else x[None]
    return rotate(shaped, rotation(positions, x.shape[-1], device=x.device)).view_as(x)
