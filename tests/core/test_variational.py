"""Gaussian latents: divergences against torch's and by sampling, draws, and free bits."""

import pytest
import torch
from torch.distributions import Normal
from torch.distributions import kl_divergence as peer
from unisono.nn.variational import Gaussian, GaussianHead, gaussian_noise, kl_divergence, mean_divergence


def gaussian(seed: int, *shape: int) -> Gaussian:
    g = torch.Generator().manual_seed(seed)
    return Gaussian(*(torch.randn(*shape, generator=g, dtype=torch.float64) for _ in range(2)))


def normal(law: Gaussian) -> Normal:
    return Normal(law.mean, (law.log_variance / 2).exp())


def test_the_divergence_is_torchs():
    one, other = gaussian(0, 3, 4), gaussian(1, 3, 4)
    torch.testing.assert_close(kl_divergence(one, other), peer(normal(one), normal(other)))
    torch.testing.assert_close(kl_divergence(one), peer(normal(one), Normal(0.0, 1.0)))
    assert kl_divergence(one, one).abs().max() < 1e-12 and (kl_divergence(one, other) > 0).all()


def test_draws_have_the_mean_and_the_deviation_times_temperature():
    law = Gaussian(torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0]))
    noise = torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(law.draw(noise, 0.0), law.mean.expand_as(noise))
    drawn = law.draw(noise, 0.5)
    # Standard errors are a five-hundredth of the deviation.
    torch.testing.assert_close(drawn.mean(0), law.mean, atol=0.01, rtol=0)
    torch.testing.assert_close(drawn.std(0), 0.5 * (law.log_variance / 2).exp(), rtol=0.01, atol=0)


def test_gradients_reach_mean_and_deviation():
    mean, log_variance = torch.zeros(5, requires_grad=True), torch.zeros(5, requires_grad=True)
    Gaussian(mean, log_variance).draw(torch.full((5,), 3.0)).sum().backward()
    assert torch.equal(mean.grad, torch.ones(5)) and torch.equal(log_variance.grad, torch.full((5,), 1.5))


def test_a_head_begins_near_the_prior_and_is_bounded():
    head = GaussianHead(16, 4)
    law = head(torch.randn(64, 16))
    assert law.log_variance.abs().max() < 0.5 and kl_divergence(law).mean() < 0.5
    extreme = head(1e6 * torch.randn(64, 16))
    assert extreme.log_variance.max() == 6 and extreme.log_variance.min() == -10


def test_the_mean_divergence_is_over_what_is_kept():
    divergence = kl_divergence(gaussian(0, 2, 5, 3))
    mask = torch.arange(5) < torch.tensor([[5], [2]])
    rows = torch.cat([divergence[0], divergence[1, :2]])
    torch.testing.assert_close(mean_divergence(divergence, mask), rows.mean(0).sum())
    divergence = divergence.where(mask[..., None], 1e6)
    torch.testing.assert_close(mean_divergence(divergence, mask), rows.mean(0).sum())


def test_free_nats_are_not_paid_for():
    values = torch.tensor([[0.1, 0.9], [0.3, 1.1]], requires_grad=True)
    total = mean_divergence(values, torch.ones(2, dtype=torch.bool), free_nats=0.5)
    total.backward()
    assert float(total.detach()) == pytest.approx(0.5 + 1.0)
    assert values.grad.tolist() == [[0.0, 0.5], [0.0, 0.5]]


def test_noise_is_of_the_item_alone():
    together = gaussian_noise([7, 8], [(4, 2), (2, 2)], torch.zeros(2, 4, 2))
    alone = gaussian_noise([8], [(2, 2)], torch.zeros(1, 2, 2))
    assert torch.equal(together[1, :2], alone[0]) and together[1, 2:].abs().sum() == 0
    assert not torch.equal(together[0, :2], together[1, :2])
