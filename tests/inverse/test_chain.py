"""Chain: DDNM and DDNM+ against closed forms with Gaussian priors, and serial against parallel."""

import math

import pytest
import torch
from gaussians import Pictures, dense, derived, posterior, smooth
from refused import refused
from unisono.diffusion import Anderson, Picard, Serial, Tolerance, differentiable, solve
from unisono.errors import RequestError
from unisono.testing.oracles import ImageMixture
from unisono_inverse.ddnm.chain import DDNM, walk
from unisono_inverse.ddnm.start import improved_start
from unisono_inverse.operators import Blur, ByFunctions, Grey, Mask, MeanPool, WalshHadamard

SHAPE = (1, 8, 8)
COVARIANCE = smooth(SHAPE, 4.0)


def half(height=8, width=8):
    known = torch.zeros(1, 1, height, width, dtype=torch.bool)
    known[..., : width // 2] = True
    return known


OPERATORS = {
    "inpaint": lambda: Mask(half()),
    "super": lambda: MeanPool(2, 8, 8),
    "blur": lambda: Blur(torch.tensor([0.25, 0.5, 0.25]), 8, 8),
    "compressed": lambda: WalshHadamard(0.4, 8, 8),
}


class Known(DDNM):
    """A chain whose noise is given, not drawn: rows [steps + 1, b, …], the start last."""

    given: torch.Tensor

    def noise(self, sample, i, purpose):
        return self.given[-1 if purpose == "start" else i][sample]


def measured(operator, noise_std=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = Pictures(COVARIANCE, SHAPE).oracle.sample(1, generator).reshape(1, *SHAPE)
    y = operator.measure(x)
    return operator.back(y + noise_std * torch.randn(y.shape, generator=generator, dtype=torch.float64)).double()


@pytest.mark.parametrize("noise_std", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("eta", [0.0, 0.85, 1.0])
@pytest.mark.parametrize("task", OPERATORS)
def test_mean_and_covariance_are_those_that_matrices_give(task, eta, noise_std):
    """The chain is run once for every unit of its noise, which gives its exact mean and covariance."""
    operator, steps, d = OPERATORS[task](), 12, 64
    back = measured(operator, noise_std).expand((steps + 1) * d + 1, *SHAPE)
    chain = Known(
        Pictures(COVARIANCE, SHAPE),
        operator,
        back,
        seeds=[0] * len(back),
        num_steps=steps,
        eta=eta,
        noise_std=noise_std,
    )
    unit = torch.cat([torch.eye((steps + 1) * d, dtype=torch.float64), torch.zeros(1, (steps + 1) * d)])
    chain.given = unit.reshape(len(unit), steps + 1, *SHAPE).transpose(0, 1)
    made = solve(chain, chain.start(), Serial(), Tolerance(1.0, per_sample=False)).sample.flatten(1)
    columns = made[:-1] - made[-1]
    mean, covariance = derived(chain, COVARIANCE, dense(operator.measure, SHAPE))
    assert torch.allclose(made[-1], mean, atol=1e-6)
    assert torch.allclose(columns.T @ columns, covariance, atol=1e-6)


def spread(covariance):
    return math.sqrt(float(covariance.trace()) / len(covariance))


@pytest.mark.parametrize(
    ("task", "exact", "published", "still"), [("super", 0.211, 0.173, 0.2), ("inpaint", 0.303, 0.266, 0.304)]
)
def test_published_noise_is_less_spread_than_the_posterior(task, exact, published, still):
    """With the exact prior, samples at η = 0.85 are nearer to the mean than posterior samples; η = 0 is close."""
    operator = OPERATORS[task]()
    matrix = dense(operator.measure, SHAPE)
    found = {}
    for eta in (0.85, 0.0):
        chain = DDNM(Pictures(COVARIANCE, SHAPE), operator, measured(operator), seeds=[0], num_steps=100, eta=eta)
        found[eta] = spread(derived(chain, COVARIANCE, matrix)[1])
    assert spread(posterior(COVARIANCE, matrix, 0)) == pytest.approx(exact, abs=1e-3)
    assert found == pytest.approx({0.85: published, 0.0: still}, abs=1e-3)


def test_noise_of_a_step_has_the_level_s_variance_in_every_direction():
    """DDNM+ with a prior that knows the picture: what A⁺y brings and what is added make σ'², whatever s and η."""
    operator, std = OPERATORS["blur"](), 0.2
    singular = operator.singular.flatten().double()
    for eta in (0.0, 0.5, 1.0):
        chain = DDNM(Pictures(COVARIANCE, SHAPE), operator, measured(operator), seeds=[0], eta=eta, noise_std=std)
        for level in range(1, 101, 9):
            alpha, sigma = chain.alpha[level], chain.sigma[level]
            mix, d_z, d_eps = chain.scales(singular, alpha, sigma)
            brought = torch.where(singular > 0, alpha * mix * std / singular.clamp_min(1e-9), 0)
            total = brought.square() + d_z.square() + d_eps.square()
            assert torch.allclose(total, torch.full_like(total, sigma**2), atol=1e-9)
            assert (mix[singular == 0] == 0).all() and (mix <= 1).all()


def test_noisy_measurements_are_restored_better_when_the_noise_is_known():
    operator, std, prior = OPERATORS["blur"](), 0.2, Pictures(COVARIANCE, SHAPE)
    generator = torch.Generator().manual_seed(3)
    x = prior.oracle.sample(16, generator).reshape(16, *SHAPE)
    y = operator.measure(x)
    back = operator.back(y + std * torch.randn(y.shape, generator=generator, dtype=torch.float64))
    error = {}
    for told in (0.0, std):
        chain = DDNM(prior, operator, back, seeds=list(range(16)), num_steps=40, noise_std=told)
        error[told] = float((solve(chain, chain.start(), Serial()).sample - x).square().mean())
    assert error[std] < 0.5 * error[0.0]


def test_own_functions_with_one_singular_value_restore_as_the_operator_does():
    pool, prior = MeanPool(2, 8, 8), Pictures(COVARIANCE, SHAPE)
    own = ByFunctions(pool.measure, pool.back, SHAPE, singular=0.5)
    for std in (0.0, 0.1):
        made = []
        for operator in (pool, own):
            chain = DDNM(prior, operator, measured(pool, std), seeds=[0], num_steps=20, noise_std=std)
            made.append(solve(chain, chain.start(), Serial()).sample)
        assert torch.allclose(*made, atol=1e-7)
    with refused(RequestError, "unsupported", "noise_level", names="ByFunctions"):
        DDNM(prior, ByFunctions(pool.measure, pool.back, SHAPE), measured(pool), seeds=[0], noise_std=0.1)


# ---- parallel in time ---------------------------------------------------------------------------

MIXTURE = ImageMixture((3, 8, 8), num_modes=4)
OF_COLOURS = {
    "inpaint": lambda: Mask(half()),
    "super": lambda: MeanPool(2, 8, 8),
    "colour": lambda: Grey(),
}


def coloured(task, b=3, num_steps=50, **how):
    operator = OF_COLOURS[task]()
    x = MIXTURE.sample(b, torch.Generator().manual_seed(5)).float()
    return x, DDNM(
        MIXTURE, operator, operator.back(operator.measure(x)), seeds=list(range(b)), num_steps=num_steps, **how
    )


@pytest.mark.parametrize("solver", [Picard(), Anderson()], ids=["picard", "anderson"])
@pytest.mark.parametrize("task", OF_COLOURS)
def test_parallel_is_serial_and_both_are_consistent_at_every_tolerance(task, solver):
    x, chain = coloured(task, 2)
    serial = solve(chain, chain.start(), Serial())
    y = chain.operator.measure(x)
    assert (chain.operator.measure(serial.sample) - y).abs().max() < 1e-5
    for tolerance in (1.0, 1e-2, 1e-4):
        parallel = solve(chain, chain.start(), solver, Tolerance(tolerance), 8)
        assert (chain.operator.measure(parallel.sample) - y).abs().max() < 1e-5
    # At η = 0.85 a trajectory of a mixture may change modes; a tight tolerance follows the serial one.
    assert (parallel.sample - serial.sample).abs().max() < 5e-2
    assert parallel.report.rounds < serial.report.rounds


def test_each_picture_stops_by_itself_and_equals_itself_alone():
    """One picture that is nothing like the prior takes more rounds; the others take as many as without it."""
    x, _ = coloured("inpaint", 4)
    operator = Mask(half())
    x[3] = 6 * torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0)).sign()
    back = operator.back(operator.measure(x))
    chain = DDNM(MIXTURE, operator, back, seeds=[0, 1, 2, 3], num_steps=50)
    together = solve(chain, chain.start(), Picard(), Tolerance(1e-2), 8)
    for row in range(4):
        alone = DDNM.of(chain, torch.tensor([row]))
        done = solve(alone, alone.start(), Picard(), Tolerance(1e-2), 8)
        assert torch.allclose(done.sample[0], together.sample[row], atol=1e-4)
        assert done.report.rounds == together.report.rounds_of[row]
    rounds = together.report.rounds_of
    assert len(set(rounds)) > 1


def test_a_walk_back_is_part_of_the_step_before_it():
    assert walk(3) == [(0, 1, 1), (1, 2, 2), (2, 3, 3)]
    assert walk(4, 2, 2) == [(0, 1, 1), (1, 2, 0), (0, 1, 1), (1, 2, 2), (2, 3, 3), (3, 4, 2), (2, 3, 3), (3, 4, 4)]
    assert walk(3, 2, 3)[-3:] == [(2, 3, 2), (2, 3, 2), (2, 3, 3)]


def test_a_chain_that_travels_is_parallel_too():
    x, chain = coloured("super", 2, num_steps=20, length=5, repeat=3)
    assert chain.num_steps == 60
    serial = solve(chain, chain.start(), Serial())
    parallel = solve(chain, chain.start(), Picard(), Tolerance(1e-4), 8)
    assert (parallel.sample - serial.sample).abs().max() < 5e-2
    assert (chain.operator.measure(serial.sample) - chain.operator.measure(x)).abs().max() < 1e-5


def test_implicit_gradients_to_the_initial_noise_are_those_of_the_serial_chain():
    operator = OPERATORS["super"]()
    chain = DDNM(Pictures(COVARIANCE, SHAPE), operator, measured(operator), seeds=[0], num_steps=12, correct_last=False)
    x = chain.start().requires_grad_()
    made, _ = differentiable(chain, x, solver=Picard(), accept=Tolerance(1e-9), window=6, tolerance=1e-10)
    weight = torch.randn(made.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (implicit,) = torch.autograd.grad((made * weight).sum(), x)
    state, every = x, torch.arange(1)
    chain.restore(chain.begin(every))
    for i in range(12):
        state = chain.advance(chain.evaluate(state, torch.tensor([i]), every), i, state)
    (serial,) = torch.autograd.grad((state * weight).sum(), x)
    assert torch.allclose(implicit, serial, rtol=1e-6, atol=1e-9)


def test_an_improved_start_agrees_better_with_the_measurement():
    operator = OF_COLOURS["super"]()
    x, whole = coloured("super", 2, num_steps=8, eta=0.0)
    chain = DDNM.of(whole, torch.tensor([1]), correct_last=False)
    start, losses, rows = improved_start(chain, chain.start(), 2, (Picard(), Tolerance(1e-3), 8))
    assert min(losses) < 0.99 * losses[0] and rows >= 3 * 2 * 8
    assert float(start.norm()) == pytest.approx(float(chain.start().norm()), rel=1e-5)
    final = solve(DDNM.of(whole, torch.tensor([1])), start, Serial()).sample
    assert (operator.measure(final) - operator.measure(x[1:])).abs().max() < 1e-5
