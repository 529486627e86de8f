"""Operators: against dense matrices, whose singular values and pseudo-inverse another library finds."""

import pytest
import torch
from gaussians import dense
from refused import refused
from unisono.errors import RequestError
from unisono_inverse.operators import (
    LUMA,
    Blur,
    Both,
    ByFunctions,
    Grey,
    Mask,
    MeanPool,
    WalshHadamard,
    gaussian_kernel,
)

SHAPE = (3, 4, 8)


def mask(seed=0):
    return torch.rand(1, 1, *SHAPE[1:], generator=torch.Generator().manual_seed(seed)) < 0.5


OPERATORS = {
    "mask": lambda: Mask(mask()),
    "pool": lambda: MeanPool(2, 4, 8),
    "pool-4": lambda: MeanPool(4, 4, 8),
    "grey": lambda: Grey(),
    "grey-mean": lambda: Grey((1 / 3, 1 / 3, 1 / 3)),
    "grey-first": lambda: Grey((1.0, 0.0, 0.0)),
    "hadamard": lambda: WalshHadamard(0.3, 4, 8),
    "blur": lambda: Blur(gaussian_kernel(0.8), 4, 8),
    "blur-uneven": lambda: Blur(torch.tensor([0.5, 0.3, 0.2]), 4, 8, 1e-6, torch.tensor([0.1, 0.8, 0.1])),
    "grey-pool": lambda: Both(Grey(), MeanPool(2, 4, 8)),
    "grey-blur": lambda: Both(Grey(LUMA), Blur(gaussian_kernel(0.8), 4, 8)),
    "grey-mask": lambda: Both(Grey(), Mask(mask())),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_pseudo_inverse_and_singular_values_are_those_of_the_matrix(name):
    operator = OPERATORS[name]()
    a = dense(operator.measure, SHAPE)
    outputs = torch.eye(len(a), dtype=torch.float64).reshape(
        len(a), *operator.measure(torch.zeros(1, *SHAPE)).shape[1:]
    )
    back = operator.back(outputs).flatten(1).T
    assert torch.allclose(back, torch.linalg.pinv(a, rtol=1e-9), atol=1e-6)
    own = operator.singular.double().expand(1, *SHAPE).flatten().sort(descending=True).values
    values = torch.linalg.svdvals(a)
    rank = int((own > 0).sum())
    assert torch.allclose(own[:rank], values[:rank], atol=1e-6) and (values[rank:] < 1e-6).all()
    v = dense(operator.synthesise, SHAPE)
    assert torch.allclose(v.T @ v, torch.eye(len(v), dtype=torch.float64), atol=1e-6)
    assert torch.allclose(dense(operator.analyse, SHAPE), v.T, atol=1e-6)
    # The coefficients' own values are at their own places: A V has columns of these lengths.
    assert torch.allclose((a @ v).norm(dim=0), operator.singular.double().expand(1, *SHAPE).flatten(), atol=1e-6)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_settled_picture_is_measured_as_asked_and_is_the_nearest_such(name):
    operator, generator = OPERATORS[name](), torch.Generator().manual_seed(1)
    x, other = torch.randn(2, 1, *SHAPE, generator=generator)
    back = operator.back(operator.measure(other))
    settled = operator.settle(x, back)
    assert (operator.measure(settled) - operator.measure(other)).abs().max() < 2e-6
    assert (operator.project(settled - x) - (settled - x)).abs().max() < 2e-6  # it moved in the range of A⁺ alone


def test_rows_of_masks_are_their_own():
    known = torch.cat([mask(0), mask(1), mask(2)])
    x = torch.randn(2, *SHAPE)
    operator = Mask(known).rows(torch.tensor([2, 0]))
    assert torch.equal(operator.measure(x), torch.where(known[[2, 0]], x, 0))
    both = Both(Grey(), Mask(known)).rows(torch.tensor([1, 1]))
    assert torch.equal(both.singular[0, 0] > 0, known[1, 0])


def test_own_functions_are_checked():
    pool = MeanPool(2, 4, 8)
    operator = ByFunctions(pool.measure, pool.back, SHAPE, singular=0.5)
    x = torch.randn(1, *SHAPE)
    assert torch.equal(operator.project(x), pool.project(x))
    with refused(RequestError, "value", "operator"):
        ByFunctions(pool.measure, lambda y: 2 * pool.back(y), SHAPE)
    with refused(RequestError, "value", "operator"):  # not linear: fits at one point alone
        ByFunctions(torch.abs, lambda y: y, SHAPE)
    with refused(RequestError, "value", "operator.singular", value=0.25):
        ByFunctions(pool.measure, pool.back, SHAPE, singular=0.25)
    with refused(RequestError, "shape", "operator"):
        ByFunctions(pool.measure, lambda y: y, SHAPE)


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda: MeanPool(3, 4, 8), "factor"),
        (lambda: WalshHadamard(0.5, 6, 8), "picture"),
        (lambda: Blur(gaussian_kernel(3.0), 4, 8), "blur"),
        (lambda: Blur(torch.ones(4) / 4, 8, 8), "blur"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(make, path):
    with refused(RequestError, "shape", path):
        make()
