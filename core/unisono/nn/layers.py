"""Layers: which linear layers of a model are hidden ones, told by where they stand; the type that layers compute in."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn


def as_weights(weight: Tensor) -> AbstractContextManager[Any]:
    """Let layers compute in the type of their weights, ``weight`` one of them, where that has 16 bits; nothing else
    changes, so that what is added or multiplied beside them stays in its own type."""
    return nullcontext() if weight.dtype.itemsize > 2 else torch.autocast(weight.device.type, dtype=weight.dtype)


def hidden_layers(model: nn.Module) -> list[str]:
    """Return the names of linear layers inside repeated layers: within a member of an ``nn.ModuleList``.

    Embeddings, heads and what stands before or behind the repeated layers are none; nor is a linear layer that is
    itself a member of such a list, as one of several heads is.
    """
    lists = {name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}

    def inside(name: str) -> bool:
        parts = name.split(".")
        return any(".".join(parts[:end]) in lists for end in range(1, len(parts) - 1))

    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and inside(name)]
