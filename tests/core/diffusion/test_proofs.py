"""What holds of every parallel solver, proved on exact networks."""

import itertools

import pytest
import torch
from chains import Counted, TreeChain, apart, gen, noise, oracle_chain, scheduler_of, serial_loop
from unisono.diffusion import (
    Anderson,
    DiagNewton,
    Exact,
    FixedSteps,
    Identity,
    Jacobi,
    Local,
    Newton,
    Parareal,
    Picard,
    SchedulerRecurrence,
    Serial,
    Tolerance,
    solve,
)
from unisono.diffusion.solve import Job
from unisono.diffusion.solvers.window import Lane
from unisono.testing.oracles import Gaussian, ImageMixture, Mixture, RowByRow

SMALL = Mixture((1, 2, 2), num_modes=3)
IMAGES = ImageMixture((2, 4, 4), num_modes=4)
WINDOW_SOLVERS = {
    "jacobi": Jacobi(),
    "identity": Identity(),
    "v": Picard("v"),
    "x0": Picard("x0"),
    "eps": Picard("eps"),
    "output": Picard("output"),
    "anderson": Anderson(),
    "diagonal": DiagNewton(),
    "newton": Newton(),
}
SOLVERS = WINDOW_SOLVERS | {"parareal": Parareal()}


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("scheduler", ["ddim", "flow"])
def test_exact_acceptance_gives_the_serial_bits_in_at_most_as_many_rounds(name, scheduler):
    steps = 10
    x = noise((1, 2, 2), scheduler_of(scheduler, steps), dtype=torch.float32)
    want = serial_loop(scheduler_of(scheduler, steps), RowByRow(SMALL.network(scheduler_of(scheduler, steps))), x)
    done = solve(oracle_chain(SMALL, scheduler, steps, RowByRow), x, SOLVERS[name], Exact(), trajectory=True)
    # Parareal's pipeline ends at most one block after the chain would.
    assert done.report.rounds <= steps + (4 if name == "parareal" else 0)
    assert torch.equal(done.sample, want[-1])
    assert torch.equal(done.states[0], x)
    if name != "parareal":
        assert all(torch.equal(a, b) for a, b in zip(done.states, want, strict=True))


@pytest.mark.parametrize("name", SOLVERS)
def test_a_small_tolerance_gives_the_serial_sample(name):
    x = noise((1, 2, 2), scheduler_of("ddim", 30), batch=2)
    want = serial_loop(scheduler_of("ddim", 30), SMALL.network(scheduler_of("ddim", 30)), x)[-1]
    done = solve(oracle_chain(SMALL, "ddim", 30, seeds=(1, 2)), x, SOLVERS[name], Tolerance(1e-5))
    # What is accepted moved by 1e-5; later steps carry it on, which takes two digits here at most.
    assert apart(done.sample, want) < 1e-3


def lane_of(chain, x, window, seed=5):
    """A lane at the start, with wild guesses, and its outputs."""
    g = gen(seed)
    states = [x, *(torch.randn(x.shape, generator=g, dtype=x.dtype) for _ in range(window - 1))]
    sample = torch.arange(len(x))
    lane = Lane(sample, states, chain.begin(sample), torch.ones(len(x), dtype=torch.bool))
    lane.outputs = [chain.evaluate(s, torch.full((len(x),), k), sample) for k, s in enumerate(states)]
    return lane


def job_of(chain, x, window):
    from unisono.diffusion import Report

    return Job(chain, x, Exact(), Local(), window, Report("", window, chain.num_steps, len(x)))


@pytest.mark.parametrize("name", WINDOW_SOLVERS)
def test_after_k_rounds_k_states_are_exact(name):
    """From wild guesses, without acceptance: the prefix grows by one state per round at least, to the bit."""
    window = 6
    x = noise((1, 2, 2), scheduler_of("ddim", 10), dtype=torch.float32)
    want = serial_loop(scheduler_of("ddim", 10), RowByRow(SMALL.network(scheduler_of("ddim", 10))), x)
    chain = oracle_chain(SMALL, "ddim", 10, RowByRow)
    job, lane = job_of(chain, x, window), lane_of(chain, x, window)
    with torch.no_grad():
        for k in range(1, window + 1):
            new, _ = WINDOW_SOLVERS[name].update(job, lane)
            new = WINDOW_SOLVERS[name].refine(lane, new, k)
            assert all(torch.equal(a, b) for a, b in zip(new[:k], want[1 : k + 1], strict=True)), k
            lane.states = [x, *new[:-1]]
            steps = [torch.full((1,), i) for i in range(window)]
            lane.outputs = [chain.evaluate(s, i, lane.sample) for s, i in zip(lane.states, steps, strict=True)]


@pytest.mark.parametrize("name", WINDOW_SOLVERS)
def test_no_state_depends_on_a_later_one(name):
    """Triangular: move the guess of step j and its output; states up to j stay to the bit, the next does not."""
    window = 5
    x = noise((1, 2, 2), scheduler_of("ddim", 10), dtype=torch.float32)

    def rounds(disturb):
        chain = oracle_chain(SMALL, "ddim", 10, RowByRow)
        job, lane = job_of(chain, x, window), lane_of(chain, x, window)
        with torch.no_grad():
            for number in range(2):  # a second round, for what has a memory
                if number == 1 and disturb is not None:
                    lane.states[disturb] = lane.states[disturb] + 0.01
                steps = [torch.full((1,), i) for i in range(window)]
                lane.outputs = [chain.evaluate(s, i, lane.sample) for s, i in zip(lane.states, steps, strict=True)]
                new, _ = WINDOW_SOLVERS[name].update(job, lane)
                new = WINDOW_SOLVERS[name].refine(lane, new, 1)
                lane.states = [x, *new[:-1]]
        return new

    plain = rounds(None)
    for j in range(1, window):
        moved = rounds(j)
        # A restart of Anderson looks at the whole window; it is a choice between two triangular maps.
        if name != "anderson":
            assert all(torch.equal(a, b) for a, b in zip(moved[:j], plain[:j], strict=True))
        assert not torch.equal(moved[j], plain[j])


def test_anderson_is_triangular_where_it_does_not_restart():
    solver = Anderson(memory=2)
    g = gen()
    base = [torch.randn(1, 6, generator=g, dtype=torch.float64) for _ in range(5)]

    def refined(j):
        g = gen(3)
        lane = Lane(torch.tensor([0]), base, None, torch.tensor([True]))
        for scale in (1.0, 0.5, 0.25):
            lane.states = [s + 0.1 * scale for s in base]
            change = [scale * torch.randn(1, 6, generator=g, dtype=torch.float64) for _ in base]
            new = [s + c for s, c in zip(base, change, strict=True)]
            if scale == 0.25 and j is not None:
                new[j] = new[j] + 1e-3
            new = solver.refine(lane, new, 1)
        assert len(lane.memory.changes) == 2
        return new

    plain = refined(None)
    for j in range(1, 4):
        moved = refined(j)
        assert all(torch.equal(a, b) for a, b in zip(moved[:j], plain[:j], strict=True))
        assert not torch.equal(moved[j], plain[j])


def test_anderson_solves_a_linear_fixed_point_that_replay_only_approaches():
    """x = M x + c with a memory as long as there are eigenvalues: exact, as GMRES is."""
    solver, rates = Anderson(memory=3, ridge=1e-14), torch.tensor([0.9, -0.7, 0.5], dtype=torch.float64)
    lane = Lane(torch.tensor([0]), [], None, torch.tensor([True]))
    x = torch.zeros(1, 3, dtype=torch.float64)
    first = torch.zeros(1, 3, dtype=torch.float64)
    target = 1 / (1 - rates)
    for _ in range(6):
        lane.states = [first, first, x]
        new = [first, rates * x + 1, rates * x + 1]
        x = solver.refine(lane, new, 1)[1]
    assert apart(x, target) < 1e-6
    plain = torch.zeros(1, 3, dtype=torch.float64)
    for _ in range(6):
        plain = rates * plain + 1
    assert apart(plain, target) > 0.1


def test_anderson_forgets_where_the_residual_grows():
    solver = Anderson()
    lane = Lane(torch.tensor([0]), [], None, torch.tensor([True]))
    zero = torch.zeros(1, 2)
    for size in (1.0, 0.5, 0.25):
        lane.states = [zero, zero, zero]
        solver.refine(lane, [zero + size, zero + size, zero + size], 1)
    assert len(lane.memory.changes) == 2
    new = [zero + 5, zero + 5, zero + 5]
    assert solver.refine(lane, new, 1) is new
    assert not lane.memory.changes


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "flow"])
def test_newton_solves_a_gaussian_in_one_round(scheduler):
    """Every step is affine there: one round after the first guess all states are right, to the scheduler's float32."""
    g, d, steps = gen(), 6, 12
    root = torch.randn(d, d, generator=g, dtype=torch.float64)
    oracle = Gaussian(torch.randn(d, generator=g, dtype=torch.float64), root @ root.T / d)
    x = torch.randn(2, d, generator=g, dtype=torch.float64)
    want = serial_loop(scheduler_of(scheduler, steps), oracle.network(scheduler_of(scheduler, steps)), x)
    chain = oracle_chain(oracle, scheduler, steps, seeds=(1, 2))
    job, lane = job_of(chain, x, steps), lane_of(chain, x, steps)
    with torch.no_grad():
        new, _ = Newton().update(job, lane)
    for got, state in zip(new, want[1:], strict=True):
        torch.testing.assert_close(got, state, rtol=2e-5, atol=1e-6)
    # The window opens after a first step; one round solves it and one more sees that nothing moved.
    done = solve(oracle_chain(oracle, scheduler, steps, seeds=(1, 2)), x, Newton(), Tolerance(1e-5), window=steps)
    assert done.report.rounds == 3
    assert apart(done.sample, want[-1]) < 1e-6


def test_a_gaussian_ends_where_the_closed_form_says():
    """DDIM on N(0, λ): each direction is scaled by the product of the steps' factors."""
    variances = torch.tensor([0.04, 0.5, 1.0, 3.0], dtype=torch.float64)
    oracle = Gaussian(torch.zeros(4, dtype=torch.float64), variances.diag())
    scheduler = scheduler_of("ddim", 20)
    x = torch.ones(1, 4, dtype=torch.float64)
    factor = torch.ones(4, dtype=torch.float64)
    levels = [float(scheduler.alphas_cumprod[t]) for t in scheduler.timesteps]
    before = [float(scheduler.alphas_cumprod[t - 1000 // 20]) for t in scheduler.timesteps[:-1]]
    before += [float(scheduler.final_alpha_cumprod)]
    for here, there in zip(levels, before, strict=True):
        x0 = here**0.5 * variances / (here * variances + 1 - here)
        eps = (1 - here**0.5 * x0) / (1 - here) ** 0.5
        factor = factor * (there**0.5 * x0 + (1 - there) ** 0.5 * eps)
    done = solve(oracle_chain(oracle, "ddim", 20), x, accept=Tolerance(1e-10))
    torch.testing.assert_close(done.sample[0], factor, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("oracle", [SMALL, IMAGES, Gaussian(torch.zeros(3), torch.eye(3))])
def test_oracles_are_posterior_means(oracle):
    """Against the definition: averages of many draws, weighted by the likelihood of x."""
    g = gen()
    draws = oracle.sample(60_000, g).double()
    a, s = 0.3, 0.9539392014169457
    x = (a * draws[:1] + s * torch.randn(draws[:1].shape, generator=g)).double()
    weight = (-(x - a * draws).flatten(1).square().sum(1) / (2 * s * s)).softmax(0)
    want = (weight.reshape(-1, *[1] * (draws.ndim - 1)) * draws).sum(0)
    one = torch.ones(1, dtype=torch.float64)
    got = oracle.x0(x, a * one, s * one)[0]
    size = 1 / (weight.square().sum() ** -0.5)  # one over the root of the effective number of draws
    assert (got - want).abs().max() < 6 * size * draws.std()
    eps, flow = (oracle.predict(x, a * one, s * one, kind)[0] for kind in ("eps", "flow"))
    torch.testing.assert_close(a * got + s * eps, x[0])
    torch.testing.assert_close(eps - got, flow)


@pytest.mark.parametrize("accept", [Tolerance(1e-2), Tolerance(1e-2, per_sample=False)])
def test_rows_of_a_batch_do_not_know_of_each_other(accept):
    """Alone = in a batch, and a permuted batch is permuted: each sample has a window of its own."""
    x = noise((2, 4, 4), scheduler_of("dpm++2m", 20), batch=4)
    order = torch.tensor([2, 0, 3, 1])

    def run(x):
        return solve(oracle_chain(IMAGES, "dpm++2m", 20, RowByRow, seeds=range(len(x))), x, accept=accept)

    whole, permuted = run(x), run(x[order])
    assert torch.equal(permuted.sample, whole.sample[order])
    if accept.per_sample:
        alone = [run(x[i : i + 1]) for i in range(4)]
        assert torch.equal(torch.cat([one.sample for one in alone]), whole.sample)
        assert [one.report.rounds for one in alone] == whole.report.rounds_of
        assert whole.report.rounds == max(whole.report.rounds_of)
        assert [permuted.report.rounds_of[i] for i in range(4)] == [whole.report.rounds_of[i] for i in order]


def test_fast_samples_do_not_wait_for_slow_ones():
    """One sample begins at a mode and has an easy way: its rows are packed with the other's, and it ends first."""
    oracle = ImageMixture((2, 4, 4), num_modes=4)
    x = noise((2, 4, 4), scheduler_of("flow", 40), batch=6, seed=11)
    done = solve(oracle_chain(oracle, "flow", 40, seeds=range(6)), x, accept=Tolerance(1e-3))
    report = done.report
    assert min(report.rounds_of) < max(report.rounds_of) == report.rounds
    assert sum(report.rows_of) == report.rows == sum(r.rows for r in report.history)
    together = solve(oracle_chain(oracle, "flow", 40, seeds=range(6)), x, accept=Tolerance(1e-3, per_sample=False))
    assert together.report.rows > report.rows
    assert together.report.rounds >= report.rounds


def test_the_bill_is_what_the_network_was_asked():
    network = Counted(IMAGES.network(scheduler_of("ddim", 20)))
    events = []
    chain = SchedulerRecurrence(scheduler_of("ddim", 20), network)
    done = solve(chain, noise((2, 4, 4), None, batch=2), on_round=events.append)
    report = done.report
    assert (network.calls, network.rows) == (report.rounds, report.rows)
    assert events == report.history and events[-1].done == 1.0
    assert [sum(e.accepted[s] for e in events) for s in (0, 1)] == [20, 20]
    assert report.work == report.rows / 40 and report.speedup == 20 / report.rounds
    assert 0 < report.residual <= 1e-2 and report.wall >= report.network_wall > 0
    assert str(report).startswith(f"Picard: 20 steps in {report.rounds} rounds")


def test_padding_the_rows_changes_nothing_but_the_batch_sizes():
    sizes = []

    def network(x, t, sample):
        sizes.append(len(x))
        return RowByRow(IMAGES.network(scheduler_of("ddim", 20)))(x, t, sample)

    x = noise((2, 4, 4), None, batch=3)
    plain = solve(SchedulerRecurrence(scheduler_of("ddim", 20), network), x)
    ragged = set(sizes)
    sizes.clear()
    padded = solve(SchedulerRecurrence(scheduler_of("ddim", 20), network), x, evaluator=Local(multiple=8))
    assert torch.equal(plain.sample, padded.sample)
    assert all(size % 8 == 0 for size in sizes) and not all(size % 8 == 0 for size in ragged)


@pytest.mark.parametrize("solver", [Picard(), Jacobi(), Identity(), Anderson(), Newton(), DiagNewton(), Parareal()])
def test_states_may_be_trees(solver):
    chain = TreeChain()
    g = gen()
    x = {
        "a": torch.randn(2, 2, generator=g, dtype=torch.float64),
        "b": torch.randn(2, 3, generator=g, dtype=torch.float64),
    }
    y = x
    for i in range(chain.num_steps):
        y = chain.advance(chain.evaluate(y, torch.full((2,), i), torch.arange(2)), i, y)
    done = solve(chain, x, solver, Tolerance(1e-9)).sample
    assert all(apart(done[key], y[key]) < 1e-7 for key in x)
    exact = solve(chain, x, solver, Exact()).sample
    assert all(apart(exact[key], y[key]) < 1e-14 for key in x)


def test_fixed_steps_are_parasteps_count_and_do_not_look():
    """R = warm-up + (T − warm-up)/P, whatever the error."""
    x = noise((2, 4, 4), None)
    for steps, warmup in itertools.product((4, 8), (1, 5)):
        done = solve(oracle_chain(IMAGES, "ddim", 40), x, accept=FixedSteps(steps, warmup))
        assert done.report.rounds == warmup + -(-(40 - warmup) // steps)
    want = solve(oracle_chain(IMAGES, "ddim", 40), x, Serial()).sample
    few, many = (solve(oracle_chain(IMAGES, "ddim", 40), x, accept=FixedSteps(p)).sample for p in (2, 10))
    assert apart(few, want) < apart(many, want)


def test_parareal_is_cheap_in_rounds_and_exact_where_it_must_be():
    x = noise((2, 4, 4), None, batch=2)
    want = solve(oracle_chain(IMAGES, "ddim", 36, seeds=(1, 2)), x, Serial()).sample
    done = solve(oracle_chain(IMAGES, "ddim", 36, seeds=(1, 2)), x, Parareal(6), Tolerance(1e-3))
    assert apart(done.sample, want) < 1e-3
    assert done.report.rounds < 30 and done.report.window == 6


BARS = {
    # scheduler: (steps, window, tolerance, most rounds, most work, largest error)
    "ddim": (100, 8, 1e-2, 14, 1.2, 5e-3),
    "dpm++2m": (25, 5, 1e-2, 9, 1.5, 1e-2),
}


@pytest.mark.parametrize("name", BARS)
def test_rounds_work_and_error_keep_their_bars(name):
    steps, window, tolerance, rounds, work, error = BARS[name]
    oracle, met = ImageMixture(), []
    for seed in (2, 3, 4):
        x = noise((4, 16, 16), None, seed)
        want = solve(oracle_chain(oracle, name, steps), x, Serial()).sample
        done = solve(oracle_chain(oracle, name, steps), x, accept=Tolerance(tolerance), window=window)
        met.append((done.report.rounds, done.report.work, apart(done.sample, want)))
    median = [sorted(values)[1] for values in zip(*met, strict=True)]
    assert median[0] <= rounds and median[1] <= work and median[2] <= error, met


def test_a_local_tolerance_does_not_bound_the_error_where_a_trajectory_changes_modes():
    """The limit that docs/diffusion.md tells of: every accepted step moved by at most 1e-2, the end is elsewhere.

    A tighter tolerance finds the serial mode; a bound on the error there has no tolerance to go with it.
    """
    oracle = ImageMixture()
    x = noise((4, 16, 16), None, seed=1)
    want = solve(oracle_chain(oracle, "flow", 50), x, Serial()).sample
    loose = solve(oracle_chain(oracle, "flow", 50), x, accept=Tolerance(1e-2), window=16)
    tight = solve(oracle_chain(oracle, "flow", 50), x, accept=Tolerance(1e-3), window=16)
    assert loose.report.residual <= 1e-2
    assert apart(loose.sample, want) > 0.3
    assert apart(tight.sample, want) < 2e-2
