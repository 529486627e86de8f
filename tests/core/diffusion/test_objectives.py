"""Objectives against closed forms: Gaussian data, whose best denoiser and least loss are known."""

import math

import pytest
import torch
from diffusers import DDPMScheduler
from refused import refused
from unisono.diffusion import EDM, Discrete, Flow, Noised, denoising_loss, forgotten
from unisono.diffusion.training.objectives import betas_of
from unisono.errors import UnisonoError

STD = 0.7
"""Of the made data: one-dimensional, mean 0."""

N = 40_000


def drawn(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Data, noise and uniform numbers, in double precision."""
    g = torch.Generator().manual_seed(seed)
    x0, noise = (torch.randn(N, 1, generator=g, dtype=torch.float64) for _ in range(2))
    return STD * x0, noise, torch.rand(N, generator=g, dtype=torch.float64)


def kinds() -> list:
    discrete = [Discrete("squaredcos_cap_v2", prediction) for prediction in ("eps", "x0", "v")]
    return [Flow(), Flow(mean=0.5, std=0.0, shift=3.0), *discrete, EDM(sigma_data=STD)]


@pytest.mark.parametrize("objective", kinds(), ids=lambda o: f"{o.family}-{getattr(o, 'prediction', '')}")
def test_the_target_stands_for_the_data(objective):
    x0, noise, uniform = drawn()
    level = objective.level(uniform)
    noised = objective.corrupt(x0, noise, level)
    back = objective.x0(noised.x, noised.target, level)
    # Where next to no signal is left, rounding of the input is magnified by 1/α: at most 2·10⁴ in this table.
    torch.testing.assert_close(back, x0, rtol=0, atol=1e-9)
    assert noised.time.shape == noised.weight.shape == (N,)
    assert (noised.weight > 0).all()


def least(a: float, s: float, c0: float, c1: float) -> float:
    """The least mean squared error of c0·x0 + c1·ε, given a·x0 + s·ε: the variance that the input does not explain."""
    explained = (a * c0 * STD**2 + s * c1) ** 2 / (a**2 * STD**2 + s**2)
    return c0**2 * STD**2 + c1**2 - explained


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_flow_has_the_least_loss_of_gaussian_data(t):
    x0, noise, _ = drawn()
    noised = Flow().corrupt(x0, noise, torch.full((N,), t, dtype=torch.float64))
    wanted = least(1 - t, t, -1.0, 1.0)
    slope = (t - (1 - t) * STD**2) / ((1 - t) ** 2 * STD**2 + t**2)
    found = denoising_loss(slope * noised.x, noised).mean().item()
    assert found == pytest.approx(wanted, rel=4 * math.sqrt(2 / N))
    worse = denoising_loss(1.1 * slope * noised.x, noised).mean().item()
    assert slope < 0.05 or worse > found


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_discrete_has_the_least_loss_of_gaussian_data(prediction):
    objective = Discrete("linear", prediction, gamma=None)
    step = 300
    x0, noise, _ = drawn()
    noised = objective.corrupt(x0, noise, torch.full((N,), float(step), dtype=torch.float64))
    a, s = math.sqrt(objective.table[step]), math.sqrt(1 - objective.table[step])
    c0, c1 = {"eps": (0.0, 1.0), "x0": (1.0, 0.0), "v": (-s, a)}[prediction]
    slope = (a * c0 * STD**2 + s * c1) / (a**2 * STD**2 + s**2)
    found = denoising_loss(slope * noised.x, noised).mean().item()
    assert found == pytest.approx(least(a, s, c0, c1), rel=4 * math.sqrt(2 / N))


@pytest.mark.parametrize("sigma", [0.01, 0.5, 20.0])
def test_edm_preconditioning_is_of_unit_variance(sigma):
    objective = EDM(sigma_data=STD)
    skip, out, scale, time = (v.item() for v in objective.scales(torch.tensor(sigma, dtype=torch.float64)))
    d = STD
    assert skip == pytest.approx(d**2 / (sigma**2 + d**2))
    assert out == pytest.approx(sigma * d / math.sqrt(sigma**2 + d**2))
    assert scale == pytest.approx(1 / math.sqrt(sigma**2 + d**2))
    assert time == pytest.approx(math.log(sigma) / 4)
    x0, noise, _ = drawn()
    noised = objective.corrupt(x0, noise, torch.full((N,), sigma, dtype=torch.float64))
    close = 4 * math.sqrt(2 / N)
    assert noised.x.var().item() == pytest.approx(1, rel=close)
    assert noised.target.var().item() == pytest.approx(1, rel=close)
    # Of Gaussian data with just this deviation, c_skip·x is already the best denoiser: F has nothing to add.
    assert (noised.x * noised.target).mean().item() == pytest.approx(0, abs=close)


def test_edm_is_what_diffusers_samplers_undo():
    from diffusers import EDMEulerScheduler

    objective = EDM(sigma_data=0.5)
    scheduler = EDMEulerScheduler(sigma_data=0.5)
    g = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(3, 2, generator=g) for _ in range(2))
    sigma = torch.tensor([2.0])
    noised = objective.corrupt(x0, noise, sigma.expand(3))
    x = x0 + 2 * noise
    torch.testing.assert_close(noised.x, scheduler.precondition_inputs(x, sigma))
    torch.testing.assert_close(noised.time[0], scheduler.precondition_noise(sigma)[0])
    torch.testing.assert_close(scheduler.precondition_outputs(x, noised.target, sigma), x0)


def test_min_snr_counts_x0_by_the_smaller_of_snr_and_gamma():
    steps = torch.arange(0, 1000, 37, dtype=torch.float64)
    table = Discrete("linear").table[steps.long()]
    snr = table / (1 - table)
    of_x0 = {"x0": torch.ones_like(snr), "eps": snr, "v": snr + 1}  # 1 / (what an error of the output is one of x0)
    assert (snr > 5).any() and (snr < 5).any()
    for prediction, factor in of_x0.items():
        weight = Discrete("linear", prediction, gamma=5.0).weight(steps)
        torch.testing.assert_close(weight * factor, snr.clamp(max=5.0))
        assert (Discrete("linear", prediction, gamma=None).weight(steps) == 1).all()


def test_times_are_logit_normal_and_shifted():
    uniform = (torch.arange(N, dtype=torch.float64) + 0.5) / N
    t = Flow(mean=0.4, std=1.3).level(uniform)
    logit = torch.logit(t)
    assert logit.mean().item() == pytest.approx(0.4, abs=1e-3)
    assert logit.std().item() == pytest.approx(1.3, abs=1e-2)
    torch.testing.assert_close(Flow(std=0.0).level(uniform), uniform)
    shifted = Flow(std=0.0, shift=3.0).level(torch.tensor([0.25, 0.5], dtype=torch.float64))
    torch.testing.assert_close(shifted, torch.tensor([0.5, 0.75], dtype=torch.float64))
    ends = Flow().level(torch.tensor([0.0, 1.0]))
    assert ((ends >= 0) & (ends <= 1)).all()


def test_steps_of_a_table_are_all_drawn():
    level = Discrete("linear").level((torch.arange(1000, dtype=torch.float64) + 0.5) / 1000)
    assert level.tolist() == list(range(1000))
    assert Discrete("linear").level(torch.ones(1)).item() == 999


def test_conditions_are_forgotten_by_share():
    uniform = torch.tensor([0.0, 0.05, 0.0999, 0.1, 0.7])
    assert forgotten(uniform, 0.1).tolist() == [True, True, True, False, False]
    assert not forgotten(uniform, 0.0).any() and forgotten(uniform, 1.0).all()


def noised_with(target, weight):
    b = len(target)
    return Noised(torch.zeros_like(target), torch.zeros(b), target, weight)


def test_a_loss_is_an_items_mean_times_its_weight():
    output = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [[1.0, 1.0], [1.0, 1.0], [1.0, 4.0]]])
    target = torch.tensor([[[1.0, 0.0], [3.0, 1.0], [4.0, 2.0]], [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]])
    # (0 + 4 + 0 + 9 + 1 + 16) / 6 · 0.5 and 9 / 6 · 2
    torch.testing.assert_close(
        denoising_loss(output, noised_with(target, torch.tensor([0.5, 2.0]))), torch.tensor([2.5, 3.0])
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_loss_is_taken_in_float32_or_wider(dtype):
    """bfloat16 has 8 bits: 1 − 0.01 would be 0.9883 or 0.9922 there, its square no better."""
    output = torch.ones(1, 300, dtype=dtype)
    loss = denoising_loss(output, noised_with(torch.full((1, 300), 0.01), torch.tensor([0.3])))
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert loss.item() == pytest.approx(0.3 * 0.99**2, rel=1e-6)


def test_betas_are_those_of_the_table():
    scheduler = DDPMScheduler(beta_schedule="scaled_linear", beta_end=0.03)
    objective = Discrete(scheduler)
    assert torch.equal(objective.betas, scheduler.betas.double())
    torch.testing.assert_close(betas_of(objective.table), objective.betas, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "code", "path", "value"),
    [
        (lambda: Flow(std=-1.0), "range", "std", -1.0),
        (lambda: Flow(shift=0.0), "range", "shift", 0.0),
        (lambda: EDM(sigma_data=0.0), "range", "sigma_data", 0.0),
        (lambda: EDM(std=-1.0), "range", "std", -1.0),
        (lambda: Discrete("linear", "noise"), "unknown", "prediction", "noise"),  # type: ignore[arg-type]
        (lambda: Discrete("linear", gamma=0.0), "range", "gamma", 0.0),
        (lambda: Discrete("cosine"), "unknown", "schedule", "cosine"),
        (lambda: Discrete(Flow()), "unsupported", "schedule", "Flow"),
        (lambda: forgotten(torch.zeros(1), 1.5), "range", "share", 1.5),
    ],
)
def test_what_makes_no_sense_is_refused(make, code, path, value):
    with refused(UnisonoError, code, path, value=value, names=str(value)):
        make()


def test_noise_levels_of_edm_are_log_normal_with_its_mean_and_deviation():
    """At the median, and one deviation above it: Φ(1) = 0.8413447."""
    sigma = EDM(mean=-0.4, std=0.7).level(torch.tensor([0.5, 0.8413447460685429], dtype=torch.float64))
    assert sigma.log().tolist() == pytest.approx([-0.4, 0.3], abs=1e-6)


def test_the_network_of_flow_matching_is_told_a_thousand_times_t():
    noised = Flow().corrupt(torch.zeros(2, 3), torch.ones(2, 3), torch.tensor([0.25, 1.0]))
    assert noised.time.tolist() == [250.0, 1000.0]
    assert torch.equal(noised.target, torch.ones(2, 3)) and noised.weight.tolist() == [1.0, 1.0]
