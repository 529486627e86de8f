"""Numba soft-DTW: the recursions of ``soft_dtw`` on the CPU, compiled on first use and cached.

Rows hold what lies within the band: place k of row i is column i + k − band. The step from (i − 1, j − 1) comes from
the same place of the row before, the one from (i − 1, j) from the next place of it, the one from (i, j − 1) from the
place before. Costs and sums are float64, or of the sequences' own dtype in ``l1``.
"""

from typing import Any, no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def forward(
    cost: Float[Tensor, "b n k"], x: list[int], y: list[int], band: int, gamma: float, warp: float
) -> tuple[Float[Tensor, " b"], Float[Tensor, "b n k"]]:
    """Return the values, and of each cell the soft minimum of what leads to it (inf where nothing does)."""
    rows = cost.detach().cpu().contiguous().numpy()
    soft, values = np.full(rows.shape, np.inf), np.empty(len(rows))
    _forward(rows, np.array(x), np.array(y), band, gamma, warp, soft, values)
    return torch.from_numpy(values).to(cost.device), torch.from_numpy(soft).to(cost.device)


def backward(
    cost: Float[Tensor, "b n k"],
    soft: Float[Tensor, "b n k"],
    x: list[int],
    y: list[int],
    band: int,
    gamma: float,
    warp: float,
) -> Float[Tensor, "b n k"]:
    """Return the share of the paths that go through each cell: the gradient by its cost."""
    rows = cost.detach().cpu().contiguous().numpy()
    shares = np.zeros(rows.shape)
    _backward(rows, soft.cpu().numpy(), np.array(x), np.array(y), band, gamma, warp, shares)
    return torch.from_numpy(shares).to(cost.device)


def l1(
    first: Float[Tensor, "b n d"], second: Float[Tensor, "b m d"], x: list[int], y: list[int], band: int
) -> Float[Tensor, "b n k"]:
    """Return sums of absolute differences within the band, 0 beyond it."""
    arrays = _arrays(first, second)
    cost = np.zeros((*first.shape[:2], 2 * band + 1), arrays[0].dtype)
    _l1(*arrays, np.array(x), np.array(y), band, cost)
    return torch.from_numpy(cost).to(first.device)


def l1_backward(
    grad: Float[Tensor, "b n k"],
    first: Float[Tensor, "b n d"],
    second: Float[Tensor, "b m d"],
    x: list[int],
    y: list[int],
    band: int,
) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b m d"]]:
    """Return the gradients of ``l1`` by both sequences."""
    arrays = _arrays(first, second)
    left, right = (np.zeros_like(array) for array in arrays)
    rows = grad.detach().cpu().contiguous().numpy().astype(arrays[0].dtype, copy=False)
    _l1_backward(rows, *arrays, np.array(x), np.array(y), band, left, right)
    return torch.from_numpy(left).to(first.device), torch.from_numpy(right).to(first.device)


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().cpu().contiguous().numpy() for tensor in tensors]


@no_type_check  # numba compiles the source, and a type checker's wrapper is not it
def _forward_source(cost, x, y, band, gamma, warp, soft, values):
    width = 2 * band + 1
    for b in range(len(x)):
        for i in range(x[b]):
            first = max(0, i - band)
            for j in range(first, min(y[b], i + band + 1)):
                k = j - i + band
                if i == 0 and j == 0:
                    soft[b, i, k] = 0.0
                    continue
                diagonal, above, left = np.inf, np.inf, np.inf
                if i > 0 and j > 0:
                    diagonal = soft[b, i - 1, k] + cost[b, i - 1, k]
                if i > 0 and k + 1 < width:
                    above = soft[b, i - 1, k + 1] + cost[b, i - 1, k + 1] + warp
                if j > first:
                    left = soft[b, i, k - 1] + cost[b, i, k - 1] + warp
                least = min(diagonal, above, left)
                if least == np.inf:  # cells that cost infinity are in the way
                    continue
                total = np.exp((least - diagonal) / gamma) + np.exp((least - above) / gamma)
                soft[b, i, k] = least - gamma * np.log(total + np.exp((least - left) / gamma))
        k = y[b] - x[b] + band
        values[b] = soft[b, x[b] - 1, k] + cost[b, x[b] - 1, k]


@no_type_check
def _backward_source(cost, soft, x, y, band, gamma, warp, shares):
    width = 2 * band + 1
    for b in range(len(x)):
        shares[b, x[b] - 1, y[b] - x[b] + band] = 1.0
        for i in range(x[b] - 1, -1, -1):
            first = max(0, i - band)
            for j in range(min(y[b], i + band + 1) - 1, first - 1, -1):
                k = j - i + band
                share = shares[b, i, k]
                if share == 0.0 or (i == 0 and j == 0):
                    continue
                least = soft[b, i, k]
                if i > 0 and j > 0:
                    came = soft[b, i - 1, k] + cost[b, i - 1, k]
                    shares[b, i - 1, k] += share * np.exp((least - came) / gamma)
                if i > 0 and k + 1 < width:
                    came = soft[b, i - 1, k + 1] + cost[b, i - 1, k + 1] + warp
                    shares[b, i - 1, k + 1] += share * np.exp((least - came) / gamma)
                if j > first:
                    came = soft[b, i, k - 1] + cost[b, i, k - 1] + warp
                    shares[b, i, k - 1] += share * np.exp((least - came) / gamma)


@no_type_check
def _l1_source(first, second, x, y, band, cost):
    for b in range(len(x)):
        for i in range(x[b]):
            for j in range(max(0, i - band), min(y[b], i + band + 1)):
                total = first[b, i, 0] - first[b, i, 0]
                for c in range(first.shape[2]):
                    total += abs(first[b, i, c] - second[b, j, c])
                cost[b, i, j - i + band] = total


@no_type_check
def _l1_backward_source(grad, first, second, x, y, band, left, right):
    for b in range(len(x)):
        for i in range(x[b]):
            for j in range(max(0, i - band), min(y[b], i + band + 1)):
                share = grad[b, i, j - i + band]
                if share == 0:
                    continue
                for c in range(first.shape[2]):
                    difference = first[b, i, c] - second[b, j, c]
                    step = share * np.sign(difference)
                    left[b, i, c] += step
                    right[b, j, c] -= step


def _compiled(source: Any, **options: Any) -> Any:
    try:
        return numba.njit(nogil=True, cache=True, **options)(source)
    except RuntimeError:  # no folder that can be written to for the cache
        return numba.njit(nogil=True, **options)(source)


# Sums over channels may be taken in any order, so that they are vectors; NaN and infinity stay what they are.
_FREE = {"reassoc", "contract"}
_forward, _backward = _compiled(_forward_source), _compiled(_backward_source)
_l1, _l1_backward = _compiled(_l1_source, fastmath=_FREE), _compiled(_l1_backward_source, fastmath=_FREE)
