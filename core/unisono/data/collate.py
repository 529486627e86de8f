"""Collation: lists of items to one batch, padded along the first axis."""

from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor


def pad_stack(tensors: list[Tensor], value: float = 0.0) -> Shaped[Tensor, "b t ..."]:
    """Stack tensors of shapes [t, …] that differ in ``t`` only, padded with ``value`` to the
    longest."""
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value)


def collate_items(items: list[dict[str, Any]], padding: dict[str, float] | None = None) -> dict[str, Any]:
    """Collate items with the same keys.

    Tensors are padded along their first axis (with ``padding[key]``, else 0) and stacked; whole
    numbers become an int64 tensor, other numbers a float32 tensor; anything else stays a list.
    """
    padding = padding or {}
    batch: dict[str, Any] = {}
    for key, first in items[0].items():
        values = [item[key] for item in items]
        if isinstance(first, Tensor):
            stack = pad_stack(values, padding.get(key, 0.0)) if first.ndim else torch.stack(values)
            batch[key] = stack
        elif isinstance(first, bool | int):
            batch[key] = torch.tensor(values)
        elif isinstance(first, float):
            batch[key] = torch.tensor(values, dtype=torch.float32)
        else:
            batch[key] = values
    return batch
