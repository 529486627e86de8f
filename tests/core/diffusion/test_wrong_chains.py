"""What a parallel sampler refuses, and what it says; one bad row stops nothing but itself."""

import math

import pytest
import torch
from chains import TreeChain, apart, noise, oracle_chain, scheduler_of
from refused import refused
from torch import nn
from unisono.diffusion import (
    Anderson,
    ClassifierFree,
    DiagNewton,
    Exact,
    FixedSteps,
    Local,
    Newton,
    NonFiniteError,
    Parareal,
    Picard,
    SchedulerRecurrence,
    Serial,
    Tolerance,
    check_pure,
    deer,
    differentiable,
    solve,
)
from unisono.diffusion.devices import Stale, parastep
from unisono.diffusion.solvers.accept import _leading
from unisono.errors import UnisonoError
from unisono.testing.oracles import ImageMixture

SHAPE = (2, 4, 4)
IMAGES = ImageMixture(SHAPE, num_modes=4)


def chain(steps=10, name="ddim", seeds=(1, 2, 3)):
    return oracle_chain(IMAGES, name, steps, seeds=seeds)


X = noise(SHAPE, None, batch=3)


@pytest.mark.parametrize("rtol", [0, -1e-3, math.inf, math.nan])
def test_a_tolerance_must_be_above_zero(rtol):
    with refused(UnisonoError, "range", "rtol", names=[str(rtol), "above 0"]):
        Tolerance(rtol)


@pytest.mark.parametrize(
    ("arguments", "code", "path", "value", "names"),
    [
        ({"window": 11}, "range", "window", 11, "at most 10"),
        ({"window": 0}, "range", "window", 0, "at least 1"),
        ({"window": 2.5}, "type", "window", 2.5, "at least 1"),
        ({"window": "3"}, "type", "window", "3", "'3'"),
        ({"window": True}, "type", "window", True, "True"),
        ({"window": 2.5, "solver": Serial()}, "type", "window", 2.5, "2.5"),
        ({"solver": Parareal(2.5)}, "type", "Parareal.blocks", 2.5, "Parareal(blocks=2.5)"),
        ({"solver": Parareal(1)}, "range", "Parareal.blocks", 1, "at least 2"),
        ({"window": 4, "solver": Serial()}, "conflict", "window", 4, "a window of 1"),
        ({"window": 4, "accept": FixedSteps(5)}, "conflict", "window", 4, "FixedSteps(5)"),
        ({"accept": FixedSteps(5), "solver": Parareal()}, "conflict", "accept", FixedSteps(5), "Tolerance"),
        ({"solver": Parareal(11)}, "range", "blocks", 11, "2 to the 10"),
        ({"solver": Newton(limit=31)}, "limit", "limit", 32, "limit=31"),
    ],
    ids=str,
)
def test_windows_and_solvers_that_cannot_be(arguments, code, path, value, names):
    with refused(UnisonoError, code, path, value=value, names=names):
        solve(chain(), X, **arguments)


@pytest.mark.parametrize(
    ("make", "code", "path", "value"),
    [
        (lambda: FixedSteps(0), "range", "FixedSteps.steps", 0),
        (lambda: FixedSteps(2, warmup=0), "range", "FixedSteps.warmup", 0),
        (lambda: Anderson(memory=0), "range", "Anderson.memory", 0),
        (lambda: Anderson(ridge=0.0), "range", "Anderson.ridge", 0.0),
        (lambda: DiagNewton(probes=0), "range", "DiagNewton.probes", 0),
        (lambda: Local(multiple=0), "range", "Local.multiple", 0),
        (lambda: Picard("noise"), "unknown", "hold", "noise"),
        (lambda: Tolerance("x"), "type", "rtol", "x"),
        (lambda: Tolerance(True), "type", "rtol", True),
        (lambda: FixedSteps(2.5), "type", "FixedSteps.steps", 2.5),
        (lambda: Anderson(memory=1.5), "type", "Anderson.memory", 1.5),
        (lambda: Anderson(ridge="x"), "type", "Anderson.ridge", "x"),
        (lambda: Local(multiple=True), "type", "Local.multiple", True),
        (lambda: Stale(1.5), "type", "Stale", 1.5),
        (lambda: Stale(1, warmup=0.5), "type", "Stale.warmup", 0.5),
        (lambda: SchedulerRecurrence(scheduler_of("ddim", 8), None, first=1.5), "type", "first", 1.5),
        (lambda: SchedulerRecurrence(scheduler_of("ddim", 8), None, first=8), "range", "first", 8),
        (lambda: deer(torch.add, X, X, tolerance="x"), "type", "tolerance", "x"),
        (lambda: deer(torch.add, X, X, max_rounds=2.5), "type", "max_rounds", 2.5),
        (lambda: differentiable(chain(), X, tolerance="x"), "type", "tolerance", "x"),
        (lambda: parastep(chain(), X, steps=2.5), "type", "steps", 2.5),
    ],
)
def test_settings_that_cannot_be(make, code, path, value):
    with refused(UnisonoError, code, path, value=value, names=str(value)):
        make()


@pytest.mark.parametrize("rule", [Exact(), Tolerance(0.1), FixedSteps(4)])
def test_a_movement_that_is_no_number_is_never_accepted(rule):
    """The first step of a window rests on no guess and counts in any case; nothing behind a NaN does."""
    nan = math.nan
    assert rule.count([nan]) == 1
    assert rule.count([0.0, nan, 0.0]) == 2
    assert rule.count([0.0, 0.0]) == 3
    assert rule.count([nan, 0.0, 0.0]) == 1
    assert rule.count([]) == 1
    assert _leading([nan], 0.1) == 1


def test_a_movement_at_the_limit_is_accepted():
    assert Tolerance(0.25).count([0.25, 0.2500001]) == 2
    assert Exact().count([0.0, 1e-300]) == 2


def test_one_step_has_nothing_to_run_in_parallel():
    with refused(UnisonoError, "range", "num_steps", value=1, names="2 or more"):
        solve(chain(1), X)
    assert solve(chain(1), X, Serial()).report.rounds == 1
    assert solve(chain(2), X).report.window == 2


@pytest.mark.parametrize("solver", [Newton(), DiagNewton(), Parareal()])
@pytest.mark.parametrize(("name", "kept"), [("dpm++2m", "model_outputs"), ("heun", "prev_derivative")])
def test_solvers_that_start_anywhere_refuse_a_history_by_name(solver, name, kept):
    scheduler = type(scheduler_of(name, 8)).__name__
    kind = type(solver).__name__
    with refused(UnisonoError, "unsupported", "solver", value=kind, names=[kind, scheduler, kept]):
        solve(chain(8, name), X, solver)


def test_states_that_are_no_tensors():
    with refused(UnisonoError, "type", "state", value="str"):
        solve(TreeChain(), {"a": "noise"})
    with refused(UnisonoError, "shape", "state", value=[2, 3], names="[2, 3]"):
        solve(TreeChain(), {"a": torch.zeros(2, 2), "b": torch.zeros(3, 3)})


def test_an_evaluator_with_a_memory_is_refused_by_name_but_for_serial_runs():
    class Remembering(Local):
        pure = False

    with refused(UnisonoError, "conflict", "evaluator", value="Remembering"):
        solve(chain(), X, evaluator=Remembering())
    assert solve(chain(), X, Serial(), evaluator=Remembering()).report.rounds == 10


def test_dropout_left_on_is_named():
    network = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Dropout(0.1))
    with refused(UnisonoError, "state", "1", value=0.1, names=["Dropout", "0.1", "eval()"]):
        SchedulerRecurrence(scheduler_of("ddim", 8), network)
    check_pure(network.eval())
    with refused(UnisonoError, "state", "network", value="BatchNorm2d", names="BatchNorm2d"):
        check_pure(nn.BatchNorm2d(2))


def test_an_enabled_cache_is_named():
    network = nn.Sequential(nn.Identity())
    network[0].is_cache_enabled = True
    with refused(UnisonoError, "state", "0", value="Identity", names="disable_cache()"):
        check_pure(network.eval())


def test_a_stochastic_network_is_seen_by_its_answers():
    """Behind a function there is no module to look at: two answers for one row tell."""
    dropout, exact, g = nn.Dropout(0.05), IMAGES.network(scheduler_of("ddim", 10)), torch.Generator().manual_seed(0)
    with torch.random.fork_rng(), refused(UnisonoError, "unsupported", "network", names="network.eval()"):
        torch.manual_seed(0)  # of another seed, both answers may lose the same values
        solve(SchedulerRecurrence(scheduler_of("ddim", 10), lambda x, t, s: dropout(exact(x, t, s))), X)

    def noisy(x, t, sample):
        return exact(x, t, sample) + 1e-3 * torch.randn(x.shape, generator=g)

    for dtype in (torch.float32, torch.float64):
        with refused(UnisonoError, "unsupported", "network"):
            solve(SchedulerRecurrence(scheduler_of("ddim", 10), noisy), X.to(dtype))
    half = solve(chain(), X.bfloat16())  # rounding is no noise
    assert half.sample.dtype == torch.bfloat16


def test_a_network_that_answers_with_other_rows():
    with refused(UnisonoError, "shape", "network", value=[(1, 2, 4, 4)], names=["4 rows", "(1, 2, 4, 4)"]):
        solve(SchedulerRecurrence(scheduler_of("ddim", 10), lambda x, t, s: x[:1]), X)


class Sick:
    """An exact network that fails for one sample, at one time only where its state is the true one, or always."""

    def __init__(self, name, sample, at, value=math.nan):
        self.inner, self.sample, self.value = IMAGES.network(scheduler_of(name, 10)), sample, value
        self.at = scheduler_of(name, 10).timesteps[at]

    def __call__(self, x, t, sample):
        out = self.inner(x, t, sample)
        out[(sample == self.sample) & (t == self.at), 0, 0, 0] = self.value
        return out


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("solver", [Serial(), Picard(), Anderson(), Parareal()])
def test_nan_at_one_row_is_named_and_the_others_finish(solver, value):
    good = solve(chain(), X, solver, Exact()).sample
    sick = SchedulerRecurrence(scheduler_of("ddim", 10), Sick("ddim", 1, 4, value))
    with refused(NonFiniteError, "failed", "network", value=[1], names=["sample 1 at step 4", "2 of 3"]) as error:
        solve(sick, X, solver, Exact())
    solution = error.value.solution
    assert solution.report.failures == {1: 4}
    assert solution.sample[1].isnan().all()
    assert apart(solution.sample[[0, 2]], good[[0, 2]]) < 1e-12
    assert "not finite: sample 1 at step 4" in str(solution.report)


def test_nan_at_one_row_of_a_batch_that_is_accepted_as_a_whole():
    good = solve(chain(), X, accept=Exact()).sample
    sick = SchedulerRecurrence(scheduler_of("ddim", 10), Sick("ddim", 1, 4))
    with refused(NonFiniteError, "failed", "network", value=[1], names="sample 1 at step 4") as error:
        solve(sick, X, accept=Exact(per_sample=False), trajectory=True)
    sample = error.value.solution.sample
    assert sample[1].isnan().all() and apart(sample[[0, 2]], good[[0, 2]]) < 1e-12


def test_parareal_fails_as_a_whole_what_it_accepts_as_a_whole():
    sick = SchedulerRecurrence(scheduler_of("ddim", 10), Sick("ddim", 1, 4))
    with refused(
        NonFiniteError,
        "failed",
        "network",
        value=[0, 1, 2],
        names=["sample 0 at step 4", "sample 2 at step 4", "0 of 3"],
    ) as error:
        solve(sick, X, Parareal(), Exact(per_sample=False))
    assert error.value.solution.sample.shape == X.shape and error.value.solution.sample.isnan().all()


def test_nan_at_a_guess_is_no_failure():
    """A network that cannot bear a wild guess, but the true state: the window ends before the guess."""
    inner = IMAGES.network(scheduler_of("ddim", 10))
    truth = torch.stack(solve(chain(), X, Serial(), trajectory=True).states)
    seen = []

    def network(x, t, sample):
        out = inner(x, t, sample)
        step = (t[:, None] == scheduler_of("ddim", 10).timesteps).long().argmax(1)
        far = (x - truth[step, sample]).flatten(1).abs().amax(1) > 1e-4
        seen.append(bool(far.any()))
        out[far] = math.nan
        return out

    done = solve(SchedulerRecurrence(scheduler_of("ddim", 10), network), X, accept=Tolerance(1e-6))
    assert any(seen) and apart(done.sample, truth[-1]) < 1e-4


def test_guidance_is_the_formula_with_both_branches_in_one_batch():
    calls = []

    def network(x, t, sample, branch):
        calls.append(branch.tolist())
        return x * (1 + branch.to(x))[:, None, None, None] + sample.to(x)[:, None, None, None]

    x, t, sample = X, torch.tensor([5, 6, 7]), torch.tensor([0, 1, 2])
    got = ClassifierFree(network, 3.0)(x, t, sample)
    where = sample.to(x)[:, None, None, None]
    torch.testing.assert_close(got, (2 * x + where) + 3 * ((x + where) - (2 * x + where)))
    assert calls == [[0, 0, 0, 1, 1, 1]]
    each = ClassifierFree(network, torch.tensor([1.0, 2.0, 3.0]))(x, t, sample)
    torch.testing.assert_close(each[2], got[2])
    torch.testing.assert_close(each[0], (x + where)[0])
