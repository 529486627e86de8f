"""DEER against torch.nn.GRU, and against loops and closed forms."""

import pytest
import torch
from refused import refused
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from unisono.diffusion.solvers.deer import DeerError, ParallelGRU, deer
from unisono.errors import UnisonoError


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def make_gru(*args, dtype=torch.float64, scale=1.0, **kwargs):
    gru = nn.GRU(*args, **kwargs).to(dtype)
    with torch.no_grad():
        for n, parameter in enumerate(gru.parameters()):
            parameter.copy_(scale * draw(*parameter.shape, seed=100 + n, dtype=dtype) / gru.hidden_size**0.5)
    return gru


def answers(module, gru, x, h0):
    x, h0 = x.clone().requires_grad_(), h0.clone().requires_grad_()
    output, last = module(x, h0)
    weight = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).reshape(output.shape)
    gru.zero_grad()
    ((output * weight).sum() + last.square().sum()).backward()
    return [output.detach(), last.detach(), x.grad, h0.grad, *(p.grad.clone() for p in gru.parameters())]


@pytest.mark.parametrize("jacobian", ["full", "diagonal"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-4)], ids=["float64", "float32"]
)
@pytest.mark.parametrize(
    "options",
    [{}, {"num_layers": 2, "bidirectional": True, "batch_first": True}, {"bias": False}],
    ids=["plain", "deep both ways", "no bias"],
)
def test_states_and_gradients_are_those_of_torch(options, dtype, tolerance, jacobian):
    gru = make_gru(3, 5, dtype=dtype, **options)
    x = draw(4, 33, 3, dtype=dtype) if gru.batch_first else draw(33, 4, 3, dtype=dtype)
    h0 = draw(4 if gru.bidirectional else 1, 4, 5, seed=2, dtype=dtype)
    parallel = ParallelGRU(gru, jacobian)
    for found, expected in zip(answers(parallel, gru, x, h0), answers(gru, gru, x, h0), strict=True):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    for report in parallel.reports:
        assert report.converged and report.rounds < 33
        assert report.backward_residuals[-1] <= report.tolerance
        if jacobian == "full":
            # The adjoint is linear: one correction solves it, a second mends what rounding left.
            assert len(report.backward_residuals) <= 3


def test_newton_needs_far_fewer_rounds_than_positions():
    gru = make_gru(4, 8)
    x = draw(512, 2, 4)
    full, diagonal = ParallelGRU(gru), ParallelGRU(gru, "diagonal")
    with torch.no_grad():
        expected = gru(x)[0]
        torch.testing.assert_close(full(x)[0], expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(diagonal(x)[0], expected, rtol=1e-9, atol=1e-9)
    assert full.reports[0].rounds <= 12
    assert full.reports[0].rounds < diagonal.reports[0].rounds < 100
    assert full.reports[0].residuals[-1] < 1e-3 * full.reports[0].residuals[-2]  # quadratic at the end
    assert "512 positions" in str(full.reports[0])


def test_one_sequence_without_a_batch_and_without_a_first_state():
    gru = make_gru(3, 5)
    x = draw(9, 3)
    for found, expected in zip(ParallelGRU(gru)(x), gru(x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_an_affine_cell_takes_one_correction():
    matrix = 0.5 * draw(4, 4)
    h, report = deer(lambda u, h: u + h @ matrix.T, draw(50, 3, 4, seed=3), draw(3, 4, seed=4))
    assert report.rounds == 2
    state = draw(3, 4, seed=4)
    for u in draw(50, 3, 4, seed=3):
        state = u + state @ matrix.T
    torch.testing.assert_close(h[-1], state)


@pytest.mark.parametrize("jacobian", ["full", "diagonal"])
def test_any_cell_by_automatic_differentiation(jacobian):
    weight = (0.4 * draw(4, 4)).requires_grad_()
    u, h0 = draw(20, 2, 4, seed=5).requires_grad_(), draw(2, 4, seed=6).requires_grad_()

    def step(u, h):
        return torch.tanh(u + h @ weight.T)

    h, _ = deer(step, u, h0, jacobian=jacobian)
    found = torch.autograd.grad(h.square().sum(), [u, h0, weight])
    state, total = h0, 0.0
    for t in range(20):
        state = step(u[t], state)
        total = total + state.square().sum()
    torch.testing.assert_close(list(found), list(torch.autograd.grad(total, [u, h0, weight])), rtol=1e-9, atol=1e-9)


def test_a_chaotic_cell_ends_after_as_many_rounds_as_positions_or_says_that_it_did_not():
    gru = make_gru(3, 16, scale=20.0)
    x = draw(40, 1, 3)
    with torch.no_grad():
        patient = ParallelGRU(gru, "diagonal", max_rounds=41)
        # An error of rounding grows along the sequence as the cell is chaotic, here and in torch.
        torch.testing.assert_close(patient(x)[0][:8], gru(x)[0][:8], rtol=1e-6, atol=1e-6)
        hasty = ParallelGRU(gru, "diagonal", max_rounds=3)
        with refused(DeerError, "failed", "step", value=3, names=["max_rounds=3", "jacobian='full'"]) as caught:
            hasty(x)
    assert len(caught.value.report.residuals) == 3 and not caught.value.report.converged


def test_training_in_parallel_follows_training_in_order():
    x, target = draw(24, 4, 3), draw(24, 4, 6, seed=7)
    curves = []
    for wrap in (ParallelGRU, lambda gru: gru):
        gru = make_gru(3, 6)
        module, curve = wrap(gru), []
        optimizer = torch.optim.SGD(gru.parameters(), lr=0.5)
        for _ in range(5):
            loss = (module(x)[0] - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            curve.append(loss.detach())
        curves.append(torch.stack(curve))
    assert curves[0][-1] < curves[0][0]
    torch.testing.assert_close(*curves, rtol=1e-8, atol=0)


def test_what_cannot_be_done_is_said():
    gru = make_gru(3, 5, num_layers=2, dropout=0.5)
    with refused(UnisonoError, "state", "gru.dropout", value=0.5, names="0.5"):
        ParallelGRU(gru)(draw(4, 1, 3))
    gru.eval()
    with refused(UnisonoError, "shape", "x", value=(4, 1, 2), names="3 channels"):
        ParallelGRU(gru)(draw(4, 1, 2))
    with refused(UnisonoError, "shape", "h0", value=(1, 1, 5), names="(2, 1, 5)"):
        ParallelGRU(gru)(draw(4, 1, 3), draw(1, 1, 5))
    with refused(UnisonoError, "unsupported", "x", value="PackedSequence"):
        ParallelGRU(gru)(pack_sequence([draw(4, 3)]))
    with refused(UnisonoError, "type", "gru", value="LSTM"):
        ParallelGRU(nn.LSTM(3, 5))
    with refused(UnisonoError, "empty", "u", value=0):
        ParallelGRU(gru)(draw(0, 1, 3))
    with refused(UnisonoError, "unknown", "jacobian", value="half", names=["full", "diagonal"]):
        ParallelGRU(gru, "half")(draw(4, 1, 3))
    with refused(UnisonoError, "range", "tolerance", value=0):
        ParallelGRU(gru, tolerance=0)(draw(4, 1, 3))
    x = draw(6, 1, 3)
    x[4] = torch.nan
    with refused(DeerError, "failed", "step", value=0, names="position 4 of 6"):
        ParallelGRU(gru)(x)
