"""Flow: Euler's steps against closed forms, parallel solvers against serial ones, and requests that cannot be run."""

import math
from itertools import pairwise

import pytest
import torch
from refused import refused
from unisono.diffusion import Flow
from unisono.errors import RequestError
from unisono_tts.flow import SOLVERS, EulerChain, FlowRequest, FlowVoice, times
from unisono_tts.time_code import time_code


@pytest.fixture
def draws():
    """Return a voice that only draws, and what it was asked for."""
    return FlowVoice()


def start(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def asked(**fields) -> FlowRequest:
    return FlowRequest.parse(text="-", **fields)


@pytest.mark.parametrize("num_steps", [1, 3, 10])
@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_a_constant_velocity_is_followed_exactly(draws, num_steps, shift):
    x, velocity = start(2, 5, 3), start(2, 5, 3).flip(0)
    end = draws.draw(lambda x, t, row: velocity[row], x, [asked(num_steps=num_steps)] * 2, shift)
    torch.testing.assert_close(end, x - velocity, atol=1e-6, rtol=0)


def test_the_flow_of_one_item_ends_at_it_after_one_step(draws):
    """The best field for a single target is (x − x0) / t, and the toolkit's objective trains that."""
    target, noise = start(1, 4, 2), start(1, 4, 2).flip(1)
    noised = Flow(std=0).corrupt(target, noise, torch.tensor([1.0], dtype=torch.float64))
    torch.testing.assert_close(noised.x, noise)  # t = 1 is noise
    assert torch.equal(Flow(std=0).corrupt(target, noise, torch.zeros(1, dtype=torch.float64)).x, target)
    for num_steps in (1, 4):
        end = draws.draw(lambda x, t, row: (x - target) / t[:, None, None], noise, [asked(num_steps=num_steps)])
        torch.testing.assert_close(end, target, atol=1e-6, rtol=0)


def test_a_linear_field_is_stepped_as_by_hand(draws):
    """x' = x·(1 + Δt·a): the product over all steps."""
    x = start(1, 2, 2)
    end = draws.draw(lambda x, t, row: x * t[:, None, None], x, [asked(num_steps=5)])
    steps = times(5)
    factor = math.prod(1 + (after - before) * before for before, after in pairwise(steps))
    torch.testing.assert_close(end, x * factor)


def test_times_run_from_noise_to_data_and_are_shifted_as_published():
    assert times(4) == [1.0, 0.75, 0.5, 0.25, 0.0]
    for step, own in enumerate(times(8, 2.0)):
        t = step / 8  # ZipVoice counts from noise at 0, with t_shift = 1/2
        assert own == pytest.approx(1 - 0.5 * t / (1 + (0.5 - 1) * t), abs=1e-12)


@pytest.mark.parametrize("solver", sorted(set(SOLVERS) - {"serial", "parastep"}))
def test_parallel_solvers_give_the_serial_sample(draws, solver):
    def field(x, t, row):
        return torch.sin(3 * x) + t[:, None, None] * x.mean((1, 2), keepdim=True)

    x = start(3, 6, 4)
    serial = draws.draw(field, x, [asked(num_steps=12)] * 3)
    before = draws.rounds
    other = draws.draw(field, x, [asked(num_steps=12, solver=solver, tolerance=1e-5)] * 3)
    assert (other - serial).abs().max() < 1e-3 * serial.abs().max()
    assert draws.rounds - before <= (12 if solver != "parareal" else 40)


def test_a_window_of_fixed_steps_takes_few_rounds(draws):
    draws.draw(lambda x, t, row: x, start(1, 2, 2), [asked(num_steps=13, solver="parastep", window=4)])
    assert draws.rounds == 1 + 3


def test_items_of_a_batch_are_stepped_as_each_asks(draws):
    def field(x, t, row):
        return torch.cos(x) * (1 + row[:, None, None])

    x = start(4, 3, 2)
    wanted = [asked(num_steps=n, solver=s) for n, s in ((3, "serial"), (8, "picard"), (3, "serial"), (5, "serial"))]
    together = draws.draw(field, x, wanted)
    assert draws.evaluations >= 3 + 8 + 5
    for row, one in enumerate(wanted):
        alone = draws.draw(lambda x, t, _, row=row: field(x, t, torch.tensor([row] * len(x))), x[row : row + 1], [one])
        torch.testing.assert_close(together[row : row + 1], alone)


def test_the_chain_holds_what_a_flow_can():
    chain = EulerChain(lambda x, t, row: x, times(4))
    x0, noise = start(1, 2, 2), start(1, 2, 2).flip(1)
    x = 0.25 * x0 + 0.75 * noise  # at step 1
    moved = x + 0.1
    held = chain.hold(noise - x0, 1, x, moved, "x0")
    torch.testing.assert_close(moved - 0.75 * held, x0)
    assert torch.equal(chain.hold(noise, 1, x, moved), noise)
    assert chain.history() == ()


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"num_steps": 1, "solver": "picard"}, "conflict", "num_steps"),
        ({"window": 4}, "conflict", "window"),
        ({"window": 4, "solver": "parareal"}, "conflict", "window"),
        ({"window": 12, "num_steps": 10, "solver": "picard"}, "range", "window"),
        ({"num_steps": 0}, "range", "num_steps"),
        ({"tolerance": 0}, "range", "tolerance"),
        ({"temperature": -1}, "range", "temperature"),
        ({"solver": "euler"}, "unknown", "solver"),
    ],
)
def test_what_no_solver_can_run_is_refused(fields, code, path):
    with refused(RequestError, code, path):
        asked(**fields)


def test_what_a_solver_refuses_names_the_request_s_field(draws):
    def noisy(x, t, row):
        return torch.randn(x.shape)

    with refused(RequestError, "unsupported", "solver", value="picard"):
        draws.draw(noisy, start(1, 3, 2), [asked(solver="picard")])


def test_a_generator_gives_each_request_a_seed_of_its_own(draws):
    generator = torch.Generator().manual_seed(3)
    one, two = draws.seeded(asked(seed=5), generator), draws.seeded(asked(seed=5), generator)
    assert len({one.seed, two.seed, 5}) == 3
    assert draws.seeded(asked(seed=5), None).seed == 5


def test_time_codes_tell_times_apart():
    code = time_code(torch.tensor([0.0, 0.001, 1.0]), 8)
    assert torch.equal(code[0], torch.tensor([0.0] * 4 + [1.0] * 4))
    torch.testing.assert_close(code[1, 0], torch.tensor(math.sin(1.0)))
    torch.testing.assert_close(code[2, 3], torch.tensor(math.sin(0.1)))
