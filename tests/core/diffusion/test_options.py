"""Rules and options of solvers by hand: what is accepted, guidance per sample, padded batches, values of before."""

import math

import pytest
import torch
from unisono.diffusion import Anderson, Exact, FixedSteps, Local, Tolerance
from unisono.diffusion.devices import Stale
from unisono.diffusion.guide import ClassifierFree

NAN = math.nan


@pytest.mark.parametrize(
    ("rule", "moved", "count"),
    [
        (Tolerance(0.1), [], 1),  # the first new state is exact whatever its guess was
        (Tolerance(0.1), [0.2], 1),
        (Tolerance(0.1), [0.1], 2),  # at most the tolerance
        (Tolerance(0.1), [0.05, 0.2, 0.05], 2),  # a quiet guess behind a loud one does not count
        (Tolerance(0.1), [0.05, 0.05, 0.05], 4),
        (Tolerance(0.1), [NAN], 1),
        (Tolerance(0.1), [0.05, NAN, 0.0], 2),
        (Exact(), [0.0, 0.0, 1e-30], 3),
        (Exact(), [NAN], 1),
        (FixedSteps(4), [9.0, 9.0, math.inf], 4),
        (FixedSteps(4), [9.0, NAN, 9.0], 2),
    ],
)
def test_steps_are_accepted_up_to_the_first_guess_that_moved(rule, moved, count):
    assert rule.count(moved) == count


def test_fixed_steps_open_one_step_while_they_warm_up():
    assert [FixedSteps(4, warmup=2).span(8, front) for front in range(4)] == [1, 1, 4, 4]
    assert Tolerance(0.1).span(8, 0) == Exact().span(8, 0) == 8


def test_guidance_goes_from_the_unconditional_branch_with_a_scale_per_sample():
    """u + s·(c − u), the rows of a window in no order of samples; a scale of 1 is the condition, 0 is none."""

    def network(x, t, sample, branch):
        return torch.where(branch[:, None] == 0, x + sample[:, None], -x)

    x, t = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), torch.zeros(3)
    sample = torch.tensor([2, 0, 1])
    guided = ClassifierFree(network, torch.tensor([1.0, 0.0, 3.0]))(x, t, sample)
    c, u = x + sample[:, None], -x
    assert torch.equal(guided, torch.stack([u[0] + 3 * (c[0] - u[0]), c[1], u[2]]))
    torch.testing.assert_close(ClassifierFree(network, 2.5)(x, t, sample), u + 2.5 * (c - u))


@pytest.mark.parametrize(("rows", "size"), [(1, 4), (3, 4), (4, 4), (5, 8), (8, 8)])
def test_a_batch_is_filled_up_with_copies_of_its_last_row(rows, size):
    seen = []

    def evaluate(x, step, sample):
        seen.append((len(x), step.tolist(), sample.tolist()))
        return 2 * x

    step, sample = torch.arange(rows) + 10, torch.arange(rows) + 20
    x = torch.arange(float(rows))[:, None]
    assert torch.equal(Local(multiple=4)(evaluate, x, step, sample), 2 * x)
    more = size - rows
    assert seen == [(size, [*step.tolist(), *[9 + rows] * more], [*sample.tolist(), *[19 + rows] * more])]


class Gathered:
    """What a gathering gives, without ranks."""

    def __init__(self, value):
        self.value = value

    def parts(self):
        return [torch.tensor([float(self.value)])]


@pytest.mark.parametrize(
    ("policy", "values"),
    [
        (Stale(1), [0, 0, 1, 2, 3]),
        (Stale(2), [0, 1, 0, 1, 2]),  # fresh until two calls lie behind
        (Stale(1, warmup=3), [0, 1, 2, 2, 3]),
        (Stale(2, warmup=1), [0, 1, 0, 1, 2]),
    ],
)
def test_values_are_of_so_many_calls_before_once_warm(policy, values):
    found = [policy._turn("layer", Gathered(call))[0].item() for call in range(5)]
    assert found == values
    policy.reset()
    assert policy._turn("layer", Gathered(7))[0].item() == 7  # a new sample begins afresh
    assert policy._turn("another", Gathered(8))[0].item() == 8  # each key has values of its own


def test_drift_is_relative_to_the_value_that_was_stood_for():
    policy = Stale(1, measure=True)
    for value in (2.0, 4.0, 5.0):
        policy._turn("layer", Gathered(value))
    assert policy.drift == {"layer": pytest.approx(0.5)}  # 2 was used for 4


def test_anderson_fits_each_state_to_all_residuals_up_to_it():
    """γ_k minimises Σ_{s ≤ k} |r_s − Δr_s·γ|², here by least squares; the state k moves by −(Δx_k + Δr_k)·γ_k."""
    generator, steps = torch.Generator().manual_seed(0), [1, 2, 3]

    def draw():
        return torch.randn(1, 5, dtype=torch.float64, generator=generator)

    now = {s: (draw(), draw()) for s in steps}
    changes = [{s: (draw(), draw()) for s in steps} for _ in range(2)]
    new = [draw() for _ in range(4)]
    refined = Anderson(memory=2, ridge=1e-14)._accelerated(now, changes, steps, new, 1)
    assert torch.equal(refined[0], new[0]) and torch.equal(refined[3], new[3])  # accepted, and behind the fit
    for k in (1, 2):
        before = steps[: k + 1]
        residuals = torch.cat([now[s][1][0] for s in before])
        moves = torch.stack([torch.cat([change[s][1][0] for s in before]) for change in changes], 1)
        gamma = torch.linalg.lstsq(moves, residuals[:, None]).solution[:, 0]
        move = sum(g * (change[steps[k]][0] + change[steps[k]][1]) for g, change in zip(gamma, changes, strict=True))
        torch.testing.assert_close(refined[k], new[k] - move, rtol=1e-8, atol=1e-10)
