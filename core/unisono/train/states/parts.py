"""Parts: which ranges of a sharded tensor this process holds.

One range per dimension as a rule. Where tensor parallelism cuts a joint weight (queries, keys and values in one matrix)
within each of its parts, a process holds several, which torch's own ``compute_local_shape_and_global_offset`` cannot
say: it names the first.
"""

from itertools import product

import torch
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard

Part = tuple[tuple[int, ...], tuple[slice, ...]]
"""Where a range begins in the whole tensor, and where it lies in this process's own."""


def parts_of(tensor: DTensor) -> list[Part]:
    """Return the ranges of a tensor that this process holds; none where it holds nothing of it."""
    if tensor.device_mesh.get_coordinate() is None or (tensor.numel() and not tensor.to_local().numel()):
        return []
    parts = []
    for runs in product(*(_runs(tensor, dim) for dim in range(tensor.ndim))):
        begin = tuple(start for start, _, _ in runs)
        parts.append((begin, tuple(slice(inner, inner + size) for _, inner, size in runs)))
    return parts


def _runs(tensor: DTensor, dim: int) -> list[tuple[int, int, int]]:
    """The ranges along one dimension: begin in the whole, begin here, length; found by sharding its indices alike."""
    size, mesh = tensor.shape[dim], tensor.device_mesh
    placements = []
    for placement in tensor.placements:
        if isinstance(placement, _StridedShard) and placement.dim == dim:
            placements.append(_StridedShard(0, split_factor=placement.split_factor))
        else:
            placements.append(Shard(0) if placement.is_shard(dim) else Replicate())
    if all(isinstance(placement, Replicate) for placement in placements):
        return [(0, 0, size)]
    indices = torch.arange(size, device=mesh.device_type)
    same = DTensor.from_local(indices, mesh, [Replicate()] * mesh.ndim, run_check=False)
    runs: list[tuple[int, int, int]] = []
    for inner, index in enumerate(same.redistribute(placements=placements).to_local().tolist()):
        if runs and runs[-1][0] + runs[-1][2] == index:
            runs[-1] = (runs[-1][0], runs[-1][1], runs[-1][2] + 1)
        else:
            runs.append((index, inner, 1))
    return runs
