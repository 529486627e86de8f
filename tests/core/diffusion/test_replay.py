"""Any scheduler in parallel: bit-equal to diffusers' own loop where a network gives a row one answer in any batch."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from chains import SCHEDULERS, Counted, apart, gen, noise, oracle_chain, scheduler_of, serial_loop
from diffusers import DDIMScheduler
from refused import refused
from unisono.diffusion import Exact, Levels, Picard, SchedulerRecurrence, Serial, Tolerance, levels_of, solve
from unisono.errors import UnisonoError
from unisono.testing.oracles import ImageMixture, Mixture, RowByRow

SHAPE = (2, 4, 4)
IMAGES = ImageMixture(SHAPE, num_modes=4)
STEPS = 12


def edm_network(oracle):
    """What EDM's schedulers expect: the raw output whose combination with the input is the denoised sample."""

    def network(x, t, sample):
        sigma = (t.to(x) * 4).exp()[:, None, None, None]
        half = 0.5
        x0 = oracle.x0(x * (sigma**2 + half**2).sqrt(), torch.ones(len(x)), sigma.flatten())
        skip = half**2 / (sigma**2 + half**2)
        return (x0 - skip * x * (sigma**2 + half**2).sqrt()) / (sigma * half / (sigma**2 + half**2).sqrt())

    return network


def network_for(name, steps=STEPS):
    if name.startswith("edm"):
        return RowByRow(edm_network(IMAGES))
    return RowByRow(IMAGES.network(scheduler_of(name, steps)))


def test_there_are_as_many_schedulers_as_promised():
    assert len({kind for kind, _ in SCHEDULERS.values()}) >= 19
    assert len(SCHEDULERS) == 23


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_is_bit_equal_to_its_own_loop(name):
    network = network_for(name)
    x = noise(SHAPE, scheduler_of(name, STEPS), dtype=torch.float32)
    used = gen()
    with torch.no_grad():
        states = serial_loop(scheduler_of(name, STEPS), network, x, used)
    chain = SchedulerRecurrence(scheduler_of(name, STEPS), network, generator=[gen()])
    assert chain.num_steps == len(states) - 1
    mine = gen()
    chain = SchedulerRecurrence(scheduler_of(name, STEPS), network, generator=[mine])
    solution = solve(chain, x, Picard(), Exact(), trajectory=True)
    assert torch.equal(solution.sample, states[-1])
    for got, want in zip(solution.states, states, strict=True):
        assert torch.equal(got, want)
    assert solution.report.rounds <= chain.num_steps
    assert torch.equal(mine.get_state(), used.get_state())  # and the generator ends where the loop leaves it


@pytest.mark.parametrize("name", ["ddim", "dpm++2m", "euler", "flow", "unipc"])
def test_a_window_of_one_is_the_serial_loop_to_the_bit(name):
    network = IMAGES.network(scheduler_of(name, STEPS))
    x = noise(SHAPE, scheduler_of(name, STEPS))
    want = serial_loop(scheduler_of(name, STEPS), network, x)[-1]
    for arguments in ({"solver": Serial()}, {"solver": Picard(), "window": 1}):
        counted = Counted(network)
        chain = SchedulerRecurrence(scheduler_of(name, STEPS), counted)
        done = solve(chain, x, accept=Tolerance(1e-2), **arguments)
        assert torch.equal(done.sample, want)
        assert (counted.calls, counted.rows) == (done.report.rounds, done.report.rows) == (STEPS, STEPS)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("hold", ["v", "x0", "eps", "output"])
def test_every_quantity_can_be_held_of_every_prediction(prediction, hold):
    made = [scheduler_of("ddim", 20, prediction_type=prediction) for _ in range(3)]
    network = IMAGES.network(made[0])
    x = noise(SHAPE, made[0])
    want = serial_loop(made[1], network, x)[-1]
    done = solve(SchedulerRecurrence(made[2], network), x, Picard(hold), Tolerance(1e-4))
    assert apart(done.sample, want) < 1e-2
    assert done.report.rounds <= 20


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "flow"])
@pytest.mark.parametrize("quantity", ["v", "x0", "eps"])
def test_what_is_held_stays(prediction, quantity):
    """Read the quantity back out of the re-expressed output, at the same step and at another one."""
    if prediction == "flow":
        levels = Levels((0.4, 0.7), (0.6, 0.3), "flow")
    else:
        levels = Levels((0.6, 0.8), (0.8, 0.6), prediction)
    g = gen()
    old, shift, output = (torch.randn(3, 5, generator=g, dtype=torch.float64) for _ in range(3))

    def read(output, i, x):
        a, s = levels.alpha[i], levels.sigma[i]
        x0, eps = {
            "eps": lambda: ((x - s * output) / a, output),
            "x0": lambda: (output, (x - a * output) / s),
            "v": lambda: (a * x - s * output, s * x + a * output),
            "flow": lambda: (x - s * output, x + a * output),
        }[prediction]()
        return {"x0": x0, "eps": eps, "v": output if prediction == "flow" else a * eps - s * x0}[quantity]

    held = levels.hold(output, 0, old, shift, quantity, 0)
    torch.testing.assert_close(read(held, 0, old + shift), read(output, 0, old))
    assert torch.equal(levels.hold(output, 0, old, torch.zeros_like(old), quantity, 0), output)
    if quantity != "v":
        moved = levels.hold(output, 0, old, shift, quantity, 1)
        torch.testing.assert_close(read(moved, 1, old + shift), read(output, 0, old))


def test_levels_are_the_schedulers():
    scheduler = scheduler_of("ddim", 10)
    levels = levels_of(scheduler)
    alpha = scheduler.alphas_cumprod[scheduler.timesteps].double()
    torch.testing.assert_close(torch.tensor(levels.alpha, dtype=torch.float64), alpha.sqrt(), rtol=1e-6, atol=0)
    assert levels.prediction == "eps"
    flow = levels_of(scheduler_of("flow", 10))
    assert flow.prediction == "flow" and flow.sigma[0] == 1.0
    assert levels_of(scheduler_of("edm-euler", 10)).prediction == "output"


def test_noise_is_replayed_from_each_samples_generator():
    x = noise(SHAPE, scheduler_of("ddpm", STEPS), batch=3, dtype=torch.float32)
    want = [serial_loop(scheduler_of("ddpm", STEPS), network_for("ddpm"), x[i : i + 1], gen(i))[-1] for i in range(3)]
    chain = SchedulerRecurrence(scheduler_of("ddpm", STEPS), network_for("ddpm"), generator=[gen(i) for i in range(3)])
    assert torch.equal(solve(chain, x, accept=Exact()).sample, torch.cat(want))


def test_one_generator_serves_a_batch_that_is_accepted_as_a_whole():
    x = noise(SHAPE, scheduler_of("ddpm", STEPS), batch=3, dtype=torch.float32)
    want = serial_loop(scheduler_of("ddpm", STEPS), network_for("ddpm"), x, gen())[-1]
    chain = SchedulerRecurrence(scheduler_of("ddpm", STEPS), network_for("ddpm"), generator=gen())
    assert torch.equal(solve(chain, x, accept=Exact(per_sample=False)).sample, want)
    with refused(UnisonoError, "conflict", "generator", value=1, names="DDPMScheduler"):
        solve(SchedulerRecurrence(scheduler_of("ddpm", STEPS), network_for("ddpm"), generator=gen()), x)


def test_noise_without_a_generator_is_refused():
    x = noise(SHAPE, scheduler_of("euler-a", STEPS), dtype=torch.float32)
    with refused(UnisonoError, "missing", "generator", names="EulerAncestralDiscreteScheduler"):
        solve(SchedulerRecurrence(scheduler_of("euler-a", STEPS), network_for("euler-a")), x)
    chain = SchedulerRecurrence(scheduler_of("euler-a", STEPS), network_for("euler-a"), generator=[gen()])
    with refused(UnisonoError, "shape", "generator", value=1, names="2 or more"):
        solve(chain, torch.cat([x, x]))


def test_nothing_reads_or_moves_the_global_seed():
    chain = oracle_chain(IMAGES, "ddpm", STEPS)
    x = noise(SHAPE, scheduler_of("ddpm", STEPS))
    before = torch.get_rng_state()
    one = solve(chain, x).sample
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1234)
    assert torch.equal(solve(oracle_chain(IMAGES, "ddpm", STEPS), x).sample, one)


def test_the_scheduler_that_is_given_is_left_as_it_was():
    scheduler = scheduler_of("dpm++2m", STEPS)
    before = {k: v for k, v in vars(scheduler).items() if not isinstance(v, torch.Tensor)}
    solve(SchedulerRecurrence(scheduler, network_for("dpm++2m")), noise(SHAPE, scheduler))
    assert {k: v for k, v in vars(scheduler).items() if not isinstance(v, torch.Tensor)} == before


def test_image_to_image_begins_later():
    scheduler = scheduler_of("euler", 20)
    network = RowByRow(IMAGES.network(scheduler))
    x = noise(SHAPE, scheduler) * 0.2
    late = scheduler_of("euler", 20)
    late.set_begin_index(8)
    y = x
    for t in late.timesteps[8:]:
        y = late.step(network(late.scale_model_input(y, t), t[None], torch.tensor([0])), t, y, return_dict=False)[0]
    chain = SchedulerRecurrence(scheduler, network, first=8)
    assert chain.num_steps == 12
    assert torch.equal(solve(chain, x, accept=Exact()).sample, y)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_chain_begins_anywhere_or_is_refused_by_name(name):
    """PNDM and LMS need their first steps; the second half of a two-stage step needs the first."""
    order = scheduler_of(name, STEPS).order
    total = len(scheduler_of(name, STEPS).timesteps)
    for first in (1, 2, 5, total - 3, total - 2):
        if name in ("pndm", "lms") or first % order:
            with refused(UnisonoError, "unsupported", "first", value=first, names=f"first={first}"):
                SchedulerRecurrence(scheduler_of(name, STEPS), network_for(name), generator=[gen()], first=first)
            continue
        chain = SchedulerRecurrence(scheduler_of(name, STEPS), network_for(name), generator=[gen()], first=first)
        assert chain.num_steps == total - first


def test_two_threads_solve_one_chain_as_one_after_the_other():
    x = noise(SHAPE, scheduler_of("ddpm", STEPS), dtype=torch.float32)

    def chain():
        return SchedulerRecurrence(scheduler_of("ddpm", STEPS), network_for("ddpm"), generator=[gen()])

    one = chain()
    want = {solve(one, x, Serial()).sample.sum().item() for _ in range(4)}
    assert len(want) == 4  # the generator goes on
    shared = chain()
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: solve(shared, x, Serial()).sample.sum().item(), range(4)))
    assert set(made) == want


def test_a_chain_in_use_is_refused_within_its_own_run():
    chain = oracle_chain(IMAGES, "ddim", STEPS)
    x = noise(SHAPE, scheduler_of("ddim", STEPS))
    with refused(UnisonoError, "state", "chain"):
        solve(chain, x, on_round=lambda _: solve(chain, x))
    solve(chain, x)  # and is free again afterwards


def test_a_hook_after_each_step_keeps_data_consistent():
    """Inpainting by replacement: known pixels are put back after each step; parallel = serial."""
    known = torch.zeros(SHAPE, dtype=torch.bool)
    known[:, :2] = True
    seen = []

    def put_back(x, i, sample):
        seen.append(sample.tolist())
        return torch.where(known, torch.full_like(x, 0.25), x)

    scheduler = scheduler_of("dpm++2m", STEPS)
    network = network_for("dpm++2m")
    x = y = noise(SHAPE, scheduler)
    for i, t in enumerate(scheduler.timesteps):
        output = network(y, t[None], torch.tensor([0]))
        y = put_back(scheduler.step(output, t, y, return_dict=False)[0], i, torch.tensor([0]))
    chain = SchedulerRecurrence(scheduler_of("dpm++2m", STEPS), network, post_step=put_back)
    done = solve(chain, x, accept=Exact()).sample
    assert torch.equal(done, y) and (done[:, known] == 0.25).all()
    assert seen[-1] == [0]


def test_states_of_several_tensors_have_a_scheduler_each():
    """Two coupled diffusions in step, as in blind deconvolution: each tensor has the scheduler's history of its own."""
    base = Mixture((1, 2, 2), 3)
    inner = base.network(scheduler_of("dpm++2m", STEPS))

    def network(x, t, sample):
        image, kernel = inner(x["image"], t, sample), inner(x["kernel"], t, sample)
        return {"image": image + 0.1 * x["kernel"], "kernel": kernel - 0.1 * x["image"]}

    network = RowByRow(network)
    x = {"image": noise((1, 2, 2), None, 1), "kernel": noise((1, 2, 2), None, 9)}
    both = {key: scheduler_of("dpm++2m", STEPS) for key in x}
    y = dict(x)
    for t in both["image"].timesteps:
        out = network(y, t[None], torch.tensor([0]))
        y = {key: both[key].step(out[key], t, y[key], return_dict=False)[0] for key in y}
    done = solve(SchedulerRecurrence(scheduler_of("dpm++2m", STEPS), network), x, accept=Exact()).sample
    assert torch.equal(done["image"], y["image"]) and torch.equal(done["kernel"], y["kernel"])


def test_predicted_variances_ride_along():
    scheduler = scheduler_of("ddpm", STEPS, variance_type="learned_range")
    mean = IMAGES.network(scheduler)

    def network(x, t, sample):
        return torch.cat([mean(x, t, sample), torch.tanh(x)], 1)

    network = RowByRow(network)
    x = noise(SHAPE, scheduler)
    want = serial_loop(scheduler_of("ddpm", STEPS, variance_type="learned_range"), network, x, gen())[-1]
    done = solve(SchedulerRecurrence(scheduler, network, generator=[gen()]), x, accept=Exact())
    assert torch.equal(done.sample, want)


def test_arguments_of_step_are_handed_on():
    network = network_for("ddim")
    x = noise(SHAPE, scheduler_of("ddim", STEPS), dtype=torch.float32)
    want = serial_loop(scheduler_of("ddim", STEPS), network, x, gen(), eta=0.5)[-1]
    chain = SchedulerRecurrence(scheduler_of("ddim", STEPS), network, generator=[gen()], step_kwargs={"eta": 0.5})
    assert torch.equal(solve(chain, x, accept=Exact()).sample, want)
    with refused(UnisonoError, "unknown", "step_kwargs.etta", value=0.5, names=["DDIMScheduler", "etta"]):
        SchedulerRecurrence(scheduler_of("ddim", STEPS), network, step_kwargs={"etta": 0.5})


class Keeping(DDIMScheduler):
    """A scheduler with state that nobody can copy, or that it writes in place."""

    def __init__(self, kept=None, table=None, **config):
        super().__init__(**config)
        self.kept, self.table = kept, table

    def step(self, *args, **kwargs):
        if self.table is not None:
            self.table += 1
        return super().step(*args, **kwargs)


def test_unknown_state_is_named():
    scheduler = Keeping(kept=iter([1]))
    scheduler.set_timesteps(8)
    with refused(UnisonoError, "unsupported", "Keeping.kept", value="list_iterator"):
        SchedulerRecurrence(scheduler, network_for("ddim"))


def test_a_table_that_is_written_in_place_is_named():
    scheduler = Keeping(table=torch.zeros(3))
    scheduler.set_timesteps(8)
    chain = SchedulerRecurrence(scheduler, network_for("ddim"))
    with refused(UnisonoError, "unsupported", "scheduler.table"):
        solve(chain, noise(SHAPE, scheduler))


def test_what_is_no_chain_yet_is_refused():
    with refused(UnisonoError, "state", "scheduler.timesteps", names="DDIMScheduler"):
        SchedulerRecurrence(DDIMScheduler(), network_for("ddim"))
    used = scheduler_of("euler", 4)
    serial_loop(used, network_for("euler", 4), noise(SHAPE, used))
    with refused(UnisonoError, "state", "scheduler", names="EulerDiscreteScheduler"):
        SchedulerRecurrence(used, network_for("euler"))
    with refused(UnisonoError, "range", "first", value=8, names="of 8"):
        SchedulerRecurrence(scheduler_of("ddim", 8), network_for("ddim"), first=8)


def test_unknown_quantities_are_refused():
    with refused(UnisonoError, "unknown", "hold", value="x_0", names="x0"):
        Picard("x_0")
    chain = SchedulerRecurrence(scheduler_of("edm-euler", STEPS), RowByRow(edm_network(IMAGES)))
    with refused(UnisonoError, "unsupported", "hold", value="x0", names="x0"):
        solve(chain, noise(SHAPE, scheduler_of("edm-euler", STEPS)), Picard("x0"))


def test_a_step_without_history_says_so():
    assert oracle_chain(IMAGES, "ddim", 8).history() == ()
    assert oracle_chain(IMAGES, "flow", 8).history() == ()
    assert oracle_chain(IMAGES, "euler", 8).history() == ()
    assert "model_outputs" in oracle_chain(IMAGES, "dpm++2m", 8).history()
    assert oracle_chain(IMAGES, "heun", 8).history()
