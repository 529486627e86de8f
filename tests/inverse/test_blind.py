"""BlindDPS: kernels, gradients per row, and the exact posterior over a finite set of kernels."""

import numpy as np
import pytest
import torch
from gaussians import Pictures, dense, smooth
from refused import refused
from unisono import Synthesizer
from unisono.assemble import assemble
from unisono.diffusion import Picard, Serial, Tolerance, solve
from unisono.errors import DataError, RecipeError, RequestError
from unisono.recipe import Recipe
from unisono_inverse.blind.chain import BlindDPS, blurred
from unisono_inverse.blind.kernels import KernelData, KernelSet, few_kernels, kernel_of, made_kernel, state_of
from unisono_inverse.blind.model import BlindRestorer, aligned
from unisono_inverse.data import trial_picture

SHAPE = (1, 12, 12)
COVARIANCE = 3 * smooth(SHAPE, 1.5)


def five():
    """Eight unlike kernels of 5 × 5."""
    made = [made_kernel(np.random.default_rng(number), 5) for number in (0, 1, 2, 4, 5, 7, 8, 11)]
    return KernelSet(torch.from_numpy(np.stack(made)).double())


def test_kernels_sum_to_one_and_states_lead_back():
    for seed in range(50):
        kernel = torch.from_numpy(made_kernel(np.random.default_rng(seed), 9))
        assert kernel.shape == (9, 9) and (kernel >= 0).all() and float(kernel.sum()) == pytest.approx(1, abs=1e-5)
        state = state_of(kernel)
        assert float(state.max()) == 1 and float(state.min()) >= -1
        assert torch.allclose(kernel_of(state), kernel, atol=1e-6)
    assert kernel_of(-torch.ones(1, 9, 9)).isfinite().all()


def test_a_blur_is_the_convolution_of_each_picture_with_its_own_kernel():
    from scipy.ndimage import convolve

    x, kernels = torch.randn(3, 2, 7, 8, dtype=torch.float64), torch.rand(3, 5, 5, dtype=torch.float64)
    made = blurred(x, kernels)
    for row in range(3):
        for channel in range(2):
            expected = convolve(x[row, channel].numpy(), kernels[row].numpy(), mode="mirror")
            assert np.allclose(made[row, channel].numpy(), expected)


def test_the_set_of_kernels_is_its_own_posterior_mean():
    kernels = five()
    state = state_of(kernels.kernels)[:, None]
    assert torch.allclose(kernels.x0(state, torch.ones(8), torch.full((8,), 0.01)), state, atol=1e-6)
    mean = kernels.x0(torch.zeros_like(state), torch.full((8,), 1e-4), torch.ones(8))
    assert torch.allclose(mean[0, 0], state[:, 0].mean(0), atol=1e-3)


def blurs(count, seed=0):
    generator, kernels = torch.Generator().manual_seed(seed), five()
    x = Pictures(COVARIANCE, SHAPE).oracle.sample(count, generator).reshape(count, *SHAPE)
    which = torch.arange(count) % 8
    noise = 0.01 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    return kernels, which, x, blurred(x, kernels.kernels[which]) + noise


def chain_of(kernels, y, seeds, **how):
    return BlindDPS(Pictures(COVARIANCE, SHAPE), kernels, y, seeds=seeds, **{"num_steps": 20, **how})


def test_a_row_is_the_same_alone_and_in_a_batch():
    """The published normalisations are over the batch; these are a row's own, though one row is much larger."""
    kernels, _, _, y = blurs(3)
    y[2] *= 100
    together = chain_of(kernels, y, [0, 1, 2])
    made = solve(together, together.start(), Serial()).sample
    for row in range(3):
        alone = chain_of(kernels, y[row : row + 1], [row])
        own = solve(alone, alone.start(), Serial()).sample
        for name in ("picture", "kernel"):
            assert torch.allclose(own[name][0], made[name][row], rtol=1e-6, atol=1e-8)


def test_the_gradient_is_that_of_the_residual_s_norm():
    kernels, _, _, y = blurs(2)
    chain = chain_of(kernels, y, [0, 1], sparsity=0.3)
    start, step, sample = chain.start(), torch.tensor([7, 12]), torch.tensor([0, 1])
    found = chain.evaluate(start, step, sample)

    def residual(picture, kernel):
        a, s = (torch.tensor([v[7], v[12]], dtype=torch.float64) for v in (chain.alpha, chain.sigma))
        x0, k0 = chain.prior.x0(picture, a, s), kernels.x0(kernel, a, s)
        r = (y - blurred(x0, kernel_of(k0[:, 0]))).flatten(1).norm(dim=1)
        return r + 0.3 * ((k0 + 1) / 2).abs().flatten(1).sum(1)

    for name, of in (("picture", "of_picture"), ("kernel", "of_kernel")):
        way = torch.randn(start[name].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        moved = [{**start, name: start[name] + h * way} for h in (1e-5, -1e-5)]
        slope = (residual(**moved[0]) - residual(**moved[1])) / 2e-5
        assert torch.allclose((found[of] * way).flatten(1).sum(1), slope, rtol=1e-3, atol=1e-4)


def test_states_of_two_parts_are_solved_in_parallel_too():
    kernels, _, _, y = blurs(2)
    chain = chain_of(kernels, y, [0, 1])
    serial = solve(chain, chain.start(), Serial()).sample
    parallel = solve(chain, chain.start(), Picard(), Tolerance(1e-6), 8).sample
    assert torch.allclose(serial["picture"], parallel["picture"], atol=1e-3)


def test_the_kernel_that_explains_a_picture_is_found_more_often_than_by_chance():
    """Gaussian pictures and eight kernels: which one it was is known by its evidence."""
    count = 24
    kernels, which, x, y = blurs(count)
    evidence = []
    for kernel in kernels.kernels:
        matrix = dense(lambda b, k=kernel: blurred(b, k.expand(len(b), -1, -1)), SHAPE)
        total = matrix @ COVARIANCE @ matrix.T + 1e-4 * torch.eye(len(COVARIANCE), dtype=torch.float64)
        factor = torch.linalg.cholesky(total)
        white = torch.linalg.solve_triangular(factor, y.flatten(1).T, upper=False)
        evidence.append(-0.5 * white.square().sum(0) - factor.diagonal().log().sum())
    best = torch.stack(evidence, 1).argmax(1)
    assert (best == which).double().mean() > 0.9  # the posterior itself knows
    chain = chain_of(kernels, y, list(range(count)), num_steps=60)
    made = solve(chain, chain.start(), Serial(), Tolerance(1.0, per_sample=False)).sample
    found = kernel_of(made["kernel"][:, 0])
    nearest = (found[:, None] - kernels.kernels).square().sum((-1, -2)).argmin(1)
    assert (nearest == which).double().mean() > 2 / 8
    assert (made["picture"] - x).square().mean() < 0.6 * x.square().mean()


def test_kernels_are_scored_after_they_are_aligned():
    kernel = few_kernels(None).kernels[0].numpy()
    found, shift = aligned(kernel, np.roll(kernel, (1, -2), (0, 1)))
    assert found == pytest.approx(1) and shift == (-1, 2)


PIXELS = trial_picture(0, 8, 8)


@pytest.fixture(scope="module")
def restore():
    return Synthesizer(assemble(Recipe.read("inverse/blind-dps-tiny"))[0])


def test_a_picture_comes_with_its_kernel(restore):
    made = restore(pixels=PIXELS.tolist(), damage=True, num_steps=3)
    assert made.pixels.shape == made.before.shape == (3, 8, 8)
    assert made.kernel.shape == (9, 9) and made.kernel.sum() == pytest.approx(1, abs=1e-5)
    assert len(made.plot().axes) == 3


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"noise_level": 0.1}, "conflict", "noise_level"),
        ({"num_steps": 1001}, "range", "num_steps"),
        ({"pixels": PIXELS[:, :4, :4].tolist()}, "shape", "picture"),
        ({"pixels": (3 * PIXELS).tolist()}, "range", "pixels"),
        ({"step_size": -1}, "range", "step_size"),
    ],
)
def test_wrong_requests_are_refused(restore, fields, code, path):
    with refused(RequestError, code, path):
        restore(**{"pixels": PIXELS.tolist(), "num_steps": 2, **fields})


def test_priors_that_know_no_kernels_are_refused():
    model = BlindRestorer()
    model.build({"size": 8})
    with refused(RecipeError, "conflict", "components.kernels", value=[3, 8, 8]):
        model.attach("kernels", Pictures(torch.eye(192, dtype=torch.float64), (3, 8, 8)))
    with refused(RecipeError, "conflict", "components.kernels", value=17):
        model.attach("kernels", KernelSet(torch.ones(1, 17, 17)))
    with refused(DataError, "value", "data.size", value=8):
        KernelData(size=8)
