"""State spaces: three ways to one result, against the formula, matrices, and any split."""

from itertools import pairwise

import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from unisono.nn.selective import SelectiveBlock, gated_scan
from unisono.nn.state_space import StateSpace, StateSpaceBlock, StateSpaceStack, TwoWayBlock, TwoWayStack

METHODS = ("convolution", "scan", "recurrence")


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def space(dim=3, state_dim=8, seed=0) -> StateSpace:
    torch.manual_seed(seed)
    made = StateSpace(dim, state_dim)
    with torch.no_grad():
        for number, parameter in enumerate(made.parameters()):
            parameter += 0.1 * draw(*parameter.shape, seed=number, dtype=torch.float32)
    return made.double()


def one_way() -> StateSpaceStack:
    torch.manual_seed(0)
    return StateSpaceStack([StateSpaceBlock(4, 8), SelectiveBlock(4), StateSpaceBlock(4, 8)], 4)


def two_way() -> TwoWayStack:
    torch.manual_seed(0)
    return TwoWayStack([TwoWayBlock(4, 8), TwoWayBlock(4, 8)], 4)


def test_it_is_the_sampled_differential_equation():
    """s' = a s + u with u held over Δ, y = 2 Re c s + D u: by the matrix exponential of the augmented system."""
    layer, u = space(dim=2, state_dim=4), draw(1, 11, 2)
    rate = torch.complex(-layer.log_decay.exp(), layer.frequency)
    for channel in range(2):
        delta, c = layer.log_step[channel].exp(), torch.view_as_complex(layer.readout)[channel]
        system = torch.zeros(3, 3, dtype=torch.complex128)
        system[:2, :2], system[:2, 2] = torch.diag(rate[channel]), 1
        hold = torch.from_numpy(scipy.linalg.expm((system * delta).detach().numpy()))  # torch's is off by 5e-11
        state, expected = torch.zeros(2, dtype=torch.complex128), []
        for value in u[0, :, channel]:
            state = hold[:2, :2] @ state + hold[:2, 2] * value
            expected.append(2 * (c * state).sum().real + layer.skip[channel] * value)
        torch.testing.assert_close(layer(u)[0, :, channel], torch.stack(expected), rtol=1e-10, atol=1e-10)


def test_convolution_scan_and_recurrence_are_one():
    layer, u = space(), draw(2, 37, 3)
    state = torch.complex(draw(2, 3, 4, seed=1), draw(2, 3, 4, seed=2))
    results = [layer.resume(u, state, method) for method in METHODS]
    for y, last in results[1:]:
        torch.testing.assert_close(y, results[0][0], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(last, results[0][1], rtol=1e-10, atol=1e-10)
    from_nothing = layer.resume(u, layer.begin(2), "recurrence")[0]
    torch.testing.assert_close(layer(u), from_nothing, rtol=1e-10, atol=1e-10)
    stepped, at = [], state
    for t in range(u.shape[1]):
        y, at = layer.step(u[:, t], at)
        stepped.append(y)
    torch.testing.assert_close(torch.stack(stepped, 1), results[0][0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_are_those_of_the_convolution(method):
    layer, u = space(), draw(2, 19, 3).requires_grad_()
    names = [name for name, _ in layer.named_parameters()]
    weight = draw(2, 19, 3, seed=3)
    wanted = torch.autograd.grad((layer(u) * weight).sum(), [*layer.parameters(), u])
    found = torch.autograd.grad((layer.resume(u, layer.begin(2), method)[0] * weight).sum(), [*layer.parameters(), u])
    for name, one, other in zip([*names, "u"], wanted, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10, msg=name)


def test_the_kernel_is_the_answer_to_an_impulse():
    layer = space()
    impulse = torch.zeros(1, 20, 3, dtype=torch.float64)
    impulse[:, 0] = 1
    answer = layer(impulse)[0].T
    answer[:, 0] -= layer.skip
    torch.testing.assert_close(layer.kernel(20), answer, rtol=1e-10, atol=1e-10)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n), max_size=4))),
    st.sampled_from(METHODS),
)
def test_resumed_at_any_split_is_the_whole(split, method):
    length, cuts = split
    stack = one_way()
    x = draw(2, length, 4, dtype=torch.float32)
    borders = sorted({0, *cuts, length})
    states, made = stack.begin(2), []
    for start, stop in pairwise(borders):
        y, states = stack.resume(x[:, start:stop], states, method)
        made.append(y)
    torch.testing.assert_close(torch.cat(made, 1), stack(x), rtol=1e-5, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=4))
def test_alone_is_as_in_a_ragged_batch(lengths):
    onward, every = one_way().double(), two_way().double()
    x = draw(len(lengths), max(lengths), 4)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    together, both = onward(x), every(x, mask)
    for row, length in enumerate(lengths):
        own = x[row : row + 1, :length]
        torch.testing.assert_close(together[row, :length], onward(own)[0], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(both[row, :length], every(own)[0], rtol=1e-10, atol=1e-10)
        assert not both[row, length:].any()


def test_a_place_knows_those_before_and_both_ways_all():
    x = draw(1, 12, 4)
    changed = x.clone()
    changed[:, 7, 0] += 1
    onward, every = one_way().double(), two_way().double()
    moved = (onward(x) - onward(changed)).abs().amax(-1)[0]
    assert (moved[:7] < 1e-12).all() and (moved[7:] > 1e-9).all()
    assert ((every(x) - every(changed)).abs().amax(-1)[0] > 1e-9).all()


def test_half_precision_around_it_changes_nothing_within():
    layer, u = StateSpace(3, 8), draw(2, 9, 3, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(u), layer(u.clone())) and layer(u).dtype == torch.float32
        low = layer(u.bfloat16())
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), layer(u), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("sizes", [(0, 8), (4, 0), (4, 3)])
def test_sizes_that_are_none_are_refused(sizes):
    with pytest.raises(ValueError, match="state_dim"):
        StateSpace(*sizes)


@pytest.mark.parametrize("method", METHODS)
def test_a_gate_holds_and_replaces(method):
    """Closed: the state stays; open: the value replaces it; between: the loop's own mean."""
    gate, value, state = draw(2, 9, 3).sigmoid(), draw(2, 9, 3, seed=1), draw(2, 3, seed=2)
    gate[:, 3], gate[:, 6] = 0, 1
    made = gated_scan(gate, value, state, method)
    expected = []
    for t in range(9):
        state = (1 - gate[:, t]) * state + gate[:, t] * value[:, t]
        expected.append(state)
    torch.testing.assert_close(made, torch.stack(expected, 1), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(made[:, 3], made[:, 2], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(made[:, 6], value[:, 6], rtol=1e-12, atol=1e-12)


def test_a_selective_block_gives_the_gradients_of_its_recurrence():
    torch.manual_seed(0)
    block, x = SelectiveBlock(4).double(), draw(2, 9, 4)
    grads = []
    for method in ("scan", "recurrence"):
        made, _ = block.resume(x, block.begin(2), method)
        grads.append(torch.autograd.grad((made * draw(2, 9, 4, seed=1)).sum(), list(block.parameters())))
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)
