"""Blanks: tokens without a sound between symbols, whose frames belong to the symbol before them.

Shapes: b batch, s symbols, n = 2 s - 1 tokens: symbols and blanks in turn.
"""

import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from torch.nn import functional as F

__all__ = ["apart", "for_both", "interleaved", "of_symbols"]


def interleaved(
    symbols: Int[Tensor, "b s"], lengths: Int[Tensor, " b"], blank: int
) -> tuple[Int[Tensor, "b n"], Int[Tensor, " b"]]:
    """Return symbols with a blank between two of them, and how many tokens there are of each item."""
    pairs = torch.stack([symbols, torch.full_like(symbols, blank)], -1)
    return pairs.flatten(1)[:, :-1], (2 * lengths - 1).clamp(min=0)


def for_both(values: Shaped[Tensor, "b s"]) -> Shaped[Tensor, "b n"]:
    """Return what each symbol has, for the blank behind it too."""
    return values.repeat_interleave(2, dim=1)[:, :-1]


def of_symbols(durations: Int[Tensor, "b n"]) -> Int[Tensor, "b s"]:
    """Return the frames of symbols: their own and those of the blanks behind them."""
    return F.pad(durations, (0, 1)).unflatten(1, (-1, 2)).sum(-1)


def apart(durations: Int[Tensor, "b n"], wanted: Int[Tensor, "b s"]) -> Int[Tensor, "b n"]:
    """Return durations of tokens of which those of symbols are ``wanted``: a blank behind one that changes has none."""
    pairs = F.pad(durations, (0, 1)).unflatten(1, (-1, 2))
    alone = torch.stack([wanted, torch.zeros_like(wanted)], -1)
    return torch.where((wanted != pairs.sum(-1))[..., None], alone, pairs).flatten(1)[:, :-1]
