"""Regulators against each other, loops and published identities."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from unisono.duration import (
    Alignment,
    IntegrateAndFire,
    LearnedUpsampling,
    box,
    filler_pad,
    gaussian,
    repeat,
    uniform,
)
from unisono.errors import UnisonoError

LENGTHS = torch.tensor([5, 3])


def inputs(dtype=torch.float32):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 3, generator=g, dtype=dtype)
    durations = torch.tensor([[2, 1, 4, 3, 1], [3, 1, 2, 8, 8]])
    return x, durations


def fire(frames, weights):
    """Continuous integrate-and-fire as published: a loop with one accumulator."""
    tokens, amount, vector = [], 0.0, np.zeros(frames.shape[1])
    for frame, weight in zip(frames, weights, strict=True):
        while amount + weight >= 1 - 1e-9:
            part = 1 - amount
            tokens.append(vector + part * frame)
            weight, amount, vector = weight - part, 0.0, np.zeros_like(vector)
        amount, vector = amount + weight, vector + weight * frame
    return np.array(tokens).reshape(-1, frames.shape[1]), amount, vector


def test_repeat_rounds_what_is_not_whole():
    x, durations = inputs()
    y, alignment = repeat(x, durations, LENGTHS)
    assert torch.equal(y, alignment.expand(x)) and alignment.tgt_lengths.tolist() == [11, 6]
    y, alignment = repeat(x, durations + 0.3, LENGTHS, speed=2.0, total=torch.tensor([7, 5]))
    assert alignment.tgt_lengths.tolist() == [7, 5] and y.shape == (2, 7, 3)


def test_box_of_whole_durations_is_repeat():
    x, durations = inputs()
    y, alignment = box(x, durations, LENGTHS)
    expected, hard = repeat(x, durations, LENGTHS)
    assert torch.equal(y, expected)
    assert alignment.kind == "box" and torch.equal(alignment.index, hard.index)
    torch.testing.assert_close(alignment.pool(y), hard.pool(y))


@given(st.lists(st.floats(0, 3, width=32), min_size=1, max_size=25))
@settings(max_examples=60, deadline=None)
def test_box_keeps_all_of_every_duration(values):
    d = torch.tensor([values], dtype=torch.float64)
    alignment = Alignment.from_durations(d)
    matrix = alignment.matrix()
    # The last frame may leave out a residue of a millionth.
    torch.testing.assert_close(matrix.sum(1), d, rtol=0, atol=2e-6)
    rows = matrix.sum(2)[0]
    torch.testing.assert_close(rows[:-1], torch.ones_like(rows[:-1]), rtol=0, atol=1e-9)


def test_box_of_small_weights_is_integrate_and_fire():
    g = torch.Generator().manual_seed(0)
    for n in (1, 7, 60):
        x = torch.randn(1, n, 4, generator=g)
        alpha = torch.rand(1, n, generator=g) * 0.9
        tokens, residue, vector = fire(x[0].double().numpy(), alpha[0].double().numpy())
        y, _ = box(x, alpha)
        # float32 products of vectors near 1.
        np.testing.assert_allclose(y[0, : len(tokens)], tokens, atol=2e-6)
        if residue > 1e-5:
            np.testing.assert_allclose(y[0, len(tokens)], vector, atol=2e-6)
        kept, alignment = box(x, alpha, tail=0.55)
        assert kept.shape[1] == len(tokens) + (residue >= 0.55)
        assert alignment.tgt_lengths.tolist() == [kept.shape[1]]


def test_box_with_a_total_fires_exactly_so_often():
    g = torch.Generator().manual_seed(0)
    alpha = torch.rand(8, 50, generator=g)
    lengths = torch.randint(10, 51, (8,), generator=g)
    total = torch.randint(1, 10, (8,), generator=g)
    x = torch.randn(8, 50, 2, generator=g)
    y, alignment = box(x, alpha, lengths, total=total)
    own = alpha.double() * (torch.arange(50) < lengths[:, None])
    scaled, _ = box(x, own * (total / own.sum(1))[:, None], lengths)
    torch.testing.assert_close(y, scaled[:, : y.shape[1]], rtol=0, atol=1e-5)
    assert torch.equal(alignment.tgt_lengths, total) and y.shape[1] == int(total.max())
    covered = alignment.matrix().sum(2)
    torch.testing.assert_close(covered, alignment.tgt_mask.double(), rtol=0, atol=1e-9)
    with refused(UnisonoError, "empty", "durations", value=0, names=["item 0", "to 3"]):
        box(torch.randn(1, 2, 1), torch.zeros(1, 2), total=torch.tensor([3]))


def test_a_residue_below_the_tail_is_dropped():
    x = torch.eye(3)[None]
    for tail, frames in ((0.0, 3), (0.3, 3), (0.4, 3), (0.55, 2), (1.0, 2)):  # of 2.4 frames
        y, alignment = box(x, torch.tensor([[0.9, 0.8, 0.7]]), tail=tail)
        assert alignment.tgt_lengths.tolist() == [frames] and y.shape[1] == frames


def test_streaming_integrate_and_fire_is_box():
    g = torch.Generator().manual_seed(0)
    x, alpha = torch.randn(1, 40, 3, generator=g), torch.rand(1, 40, generator=g)
    expected, _ = box(x, alpha)
    for tail in (0.0, 0.999):
        stream = IntegrateAndFire(tail)
        pieces = [stream.push(x[0, i : i + 7], alpha[0, i : i + 7]) for i in range(0, 40, 7)]
        assert stream.residue == pytest.approx(float(alpha.double().sum()) % 1, abs=1e-9)
        y = torch.cat([*pieces, stream.flush()])
        n = len(expected[0]) if tail == 0 else int(alpha.sum())
        torch.testing.assert_close(y, expected[0, :n], rtol=0, atol=1e-5)
    with refused(UnisonoError, "state", "flush"):
        stream.flush()


def test_gaussian_of_vanishing_sigma_is_repeat():
    x, durations = inputs()
    sigma = durations * 1e-3
    y, alignment = gaussian(x, durations, LENGTHS, sigma=sigma)
    torch.testing.assert_close(y, repeat(x, durations, LENGTHS)[0], rtol=0, atol=1e-6)
    assert alignment.kind == "soft"


def test_gaussian_against_its_formula():
    x, durations = inputs(torch.float64)
    sigma = torch.rand(2, 5) + 0.5
    y, alignment = gaussian(x, durations.double() * 0.9, LENGTHS, sigma=sigma)
    d = durations[1, :3].double() * 0.9
    centre = d.cumsum(0) - d / 2
    t = torch.arange(5)[:, None] + 0.5
    density = torch.distributions.Normal(centre, sigma[1, :3].double()).log_prob(t.double()).exp()
    expected = density / density.sum(1, keepdim=True) @ x[1, :3]
    torch.testing.assert_close(y[1, :5], expected)
    torch.testing.assert_close(alignment.weights.sum(2), alignment.tgt_mask.double())
    with refused(UnisonoError, "range", "sigma", value=0.0, names="above 0"):
        gaussian(x, durations, LENGTHS, sigma=0.0)


def test_gaussian_gives_no_weight_to_tokens_of_no_length():
    x, _ = inputs()
    durations = torch.tensor([[2, 0, 3, 0, 1], [0, 2, 0, 9, 9]])
    _, alignment = gaussian(x, durations, LENGTHS, sigma=5.0)
    keep = (durations > 0) & alignment.src_mask
    assert ((alignment.weights.sum(1) > 0) == keep).all()


def test_gradients_reach_durations_and_sigma():
    x, durations = inputs(torch.float64)
    x = x.requires_grad_()
    # Off the corners, where the overlap has a kink.
    d = (durations + 0.137).double().requires_grad_()
    sigma = torch.full((2, 5), 1.3, dtype=torch.float64, requires_grad=True)
    total = torch.tensor([9, 5])
    assert torch.autograd.gradcheck(lambda a, b: box(a, b, LENGTHS)[0], (x, d))
    assert torch.autograd.gradcheck(lambda a, b: box(a, b, LENGTHS, total=total)[0], (x, d))
    assert torch.autograd.gradcheck(lambda a, b, c: gaussian(a, b, LENGTHS, sigma=c)[0], (x, d, sigma))


def test_uniform():
    x, _ = inputs()
    y, alignment = uniform(x, LENGTHS, torch.tensor([10, 7]))
    assert alignment.durations.tolist() == [[2] * 5, [2, 2, 3, 0, 0]]
    assert torch.equal(y[0], x[0].repeat_interleave(2, dim=0))


def test_filler_pad():
    x, _ = inputs()
    filler = torch.tensor([7.0, 8.0, 9.0])
    y, alignment = filler_pad(x, LENGTHS, torch.tensor([5, 8]), filler)
    assert torch.equal(y[0, :5], x[0]) and torch.equal(y[1, :3], x[1, :3])
    assert torch.equal(y[1, 3:], filler.expand(5, -1)) and not y[0, 5:].any()
    assert alignment.tgt_lengths.tolist() == [5, 8]
    with refused(UnisonoError, "limit", "tgt_lengths", value=2, names=["item 1", "3 tokens", "2 frames"]):
        filler_pad(x, LENGTHS, torch.tensor([5, 2]), filler)


def test_learned_upsampling():
    torch.manual_seed(0)
    x, durations = inputs()
    model = LearnedUpsampling(3)
    y, alignment = model(x, durations, LENGTHS)
    assert y.shape == (2, 11, 3) and not y[1, 6:].any()
    torch.testing.assert_close(alignment.weights.sum(2), alignment.tgt_mask.float())
    alone, _ = model(x[1:, :3], durations[1:, :3], LENGTHS[1:])
    torch.testing.assert_close(alone[0], y[1, :6], rtol=0, atol=1e-6)
    fractional = (durations + 0.25).float().requires_grad_()
    model(x, fractional, LENGTHS)[0].square().sum().backward()
    assert fractional.grad[0].abs().min() > 0
    for name, parameter in model.named_parameters():
        # A constant added to every logit changes no softmax.
        assert parameter.grad.abs().sum() > 0 or name == "weight.4.bias"


def test_empty_batches():
    x, d = torch.zeros(0, 3, 2), torch.zeros(0, 3)
    none = torch.zeros(0, dtype=torch.int64)
    for regulate in (repeat, box, gaussian, LearnedUpsampling(2)):
        assert regulate(x, d)[0].shape == (0, 0, 2)
    assert uniform(x, none, none)[0].shape == (0, 0, 2)


@pytest.mark.parametrize("regulate", [gaussian, lambda *args: LearnedUpsampling(3)(*args)])
def test_an_item_without_a_token_has_no_frame_and_a_short_one_has_one(regulate):
    x, durations = torch.randn(3, 2, 3), torch.tensor([[4.0, 4.0], [0.1, 0.2], [1.2, 1.4]])
    y, alignment = regulate(x, durations, torch.tensor([0, 2, 2]))
    assert alignment.tgt_lengths.tolist() == [0, 1, 3]
    assert not y[0].any() and not y[1, 1:].any() and y.shape[1] == 3


def test_distances_of_learned_upsampling_are_divided_by_its_scale():
    """The same network at a scale of 1, its weights for the two distances divided instead."""
    torch.manual_seed(0)
    scaled, plain = LearnedUpsampling(3, scale=4.0).double(), LearnedUpsampling(3, scale=1.0).double()
    plain.load_state_dict(scaled.state_dict())
    with torch.no_grad():
        for network in (plain.weight, plain.auxiliary):
            network[0].weight[:, :2] /= 4
    x, durations = torch.randn(2, 3, 3).double(), torch.tensor([[2.0, 3.0, 1.5], [1.0, 4.0, 0.0]])
    torch.testing.assert_close(scaled(x, durations)[0], plain(x, durations)[0])
