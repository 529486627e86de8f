"""Schedulers: an exact network, one that knows the picture, must give it back, from noise and from any start."""

import warnings

import diffusers
import pytest
import torch
from refused import refused
from unisono.diffusion import EDM, Discrete, Flow, SchedulerRecurrence, Serial, levels_of, solve
from unisono.diffusion.schedulers import (
    NAMES,
    PREDICTIONS,
    WHOLE_ONLY,
    first_step,
    make_scheduler,
    names_of,
    noise_shares,
    noised,
)
from unisono.errors import RequestError

TABLES = ("linear", "scaled_linear", "squaredcos_cap_v2")
PICTURE = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
STEPS = 25
CLOSE = 0.02
"""Of the range [-1, 1]; measured: up to 3e-3 where diffusers rounds a flow's times to whole thousandths."""

OBJECTIVES = {
    "flow": (Flow(), "linear"),
    "flow shifted": (Flow(shift=3.0), "linear"),
    "edm": (EDM(0.3), "linear"),
    **{f"{p} {table}": (Discrete(table, p), table) for p in ("eps", "x0", "v") for table in TABLES},
}
CASES = [(kind, name) for kind, (objective, _) in OBJECTIVES.items() for name in names_of(objective)]


def exact(objective):
    """The network whose answer is the objective's target for PICTURE, at any time between the table's too."""

    def network(x, time, sample):
        x, time = x.double(), time.double().reshape(-1, 1, 1, 1)
        x0 = PICTURE.double()
        if isinstance(objective, Flow):
            t = time / 1000
            return ((x - (1 - t) * x0) / t - x0).float()
        if isinstance(objective, EDM):
            skip, out, scale, _ = objective.scales((4 * time).exp())
            return ((x0 - skip * x / scale) / out).float()
        ratio = objective.table.log() - (1 - objective.table).log()
        low = time.floor().long().clamp(0, len(ratio) - 1)
        high = (low + 1).clamp_max(len(ratio) - 1)
        square = (ratio[low] + (time - low) * (ratio[high] - ratio[low])).sigmoid()
        a, s = square.sqrt(), (1 - square).sqrt()
        eps = (x - a * x0) / s
        return {"eps": eps, "x0": x0.expand_as(x), "v": a * eps - s * x0}[objective.prediction].float()

    return network


def given_back(objective, name, table, steps=STEPS, strength=None):
    """How far the picture is from what comes out, at most."""
    scheduler = make_scheduler(name, steps, objective, table, False)
    g = torch.Generator().manual_seed(1)
    noise, first = torch.randn(PICTURE.shape, generator=g), 0
    x = noise * float(getattr(scheduler, "init_noise_sigma", 1.0))
    if strength is not None:
        first = first_step(name, scheduler, objective, strength)
        x = noised(scheduler, PICTURE, noise, first)
    chain = SchedulerRecurrence(scheduler, exact(objective), generator=[g], first=first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float((solve(chain, x, Serial()).sample - PICTURE).abs().max())


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_network_that_knows_the_picture_gives_it_back(kind, name):
    objective, table = OBJECTIVES[kind]
    assert given_back(objective, name, table) <= CLOSE
    for strength in (0.04, 0.1, 0.5, 0.6, 1.0):
        if name in WHOLE_ONLY:
            with refused(RequestError, "unsupported", "scheduler", value=name):
                given_back(objective, name, table, strength=strength)
        else:
            assert given_back(objective, name, table, strength=strength) <= CLOSE, strength


def test_all_names_and_objectives_are_in_that_test():
    assert {name for _, name in CASES} == {name for names in NAMES.values() for name in names}
    assert len(CASES) == 2 * 5 + 2 + 3 * (12 + 11 + 12)


@pytest.mark.parametrize("table", TABLES)
def test_every_scheduler_has_the_objectives_own_numbers(table):
    objective = Discrete(table, "eps")
    for name in NAMES["discrete"]:
        scheduler = make_scheduler(name, 10, objective, table, False)
        assert torch.equal(scheduler.alphas_cumprod.double(), objective.table), name


def test_numbers_that_are_nobodys_defaults_reach_every_scheduler():
    table = diffusers.DDPMScheduler(
        num_train_timesteps=500, beta_start=0.001, beta_end=0.03, beta_schedule="scaled_linear"
    )
    objective = Discrete(table, "v")
    for name in names_of(objective):
        scheduler = make_scheduler(name, 10, objective, "linear", False)
        assert torch.equal(scheduler.alphas_cumprod.double(), objective.table), name
        assert given_back(objective, name, "linear") <= CLOSE, name
    for name in NAMES["flow"]:
        shifted = make_scheduler(name, 10, Flow(shift=5.0), "linear", False)
        sigma = torch.tensor(levels_of(shifted).sigma)[:: shifted.order]
        assert sigma[5] > 0.75, name  # a shift of 1 has it near 0.5
    for name in NAMES["edm"]:
        assert make_scheduler(name, 10, EDM(0.3), "linear", False).config.sigma_data == 0.3


def test_a_table_without_betas_is_undone():
    class Table:
        alphas_cumprod = Discrete("squaredcos_cap_v2").table

    objective = Discrete(Table(), "x0")
    torch.testing.assert_close(torch.cumprod(1 - objective.betas, 0), Table.alphas_cumprod, rtol=1e-6, atol=1e-12)
    assert given_back(objective, "heun", "linear") <= CLOSE


@pytest.mark.parametrize("kind", ["flow", "flow shifted", "edm", "eps linear"])
def test_a_strength_is_one_noise_with_every_scheduler(kind):
    """In shares of the model's own schedule, all begin within half a step of what was asked."""
    objective, table = OBJECTIVES[kind]
    steps = 20
    for strength in (0.1, 0.35, 0.6, 0.9):
        for name in names_of(objective):
            if name in WHOLE_ONLY:
                continue
            scheduler = make_scheduler(name, steps, objective, table, False)
            first = first_step(name, scheduler, objective, strength)
            assert first % scheduler.order == 0
            share = noise_shares(scheduler, objective)[first]
            assert abs(share - strength) <= 0.55 / (steps - 1), (name, strength)


def test_the_whole_strength_is_the_whole_chain():
    objective, table = OBJECTIVES["eps linear"]
    for name in ("ddim", "euler", "heun"):
        assert first_step(name, make_scheduler(name, 7, objective, table, False), objective, 1.0) == 0


@pytest.mark.parametrize(("name", "prediction"), [("euler-a", "x0")])
def test_a_prediction_that_a_scheduler_cannot_take_is_refused(name, prediction):
    assert prediction not in PREDICTIONS[name]
    with refused(RequestError, "unsupported", "scheduler", value=name, names=prediction):
        make_scheduler(name, 10, Discrete("linear", prediction), "linear", False)


def test_steps_that_a_scheduler_cannot_take_are_refused():
    objective = Discrete("linear", "eps")
    with refused(RequestError, "range", "num_steps", value=3, names=["4", "1000", "'pndm'"]):
        make_scheduler("pndm", 3, objective, "linear", False)
    with refused(RequestError, "range", "num_steps", value=1000, names="'deis'"):
        make_scheduler("deis", 1000, objective, "linear", False)
    with refused(RequestError, "range", "num_steps", value=1000, names=["1", "999"]):
        make_scheduler("dpm++2m", 1000, Flow(), "linear", False)
    for name in names_of(objective):
        if name != "pndm":
            assert given_back(objective, name, "linear", steps=1) <= CLOSE, name
