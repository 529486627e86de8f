"""Fast paths against the schedulers' own steps, and diffusers' two bugs in its own parallel schedulers."""

import pytest
import torch
from refused import refused
from unisono.diffusion import Picard, SchedulerRecurrence, Serial, Tolerance, solve
from unisono.diffusion.chain.fast import FastRecurrence, NoTableError, Table, fastest
from unisono.errors import UnisonoError
from unisono.testing.oracles import ImageMixture

diffusers = pytest.importorskip("diffusers")

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
STEPS = 12
SHAPE = (2, 8, 8)


def ddim(**more):
    return diffusers.DDIMScheduler(**{**BETAS, "clip_sample": False, "set_alpha_to_one": False, **more})


def dpm(**more):
    return diffusers.DPMSolverMultistepScheduler(**{**BETAS, **more})


def flow(**more):
    return diffusers.FlowMatchEulerDiscreteScheduler(**more)


CASES = {
    "ddim": lambda: ddim(),
    "ddim, final alpha one": lambda: ddim(set_alpha_to_one=True),
    "ddim, trailing": lambda: ddim(timestep_spacing="trailing"),
    "ddim, linspace": lambda: ddim(timestep_spacing="linspace"),
    "ddim, v": lambda: ddim(prediction_type="v_prediction"),
    "ddim, x0": lambda: ddim(prediction_type="sample"),
    "ddim, v, zero terminal": lambda: ddim(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
    ),
    "dpm++": lambda: dpm(),
    "dpm++, first order": lambda: dpm(solver_order=1),
    "dpm++, heun": lambda: dpm(solver_type="heun"),
    "dpm++, karras": lambda: dpm(use_karras_sigmas=True),
    "dpm++, euler at final": lambda: dpm(euler_at_final=True),
    "dpm++, sigma_min": lambda: dpm(final_sigmas_type="sigma_min"),
    "dpm++, v": lambda: dpm(prediction_type="v_prediction"),
    "dpm++, flow": lambda: dpm(prediction_type="flow_prediction", use_flow_sigmas=True),
    "flow": lambda: flow(),
    "flow, shift": lambda: flow(shift=3.0),
}


def noise(seed, dtype=torch.float32):
    return torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(seed)).to(dtype)


def linear(x, t, sample):
    """A network that is cheap, smooth and far from constant."""
    return torch.tanh(x) + 0.1 * (t.to(x) / 1000).sin().reshape(-1, *[1] * (x.ndim - 1))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("steps", [STEPS, 20])
def test_a_whole_chain_equals_replay(case, steps):
    """A float32 chain of 20 steps: 1e-5 each, and the network's slope is about one."""
    scheduler = CASES[case]()
    scheduler.set_timesteps(steps)
    own = solve(SchedulerRecurrence(scheduler, linear), noise(1), Serial()).sample
    fast = solve(FastRecurrence(scheduler, linear), noise(1), Serial()).sample
    assert (own - fast).norm() <= 2e-5 * own.norm()


def test_the_battery():
    assert len(CASES) == 17


@pytest.mark.parametrize("case", ["ddim", "dpm++", "flow, shift"])
def test_in_parallel_it_takes_the_rounds_of_replay(case):
    scheduler = CASES[case]()
    scheduler.set_timesteps(20)
    network = ImageMixture(SHAPE).network(scheduler)
    rule = {"solver": Picard(), "accept": Tolerance(1e-3), "window": 4}
    own = solve(SchedulerRecurrence(scheduler, network), noise(2), **rule)
    fast = solve(FastRecurrence(scheduler, network), noise(2), **rule)
    assert fast.report.rounds_of == own.report.rounds_of and fast.report.rounds < 20
    assert (own.sample - fast.sample).norm() <= 1e-4 * own.sample.norm()


@pytest.mark.parametrize("case", ["ddim", "dpm++", "flow"])
def test_image_to_image_starts_later(case):
    scheduler = CASES[case]()
    scheduler.set_timesteps(STEPS)
    own = solve(SchedulerRecurrence(scheduler, linear, first=4), noise(1), Serial()).sample
    fast = FastRecurrence(scheduler, linear, first=4)
    assert fast.num_steps == STEPS - 4
    assert (own - solve(fast, noise(1), Serial()).sample).norm() <= 2e-5 * own.norm()


@pytest.mark.parametrize("case", ["ddim", "dpm++", "flow"])
def test_half_precision_is_kept(case):
    """Two bfloat16 chains round differently; 8 bits, 12 steps."""
    scheduler = CASES[case]()
    scheduler.set_timesteps(STEPS)
    x = noise(1, torch.bfloat16)
    own = solve(SchedulerRecurrence(scheduler, linear), x, Serial()).sample
    fast = solve(FastRecurrence(scheduler, linear), x, Serial()).sample
    assert fast.dtype == own.dtype == torch.bfloat16
    assert (own.float() - fast.float()).norm() <= 0.03 * own.float().norm()


def test_post_steps_and_trees():
    scheduler = dpm()
    scheduler.set_timesteps(STEPS)

    def network(x, t, sample):
        return {"a": linear(x["a"], t, sample), "b": linear(x["b"], t, sample) + x["a"].mean()}

    def halve(x, i, sample):
        return {k: v * 0.9 for k, v in x.items()}

    x = {"a": noise(1)[:1], "b": noise(2)[:1]}
    own = solve(SchedulerRecurrence(scheduler, network, post_step=halve), x, Serial()).sample
    fast = solve(FastRecurrence(scheduler, network, post_step=halve), x, Serial()).sample
    for key in x:
        assert (own[key] - fast[key]).norm() <= 2e-5 * own[key].norm()


@pytest.mark.parametrize(
    ("scheduler", "path", "value"),
    [
        (lambda: diffusers.UniPCMultistepScheduler(**BETAS), "scheduler", "UniPCMultistepScheduler"),
        (lambda: ddim(clip_sample=True), "clip_sample", True),
        (lambda: dpm(solver_order=3), "solver_order", 3),
        (lambda: dpm(algorithm_type="sde-dpmsolver++"), "algorithm_type", "sde-dpmsolver++"),
        (lambda: dpm(variance_type="learned"), "variance_type", "learned"),
        (lambda: flow(stochastic_sampling=True), "stochastic_sampling", True),
        (lambda: ddim(rescale_betas_zero_snr=True, timestep_spacing="trailing"), "prediction_type", "epsilon"),
    ],
)
def test_what_has_no_table_is_named_and_replayed(scheduler, path, value):
    scheduler = scheduler()
    scheduler.set_timesteps(STEPS)
    with refused(NoTableError, "unsupported", path, value=value, names="SchedulerRecurrence"):
        FastRecurrence(scheduler, linear)
    assert isinstance(fastest(scheduler, linear), SchedulerRecurrence)


def test_fastest_says_which_it_is():
    scheduler = ddim()
    with refused(UnisonoError, "state", "scheduler.timesteps"):
        fastest(scheduler, linear)
    scheduler.set_timesteps(STEPS)
    assert fastest(scheduler, linear).name == "DDIMScheduler (fast)"
    assert fastest(scheduler, linear, step_kwargs={"eta": 0.5}).name == "DDIMScheduler"


def test_a_table_that_is_wrong_is_found_when_it_is_made(monkeypatch):
    from unisono.diffusion.chain import fast

    true = fast.table_of

    def wrong(scheduler, first):
        table = true(scheduler, first)
        return Table(table.p, table.q, table.r, (*table.u[:5], table.u[5] * 1.001, *table.u[6:]), table.v)

    monkeypatch.setattr(fast, "table_of", wrong)
    scheduler = ddim()
    scheduler.set_timesteps(STEPS)
    with refused(NoTableError, "unsupported", "scheduler", names=["step 5", "1e-05"]):
        FastRecurrence(scheduler, linear)


def test_our_last_ddim_step_has_the_schedulers_final_alpha():
    """diffusers' DDIMParallelScheduler takes 1 for it, whatever set_alpha_to_one says."""
    config = {**BETAS, "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
    serial, theirs = diffusers.DDIMScheduler(**config), diffusers.DDIMParallelScheduler(**config)
    for scheduler in (serial, theirs):
        scheduler.set_timesteps(50)
    x, output, t = noise(1), noise(2), serial.timesteps[-1:]
    right = serial.step(output, t[0], x, return_dict=False)[0]
    for kind in (SchedulerRecurrence, FastRecurrence):
        chain = kind(serial, lambda x, t, sample: output[sample], first=49)
        ours = solve(chain, x, Serial()).sample
        assert (ours - right).norm() <= 1e-5 * right.norm()
    batched = theirs.batch_step_no_noise(output, t.expand(2), x)
    if (batched - right).norm() <= 1e-5 * right.norm():
        pytest.skip("diffusers has mended DDIMParallelScheduler's final alpha")
    assert (batched - right).norm() > 5e-3 * right.norm()


@pytest.mark.parametrize(("spacing", "steps"), [("trailing", 30), ("linspace", 50)])
def test_our_ddpm_steps_go_to_the_schedulers_previous_timestep(spacing, steps):
    """diffusers' DDPMParallelScheduler takes t − 1000//N, which such spacings do not step by.

    With a predicted mean of zero variance (the noise is taken off both), serial and batched step must agree.
    """
    config = {**BETAS, "clip_sample": False, "timestep_spacing": spacing}
    serial, theirs = diffusers.DDPMScheduler(**config), diffusers.DDPMParallelScheduler(**config)
    for scheduler in (serial, theirs):
        scheduler.set_timesteps(steps)
    x, output = noise(1)[:1], noise(2)[:1]
    wrong = 0
    for i, t in enumerate(serial.timesteps[:-1]):
        seeded = torch.Generator().manual_seed(i)
        right = serial.step(output, t, x, generator=seeded, return_dict=False)[0]
        seeded.manual_seed(i)
        chain = SchedulerRecurrence(serial, lambda x, t, sample: output, generator=[seeded], first=i)
        chain.restore(chain.begin(torch.zeros(1, dtype=torch.long)))
        assert torch.equal(chain.advance(output, 0, x), right)
        drawn = torch.randn(x.shape, generator=torch.Generator().manual_seed(i))
        mean = right - serial._get_variance(t) ** 0.5 * drawn
        batched = theirs.batch_step_no_noise(output, t[None], x)
        wrong += bool((batched - mean).norm() > 1e-5 * mean.norm())
    if not wrong:
        pytest.skip("diffusers has mended DDPMParallelScheduler's previous timestep")
    assert wrong >= 9
