"""Soft-DTW as a torch program: the recursions of ``soft_dtw`` for a whole batch, on any device.

It goes from one anti-diagonal p = i + j to the next: cells of one need only those of the two before. In the band, place
k stands for q = j − i = k − band on either layout, so that a diagonal [b, k] has (i − 1, j − 1) at place k two
diagonals before, and (i − 1, j) and (i, j − 1) at places k + 1 and k − 1 of the last one. Half the places of a
diagonal, those whose p + q is odd, are no cells.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def forward(
    cost: Float[Tensor, "b n k"], x: list[int], y: list[int], band: int, gamma: float, warp: float
) -> tuple[Float[Tensor, " b"], Float[Tensor, "b n k"]]:
    """Return the values, and of each cell the soft minimum of what leads to it (inf where nothing does)."""
    costs = _diagonals(cost, x, y, band)
    soft = torch.full_like(costs, torch.inf)
    soft[0, :, band] = 0
    for p in range(1, len(costs)):
        least = -gamma * torch.logsumexp(-_steps(costs, soft, p, warp) / gamma, 0)
        soft[p] = torch.where(costs[p].isfinite(), least, torch.inf)
    rows = torch.arange(len(x), device=cost.device)
    n, m = (torch.tensor(lengths, device=cost.device) for lengths in (x, y))
    last = (n + m - 2, rows, m - n + band)
    return soft[last] + costs[last], _rows(soft, cost.shape[1], band, torch.inf)


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
    costs = _diagonals(cost, x, y, band)
    softs = _diagonals(soft, x, y, band)
    shares = torch.zeros_like(costs)
    rows = torch.arange(len(x), device=cost.device)
    n, m = (torch.tensor(lengths, device=cost.device) for lengths in (x, y))
    shares[n + m - 2, rows, m - n + band] = 1
    for p in range(len(costs) - 1, 0, -1):
        parts = ((softs[p] - _steps(costs, softs, p, warp)) / gamma).exp()
        diagonal, above, left = torch.where(softs[p].isfinite(), shares[p] * parts, 0)
        if p > 1:
            shares[p - 2] += diagonal
        shares[p - 1] += F.pad(above, (1, 0))[:, :-1] + F.pad(left, (0, 1))[:, 1:]
    return _rows(shares, cost.shape[1], band, 0.0)


def l1(
    first: Float[Tensor, "b n d"], second: Float[Tensor, "b m d"], x: list[int], y: list[int], band: int
) -> Float[Tensor, "b n k"]:
    """Return sums of absolute differences within the band, 0 beyond it; one diagonal is made at a time."""
    cost = first.new_zeros(*first.shape[:2], 2 * band + 1)
    for k, low, high in _overlaps(first, second, band):
        cost[:, low:high, k] = (first[:, low:high] - second[:, low + k - band : high + k - band]).abs().sum(-1)
    return torch.where(_cells(first.shape[1], x, y, band, cost.device), cost, 0)


def l1_backward(
    grad: Float[Tensor, "b n k"],
    first: Float[Tensor, "b n d"],
    second: Float[Tensor, "b m d"],
    x: list[int],
    y: list[int],
    band: int,
) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b m d"]]:
    """Return the gradients of ``l1`` by both sequences."""
    grad = torch.where(_cells(first.shape[1], x, y, band, grad.device), grad, 0)
    left, right = torch.zeros_like(first), torch.zeros_like(second)
    for k, low, high in _overlaps(first, second, band):
        other = slice(low + k - band, high + k - band)
        step = grad[:, low:high, k, None] * (first[:, low:high] - second[:, other]).sign()
        left[:, low:high] += step
        right[:, other] -= step
    return left, right


def _steps(costs: Tensor, soft: Tensor, p: int, warp: float) -> Float[Tensor, "3 b k"]:
    """Return what the three steps to diagonal p bring: the diagonal one, from above, from the left; inf is none."""
    last = soft[p - 1] + costs[p - 1] + warp
    before = soft[p - 2] + costs[p - 2] if p > 1 else torch.full_like(last, torch.inf)
    return torch.stack(
        [before, F.pad(last, (0, 1), value=torch.inf)[:, 1:], F.pad(last, (1, 0), value=torch.inf)[:, :-1]]
    )


def _cells(n: int, x: list[int], y: list[int], band: int, device: torch.device) -> Tensor:
    """Return which places of rows [b, n, k] are cells of their item."""
    i = torch.arange(n, device=device)[:, None]
    j = i + torch.arange(-band, band + 1, device=device)
    x_lengths, y_lengths = (torch.tensor(lengths, device=device)[:, None, None] for lengths in (x, y))
    return (i < x_lengths) & (j >= 0) & (j < y_lengths)


def _diagonals(rows: Float[Tensor, "b n k"], x: list[int], y: list[int], band: int) -> Float[Tensor, "p b k"]:
    """Return the same by diagonals, inf where there is no cell."""
    n, device = rows.shape[1], rows.device
    rows = torch.where(_cells(n, x, y, band, device), rows, torch.inf)
    q = torch.arange(-band, band + 1, device=device)
    twice = torch.arange(max(map(sum, zip(x, y, strict=True))) - 1, device=device)[:, None] - q
    i = twice // 2
    cell = (twice % 2 == 0) & (i >= 0) & (i < n)
    found = rows[:, i.clamp(0, n - 1), torch.arange(2 * band + 1, device=device)]
    return torch.where(cell, found, torch.inf).transpose(0, 1)


def _rows(diagonals: Float[Tensor, "p b k"], n: int, band: int, fill: float) -> Float[Tensor, "b n k"]:
    """Return the same by rows; what lies on no diagonal is ``fill``."""
    device = diagonals.device
    places = torch.arange(2 * band + 1, device=device)
    p = 2 * torch.arange(n, device=device)[:, None] + places - band
    found = diagonals[p.clamp(0, len(diagonals) - 1), :, places]
    inside = (p >= 0) & (p < len(diagonals))
    return torch.where(inside[..., None], found, fill).permute(2, 0, 1)


def _overlaps(first: Tensor, second: Tensor, band: int) -> list[tuple[int, int, int]]:
    """Return of each place k the rows [low, high) whose column i + k − band exists."""
    found = []
    for k in range(2 * band + 1):
        low, high = max(0, band - k), min(first.shape[1], second.shape[1] + band - k)
        if low < high:
            found.append((k, low, high))
    return found
