"""Streams of a plugin: rows as a shard, batches on one rank and on two, and a training."""

from pathlib import Path
from typing import Any

import torch
from shards import write_shard
from unisono import Recipe
from unisono.data.stream import StreamData
from unisono.train import train


def shard_of(path: Path, rows: list[dict[str, bytes]]) -> Path:
    """Write rows, bytes by suffix, as one shard."""
    return write_shard(path, [(f"{n:04d}{suffix}", data) for n, row in enumerate(rows) for suffix, data in row.items()])


def batches_of(data: StreamData, world: int = 1, epoch: int = 0) -> list[list[dict[str, Any]]]:
    """Each rank's batches."""
    data.seed = 3
    ranks = []
    for rank in range(world):
        loader = data.train_dataloader()
        loader.rank, loader.world_size, loader.position = rank, world, lambda: (epoch, 0)
        ranks.append(list(loader))
    return ranks


def check_ranks(data: StreamData, key: str) -> None:
    """Two ranks see the halves of what one sees, item by item."""
    (whole,), (first, second) = batches_of(data), batches_of(data, 2)
    assert len(whole) == len(first) == len(second) > 0
    for batch, *halves in zip(whole, first, second, strict=True):
        for place, row in enumerate(batch["row"].tolist()):
            half, at = halves[place % 2], place // 2
            assert int(half["row"][at]) == row
            mine, other = batch[key][place], half[key][at]
            if isinstance(mine, torch.Tensor):
                size = min(len(mine), len(other)) if mine.ndim else 0
                assert torch.equal(mine[:size], other[:size]) if size else torch.equal(mine, other)
                assert not mine.ndim or (not mine[size:].any() and not other[size:].any())
            else:
                assert mine == other


def trained(recipe: str, data: dict[str, Any], folder: Path, **run: Any) -> Any:
    """Train a tiny recipe for two steps on other data."""
    raw = Recipe.read(recipe).to_dict()
    raw["data"] = data
    raw["trainer"] |= {"max_steps": 2, "max_epochs": None}
    raw["run"] |= {"dir": str(folder), "preview_seconds": 0, **run}
    return train(Recipe.from_dict(raw), progress=False)
