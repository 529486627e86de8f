"""Soft-DTW against the list of all paths, dynamic time warping, and numerical gradients, on both backends."""

import math
from functools import cache, partial
from itertools import pairwise

import pytest
import torch
from refused import refused
from unisono.duration import soft_dtw, soft_dtw_divergence, soft_dtw_l1
from unisono.errors import UnisonoError

BACKENDS = ["numba", "torch"]
EXACT = dict(atol=1e-9, rtol=1e-9)
"""Float64; sums of a few hundred terms."""


@cache
def paths(n, m):
    """All monotonic paths from the first to the last cell, as tuples of cells."""
    if n == m == 1:
        return (((0, 0),),)
    before = [(n - 1, m), (n, m - 1), (n - 1, m - 1)]
    return tuple((*path, (n - 1, m - 1)) for i, j in before if i and j for path in paths(i, j))


def by_list(cost, gamma, warp=0.0, band=None):
    """−γ log Σ exp(−cost / γ) over the paths that stay within the band."""
    values = []
    for path in paths(*cost.shape):
        if band is not None and any(abs(i - j) > band for i, j in path):
            continue
        aside = sum(b[0] == a[0] or b[1] == a[1] for a, b in pairwise(path))
        values.append(sum(cost[i, j] for i, j in path) + warp * aside)
    return -gamma * torch.logsumexp(-torch.stack(values) / gamma, 0)


def costs(n=5, m=4, items=3, scale=3.0, dtype=torch.float64):
    return scale * torch.rand(items, n, m, dtype=dtype, generator=torch.Generator().manual_seed(n + 10 * m))


def full(cost):
    return torch.full((len(cost),), cost.shape[1]), torch.full((len(cost),), cost.shape[2])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("gamma", "warp", "band"), [(1.0, 0.0, None), (0.05, 0.7, None), (0.3, 0.2, 1), (2.0, 1.0, 2)])
def test_it_is_the_sum_over_all_paths(backend, gamma, warp, band):
    for n, m in [(5, 4), (4, 5), (1, 1), (1, 2), (2, 1), (5, 5)]:
        cost = costs(n, m)
        made = soft_dtw(cost, *full(cost), gamma=gamma, warp_penalty=warp, band=band, backend=backend)
        wanted = torch.stack([by_list(row, gamma, warp, band) for row in cost])
        torch.testing.assert_close(made, wanted, **EXACT)
    assert len(paths(5, 5)) == 321  # the central Delannoy number: no path is missed


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_small_gamma_gives_dynamic_time_warping(backend):
    """Between the best path and the best path less γ log of the number of paths."""
    cost = costs(24, 20)
    best = torch.full((3, 25, 21), math.inf, dtype=torch.float64)
    best[:, 0, 0] = 0
    for i in range(24):
        for j in range(20):
            before = torch.stack([best[:, i, j], best[:, i, j + 1] + 0.5, best[:, i + 1, j] + 0.5])
            best[:, i + 1, j + 1] = cost[:, i, j] + before.amin(0)
    made = soft_dtw(cost, *full(cost), gamma=1e-3, warp_penalty=0.5, backend=backend)
    slack = 1e-3 * math.log(3) * (24 + 20)
    assert ((best[:, -1, -1] - slack <= made) & (made <= best[:, -1, -1] + 1e-12)).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("band", [None, 2])
def test_gradients_are_the_numerical_ones(backend, band):
    lengths = torch.tensor([5, 3]), torch.tensor([4, 5])
    run = partial(soft_dtw, gamma=0.4, warp_penalty=0.3, band=band, backend=backend)
    cost = costs(5, 5, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: run(c, *lengths), cost)
    g = torch.Generator().manual_seed(3)
    x, y = (torch.randn(2, size, 3, dtype=torch.float64, generator=g, requires_grad=True) for size in (5, 5))
    between = partial(soft_dtw_l1, gamma=0.4, warp_penalty=0.3, band=band, backend=backend)
    assert torch.autograd.gradcheck(lambda a, b: between(a, b, *lengths), (x, y))


def test_backends_are_equal():
    g = torch.Generator().manual_seed(0)
    lengths = torch.tensor([37, 12, 30, 1]), torch.tensor([40, 9, 30, 4])
    made = {}
    for backend in BACKENDS:
        x, y = (torch.randn(4, size, 8, generator=g.manual_seed(size)).requires_grad_() for size in (37, 41))
        values = soft_dtw_l1(x, y, *lengths, gamma=0.05, warp_penalty=8.0, band=6, backend=backend)
        values.sum().backward()
        made[backend] = values.detach(), x.grad, y.grad
    for left, right in zip(made["numba"], made["torch"], strict=True):
        # Costs are float32 sums of eight numbers, in another order; divided by γ in an exponent.
        torch.testing.assert_close(left, right, atol=2e-4, rtol=1e-5)
    x_grad, y_grad = made["numba"][1:]
    assert x_grad[1, 12:].abs().sum() == y_grad[1, 9:].abs().sum() == 0 and x_grad[1, :12].abs().sum() > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_item_alone_equals_the_item_in_a_batch(backend):
    cost = costs(9, 8, 3)
    lengths = torch.tensor([9, 4, 1]), torch.tensor([8, 6, 2])
    cost[1, 4:] = cost[1, :, 6:] = math.nan
    together = soft_dtw(cost, *lengths, gamma=0.2, band=3, backend=backend)
    for row, (n, m) in enumerate(zip(*map(torch.Tensor.tolist, lengths), strict=True)):
        own = cost[row : row + 1, :n, :m]
        torch.testing.assert_close(together[row : row + 1], soft_dtw(own, *full(own), gamma=0.2, band=3), **EXACT)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cell_that_costs_infinity_is_passed_by(backend):
    cost = costs(4, 4, 1)
    cost[0, 1, 1] = cost[0, 2, 1] = cost[0, 3, 0] = math.inf
    cost.requires_grad_()
    made = soft_dtw(cost, *full(cost), gamma=0.3, backend=backend)
    torch.testing.assert_close(made[0], by_list(cost[0].detach(), 0.3), **EXACT)
    made.sum().backward()
    assert cost.grad[0, 1, 1] == 0 and cost.grad.isfinite().all() and cost.grad[0, 0, 0] == pytest.approx(1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_channels_are_compared_by_absolute_differences(backend):
    g = torch.Generator().manual_seed(5)
    x, y = torch.randn(2, 6, 3, generator=g), torch.randn(2, 7, 3, generator=g)
    lengths = torch.tensor([6, 5]), torch.tensor([7, 5])
    cost = (x[:, :, None] - y[:, None]).abs().sum(-1)
    for band in (None, 3):
        wanted = soft_dtw(cost, *lengths, gamma=0.5, warp_penalty=1.0, band=band, backend=backend)
        made = soft_dtw_l1(x, y, *lengths, gamma=0.5, warp_penalty=1.0, band=band, backend=backend)
        torch.testing.assert_close(made, wanted, atol=1e-5, rtol=1e-5)


def test_equal_sequences_have_a_negative_value_and_a_divergence_of_zero():
    x = torch.randn(1, 8, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    length = torch.tensor([8])
    assert soft_dtw_l1(x, x, length, length, gamma=1.0) < -1
    assert soft_dtw_divergence(x, x, length, length, gamma=1.0).abs() < 1e-12
    assert soft_dtw_divergence(x, x + 1, length, length, gamma=1.0) > 1


def test_a_shifted_sequence_costs_its_shift_and_little_more():
    """What the loss is for: the same events some frames later are far apart frame by frame, and near along the path."""
    x = torch.zeros(1, 30, 1)
    x[0, 10:14] = 5
    y = x.roll(3, 1)
    length = torch.tensor([30])
    frame_by_frame = float((x - y).abs().sum())
    assert frame_by_frame == 30
    warped = float(soft_dtw_l1(x, y, length, length, gamma=0.01, warp_penalty=0.5, band=5))
    assert 2.5 <= warped <= 3.0  # three steps aside on either hand, half a unit each, less what many paths give back


REFUSED = {
    "lengths further apart than the band": (dict(band=1), "limit", "band", 1),
    "no gamma": (dict(gamma=0.0), "range", "gamma", 0.0),
    "a gamma that is infinite": (dict(gamma=math.inf), "range", "gamma", math.inf),
    "a reward for steps aside": (dict(warp_penalty=-1.0), "range", "warp_penalty", -1.0),
    "a band below 0": (dict(band=-1), "range", "band", -1),
    "another backend": (dict(backend="cuda"), "unknown", "backend", ...),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_answer_is_refused(name):
    options, code, path, value = REFUSED[name]
    cost = costs(6, 4, 1)
    with refused(UnisonoError, code, path, **({} if value is ... else {"value": value})):
        soft_dtw(cost, *full(cost), **{"gamma": 1.0, **options})


def test_lengths_and_channels_that_do_not_fit_are_refused():
    cost = costs(6, 4, 1)
    with refused(UnisonoError, "range", "x_lengths", value=7):
        soft_dtw(cost, torch.tensor([7]), torch.tensor([4]), gamma=1.0)
    with refused(UnisonoError, "range", "y_lengths", value=0):
        soft_dtw(cost, torch.tensor([6]), torch.tensor([0]), gamma=1.0)
    with refused(UnisonoError, "shape", "y", value=3):
        soft_dtw_l1(torch.zeros(1, 4, 2), torch.zeros(1, 4, 3), torch.tensor([4]), torch.tensor([4]), gamma=1.0)
