"""Gradients through the fixed point against autograd through the serial chain, in float64."""

import pytest
import torch
from chains import TreeChain, apart, gen, noise, scheduler_of, serial_loop
from refused import refused
from torch import nn
from unisono.diffusion import Exact, SchedulerRecurrence, Tolerance, differentiable
from unisono.errors import UnisonoError

STEPS, SHAPE = 9, (2, 3, 3)


def small_network():
    torch.manual_seed(0)
    conv = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 2, 3, padding=1)).double()
    return conv, lambda x, t, sample: 0.3 * x + conv(x) * (1 + t.double() / 1000)[:, None, None, None]


def loss_of(sample):
    weight = torch.linspace(-1, 1, sample.numel(), dtype=torch.float64).reshape(sample.shape)
    return (sample * weight).sum() + sample.square().mean()


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng():
        yield


@pytest.mark.parametrize("name", ["ddim", "dpm++2m", "euler", "flow", "heun", "ddpm"])
def test_implicit_gradients_are_those_of_the_chain(name):
    conv, network = small_network()
    x = noise(SHAPE, None, batch=2).requires_grad_()
    want_value = serial_loop(scheduler_of(name, STEPS), network, x, [gen(1), gen(2)])[-1]
    want = torch.autograd.grad(loss_of(want_value), [x, *conv.parameters()])
    chain = SchedulerRecurrence(scheduler_of(name, STEPS), network, generator=[gen(1), gen(2)])
    sample, report = differentiable(chain, x, accept=Tolerance(1e-12), tolerance=1e-12)
    assert apart(sample, want_value) < 1e-9
    got = torch.autograd.grad(loss_of(sample), [x, *conv.parameters()])
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)
    assert report.rounds <= chain.num_steps


def test_the_one_step_gradient_is_that_of_the_last_replay():
    """Its own definition, written out: outputs at fixed states, held as v, replayed by the scheduler."""
    conv, network = small_network()
    x = noise(SHAPE, None).requires_grad_()
    states = [s.detach() for s in serial_loop(scheduler_of("ddim", STEPS), network, x)]
    scheduler = scheduler_of("ddim", STEPS)
    y = x
    for state, t in zip(states, scheduler.timesteps, strict=False):
        given = x if state is states[0] else state
        level = scheduler.alphas_cumprod[t].double()
        output = network(given, t[None], torch.tensor([0])) + (1 - level).sqrt() * (y - given)
        y = scheduler.step(output, t, y, return_dict=False)[0]
    want = torch.autograd.grad(loss_of(y), [x, *conv.parameters()])
    chain = SchedulerRecurrence(scheduler_of("ddim", STEPS), network)
    sample, _ = differentiable(chain, x, "one-step", accept=Exact())
    got = torch.autograd.grad(loss_of(sample), [x, *conv.parameters()])
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-9)
    exact = torch.autograd.grad(loss_of(serial_loop(scheduler_of("ddim", STEPS), network, x)[-1]), [x])[0]
    assert 1e-4 < apart(got[0], exact) < 1  # biased, and not useless


def test_gradients_pass_trees():
    chain, g = TreeChain(6), gen()
    x = {key: torch.randn(2, n, generator=g, dtype=torch.float64).requires_grad_() for key, n in (("a", 2), ("b", 3))}
    y = x
    for i in range(6):
        y = chain.advance(chain.evaluate(y, torch.full((2,), i), torch.arange(2)), i, y)
    want = torch.autograd.grad(loss_of(y["a"]) + loss_of(y["b"]), list(x.values()))
    sample, _ = differentiable(chain, x, accept=Tolerance(1e-13), tolerance=1e-13)
    got = torch.autograd.grad(loss_of(sample["a"]) + loss_of(sample["b"]), list(x.values()))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_a_start_can_be_optimised_through_the_sampler():
    """DeqIR's use: move x_0 until the sample meets a measurement."""
    _, network = small_network()
    x = noise(SHAPE, None).requires_grad_()
    losses = []
    for _ in range(4):
        sample, _ = differentiable(SchedulerRecurrence(scheduler_of("ddim", STEPS), network), x, accept=Tolerance(1e-3))
        loss = (sample[:, :1] - 0.5).square().mean()
        losses.append(loss.item())
        (gradient,) = torch.autograd.grad(loss, [x])
        x = (x - 0.5 * gradient * loss / gradient.square().sum()).detach().requires_grad_()
    assert losses[-1] < 0.6 * losses[0]


def test_wrong_arguments():
    with refused(UnisonoError, "unknown", "gradient", value="implict", names="'implicit'"):
        differentiable(TreeChain(), torch.zeros(1, 2), "implict")
    with refused(UnisonoError, "range", "tolerance", value=0):
        differentiable(TreeChain(), torch.zeros(1, 2), tolerance=0)
