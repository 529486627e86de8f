"""Purity: networks that depend on more than their input are refused by name, before they spoil a parallel run."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from unisono.diffusion.chain.tree import leaves
from unisono.errors import UnisonoError

_DROPOUT = nn.modules.dropout._DropoutNd
_BATCH_NORM = nn.modules.batchnorm._BatchNorm


def check_pure(network: Any) -> None:
    """Look through a module for dropout and batch norm in training mode, and for caches between calls.

    A callable that is no module is not looked through; `solve` evaluates one row twice for such.

    Raises:
        UnisonoError: if one is found; it is named.
    """
    if not isinstance(network, nn.Module):
        return
    for name, module in network.named_modules():
        where = f"{name or 'the network'} ({type(module).__name__})"
        if module.training and isinstance(module, _DROPOUT) and module.p > 0:
            raise UnisonoError(
                f"{where} drops {module.p:g} of its inputs at random: call network.eval() first",
                code="state",
                path=name or "network",
                value=module.p,
            )
        if module.training and isinstance(module, _BATCH_NORM):
            raise UnisonoError(
                f"{where} normalises over the batch: call network.eval() first",
                code="state",
                path=name or "network",
                value=type(module).__name__,
            )
        if getattr(module, "is_cache_enabled", False):
            raise UnisonoError(
                f"{where} keeps results from call to call, in call order: call disable_cache() for a parallel solver",
                code="state",
                path=name or "network",
                value=type(module).__name__,
            )


def check_repeatable(first: Any, again: Any) -> None:
    """Compare the outputs of one row, evaluated twice in one batch.

    Raises:
        UnisonoError: if they differ by more than the rounding of their type.
    """
    for a, b in zip(leaves(first), leaves(again), strict=True):
        if (apart := difference(a, b)) > (limit := rounding(a.dtype)):
            raise UnisonoError(
                f"the network is stochastic: two answers for the same row differ by {apart:.1e} of their size "
                f"(rounding: {limit:.0e}); switch its dropout off with network.eval(), and draw no noise in it",
                code="unsupported",
                path="network",
                value=apart,
            )


def difference(a: Tensor, b: Tensor) -> float:
    """How far two answers to one question are apart, relative to their size; NaN is equal to itself."""
    if a.shape != b.shape:
        return math.inf
    size, apart = (float(part.abs().nan_to_num().max()) for part in (a, a - b))
    return apart / max(size, torch.finfo(a.dtype).tiny)


def rounding(dtype: torch.dtype) -> float:
    """How far kernels that depend on the size of the batch may be apart."""
    return 5 * torch.finfo(dtype).eps ** 0.75


def has_rows(output: Any, n: int) -> bool:
    """Whether every tensor of an output has n rows."""
    return all(isinstance(leaf, Tensor) and leaf.ndim > 0 and len(leaf) == n for leaf in leaves(output))
