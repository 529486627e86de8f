"""A linear state space of Gaussian latents: what a bound can reach, against Kalman's exact likelihood.

z_t ~ N(0, 1), x = W z + σ ε with W the causal convolution of a `StateSpace` layer. Then log p(x) is known in two ways
(Kalman's filter over the layer's state; the normal law of W Wᵀ + σ² I), the posterior of z is normal with the precision
Λ = I + Wᵀ W / σ², and the best mean-field posterior has its mean, the variances 1 / Λ_ii, and falls short of log p(x)
by ½ (Σ log Λ_ii − log det Λ), whatever x is.
"""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal
from unisono.nn.state_space import StateSpace
from unisono.nn.variational import Gaussian, importance_bound, kl_divergence, log_ratio

LENGTH, SIGMA = 24, 0.3


@pytest.fixture(scope="module")
def problem():
    torch.manual_seed(3)
    layer = StateSpace(1, 4, fastest=0.5, slowest=0.2).double().requires_grad_(False)
    column = layer.kernel(LENGTH)[0]
    column[0] = column[0] + layer.skip[0]
    places = torch.arange(LENGTH)
    lag = places[:, None] - places
    w = torch.where(lag >= 0, column[lag.clamp(min=0)], 0.0)
    z = torch.randn(LENGTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = torch.randn(LENGTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = layer(z[None, :, None])[0, :, 0] + SIGMA * noise
    precision = torch.eye(LENGTH, dtype=torch.float64) + w.T @ w / SIGMA**2
    mean = torch.linalg.solve(precision, w.T @ x / SIGMA**2)
    return layer, w, x, precision, mean


def kalman(layer: StateSpace, x: torch.Tensor) -> float:
    """log p(x) by the filter over the layer's state, real and imaginary parts."""
    log, out = layer.modes()
    move = torch.block_diag(*(torch.tensor([[m.real, -m.imag], [m.imag, m.real]]) for m in log.exp()[0]))
    enter = torch.tensor([1.0, 0.0] * log.shape[1], dtype=torch.float64)
    read = torch.stack([part for c in out[0] for part in (c.real, -c.imag)])
    mean, spread, total = torch.zeros_like(enter), torch.zeros(len(enter), len(enter), dtype=torch.float64), 0.0
    skip = layer.skip[0]
    for value in x:
        mean, spread = move @ mean, move @ spread @ move.T
        # the latent of this step enters the state and the skip at once: joint of state and observation
        cross = spread @ read + enter * (read @ enter + skip)
        variance = read @ spread @ read + (read @ enter + skip) ** 2 + SIGMA**2
        error = value - read @ mean
        total += float(-0.5 * (math.log(2 * math.pi) + variance.log() + error**2 / variance))
        spread = spread + torch.outer(enter, enter)
        mean, spread = mean + cross / variance * error, spread - torch.outer(cross, cross) / variance
    return total


def log_likelihood(w, x, z):
    """log p(x | z) of draws [k, l]."""
    error = x - z @ w.T
    return (-0.5 * (error / SIGMA).square() - math.log(SIGMA) - 0.5 * math.log(2 * math.pi)).sum(-1)


def best_mean_field(precision, mean):
    return Gaussian(mean, -precision.diagonal().log())


def bound(w, x, posterior):
    """The bound in closed form: E log p(x | z) − KL."""
    inside = log_likelihood(w, x, posterior.mean) - 0.5 * (w.square() @ posterior.log_variance.exp()).sum() / SIGMA**2
    return float(inside - kl_divergence(posterior).sum())


def test_kalmans_likelihood_is_that_of_the_whole_normal_law(problem):
    layer, w, x, *_ = problem
    law = MultivariateNormal(torch.zeros(LENGTH).double(), w @ w.T + SIGMA**2 * torch.eye(LENGTH).double())
    assert kalman(layer, x) == pytest.approx(float(law.log_prob(x)), abs=1e-9)


def test_the_best_mean_field_bound_falls_short_by_the_gap_that_is_computed(problem):
    layer, w, x, precision, mean = problem
    gap = float(0.5 * (precision.diagonal().log().sum() - torch.logdet(precision)))
    assert gap > 1  # nats of 24 steps: mean field is far from free where a latent is heard for long
    assert bound(w, x, best_mean_field(precision, mean)) == pytest.approx(kalman(layer, x) - gap, abs=1e-9)


def test_a_posterior_that_is_learnt_comes_to_the_same_gap(problem):
    layer, w, x, precision, mean = problem
    free = torch.zeros(2, LENGTH, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([free], lr=1, max_iter=400, line_search_fn="strong_wolfe", tolerance_change=1e-14)

    def closure():
        optimizer.zero_grad()
        spread = free[1].exp()
        inside = log_likelihood(w, x, free[0]) - 0.5 * (w.square() @ spread).sum() / SIGMA**2
        loss = kl_divergence(Gaussian(free[0], free[1])).sum() - inside
        loss.backward()
        return loss

    optimizer.step(closure)
    best = bound(w, x, best_mean_field(precision, mean))
    assert bound(w, x, Gaussian(*free.detach())) == pytest.approx(best, abs=1e-6)
    assert best < kalman(layer, x)


def test_of_the_matched_family_the_gap_is_none_for_every_draw(problem):
    """With the full covariance, log p(x, z) − log q(z) is log p(x) whatever z is drawn: the variance is 0 too."""
    layer, w, x, precision, mean = problem
    posterior = MultivariateNormal(mean, precision_matrix=precision)
    z = posterior.sample((8,))
    prior = (-0.5 * z.square() - 0.5 * math.log(2 * math.pi)).sum(-1)
    each = log_likelihood(w, x, z) + prior - posterior.log_prob(z)
    torch.testing.assert_close(each, torch.full_like(each, kalman(layer, x)), rtol=0, atol=1e-9)


def test_more_draws_come_nearer_from_below(problem):
    layer, w, x, precision, mean = problem
    posterior = best_mean_field(precision, mean)
    noise = torch.randn(64 * 400, LENGTH, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    z = posterior.draw(noise)
    weights = log_likelihood(w, x, z) + log_ratio(posterior, z).sum(-1)
    exact = kalman(layer, x)
    means = {k: float(importance_bound(weights.unflatten(0, (k, -1))).mean()) for k in (1, 4, 16, 64)}
    assert means[1] == pytest.approx(bound(w, x, posterior), abs=0.1)  # 25,600 draws: a standard error of 0.02
    assert means[1] < means[4] < means[16] < means[64] < exact + 0.05
    assert exact - means[64] < 0.5 * (exact - means[1])


def test_one_draw_is_its_own_weight():
    weights = torch.randn(1, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(importance_bound(weights), weights[0])
    even = torch.full((7, 2), -3.0)
    torch.testing.assert_close(importance_bound(even), even[0])
