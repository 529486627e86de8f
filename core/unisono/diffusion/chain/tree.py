"""Trees of tensors: a sampler's state is a tensor, or a dict, list or tuple of states, all with the batch first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unisono.errors import UnisonoError


def leaves(tree: Any) -> list[Tensor]:
    """The tensors of a tree, in a fixed order.

    Raises:
        UnisonoError: if something in it is no tensor.
    """
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        return [leaf for key in tree for leaf in leaves(tree[key])]
    if isinstance(tree, (list, tuple)):
        return [leaf for part in tree for leaf in leaves(part)]
    raise UnisonoError(
        f"a sampler's state holds a {type(tree).__name__}: give tensors, or dicts, lists and tuples of them",
        code="type",
        path="state",
        value=type(tree).__name__,
    )


def tree_map(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """The tree of what a function gives for each tensor, or for the tensors at the same place of several trees."""
    if isinstance(tree, dict):
        return {key: tree_map(function, tree[key], *(other[key] for other in others)) for key in tree}
    if isinstance(tree, (list, tuple)):
        parts = [tree_map(function, *together) for together in zip(tree, *others, strict=True)]
        # A named tuple takes its fields one by one.
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return function(tree, *others)


def rows(tree: Any, index: Int[Tensor, " n"] | slice) -> Any:
    """Some rows of every tensor."""
    return tree_map(lambda leaf: leaf[index], tree)


def cat(trees: Sequence[Any]) -> Any:
    """Trees of one shape, one after the other along the batch."""
    return trees[0] if len(trees) == 1 else tree_map(lambda *parts: torch.cat(parts), *trees)


def num_rows(tree: Any) -> int:
    """The batch size, the same in every tensor.

    Raises:
        UnisonoError: if the tensors have different batch sizes, or no batch at all.
    """
    sizes = {len(leaf) if leaf.ndim else 0 for leaf in leaves(tree)}
    if len(sizes) != 1 or 0 in sizes:
        raise UnisonoError(
            f"the tensors of a state have batch sizes {sorted(sizes)}: give all the same number of samples, at least 1",
            code="shape",
            path="state",
            value=sorted(sizes),
        )
    return sizes.pop()


def distance(new: Any, old: Any) -> Float[Tensor, " b"]:
    """‖new − old‖ / ‖new‖ per row, over all tensors of the tree; 0 where both are 0."""
    apart = squared_norm(tree_map(torch.sub, new, old))
    return (apart / squared_norm(new).clamp_min(torch.finfo(apart.dtype).tiny)).sqrt()


def squared_norm(tree: Any) -> Float[Tensor, " b"]:
    """‖x‖² per row, summed in float32 or more."""
    total = None
    for leaf in leaves(tree):
        wide = leaf.flatten(1) if leaf.dtype == torch.float64 else leaf.flatten(1).float()
        part = wide.square().sum(1)
        total = part if total is None else total + part
    assert total is not None
    return total


def finite(tree: Any) -> Bool[Tensor, " b"]:
    """Whether all numbers of a row are finite."""
    whole = None
    for leaf in leaves(tree):
        part = leaf.flatten(1).isfinite().all(1)
        whole = part if whole is None else whole & part
    assert whole is not None
    return whole


def flat(tree: Any) -> Float[Tensor, "b d"]:
    """A tree as one matrix, in float32 or wider."""
    whole = torch.cat([leaf.flatten(1) for leaf in leaves(tree)], 1)
    return whole if whole.dtype == torch.float64 else whole.float()


def unflat(matrix: Float[Tensor, "b d"], like: Any) -> Any:
    """The tree that a matrix stands for, with the shapes and types of another."""
    parts = iter(matrix.split([leaf[0].numel() for leaf in leaves(like)], 1))
    return tree_map(lambda leaf: next(parts).reshape(leaf.shape).to(leaf.dtype), like)
