"""Tensor plan: how several processes share the work of one block (Shoeybi et al., Megatron-LM, arXiv:1909.08053, §3).

A block declares as its class' ``tensor_plan`` which of its linear layers are cut by columns (each process makes some of
the outputs: the queries of some heads, some channels of the feed-forward) and which, behind these, by rows (each reads
what it has, and the results are summed). What is between two such layers then is each process' own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TensorPlan:
    """The plan of one class of blocks; names are paths within the block, and layers that a block lacks are left out.

    columns: linear layers, and how many parts their outputs consist of that are cut each by itself: 3 where queries,
        keys and values come from one layer.
    rows: linear layers that read what is cut.
    heads: whole numbers that count the heads of a process: they are divided, and must be divisible.
    first: whole numbers that say which head is a process' first, 0 where there is one; in the order of ``heads``.
    shared: parameters that every process has and uses on, or has of, its own heads: their gradients are summed.
    """

    columns: Mapping[str, int]
    rows: tuple[str, ...]
    heads: tuple[str, ...] = ("num_heads",)
    first: tuple[str, ...] = field(default=())
    shared: tuple[str, ...] = field(default=())
