"""Numbers that masked decoding draws by, and filters of logits, against sorted lists and laws."""

import math
from dataclasses import replace

import pytest
import torch
import unisono.masked as um
from refused import refused
from unisono.errors import UnisonoError
from unisono.masked import Canvas, Layout, decode
from unisono.masked import random as counter
from unisono.masked.stages.draw import invert
from unisono.masked.stages.warp import _by_torch
from unisono.model import Request
from unisono.seeds import MAX_SEED


def test_random_numbers_match_the_published_generator():
    """SplitMix64 from seed 1234567, as in its reference implementation."""
    states = torch.tensor([1234567]) + torch.tensor([1, 2, 3]) * counter._GAMMA
    got = [z & (2**64 - 1) for z in counter._mix(states).tolist()]
    assert got == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_random_numbers_are_uniform_and_apart():
    rows, sites = torch.arange(400), torch.arange(200)
    u = counter.uniform(rows, rows * 0, sites, counter.DRAW)
    assert float(u.min()) > 0 and float(u.max()) < 1
    assert abs(float(u.mean()) - 0.5) < 4 / math.sqrt(12 * u.numel())
    histogram = torch.histc(u.float(), 100, 0, 1)
    assert float(((histogram - 800) ** 2 / 800).sum()) < 99 + 6 * math.sqrt(198)
    for other in (
        counter.uniform(rows, rows * 0 + 1, sites, counter.DRAW),
        counter.uniform(rows, rows * 0, sites, counter.SCORE),
        counter.uniform(rows + 1, rows * 0, sites, counter.DRAW),
        counter.uniform(rows, rows * 0, sites + 1, counter.DRAW),
    ):
        assert abs(float(torch.corrcoef(torch.stack([u.flatten(), other.flatten()]))[0, 1])) < 5 / math.sqrt(u.numel())
    assert len(torch.unique(um.row_seeds(7, 100))) == 100
    for wrong in (-1, MAX_SEED + 1):
        with refused(UnisonoError, "range", "seed", value=wrong, names=str(MAX_SEED)):
            um.row_seeds(wrong, 3)


def test_rows_of_any_request_seed_have_seeds_of_their_own():
    seeds = [0, 1, 2**42 - 1, 2**42, 2**42 + 1, 2**44, 2**44 + 1, 2**62, 2**62 + 2**42, MAX_SEED - 1, MAX_SEED]
    rows = torch.cat([um.row_seeds(seed, 4096) for seed in seeds])
    assert rows.unique().numel() == len(rows)
    assert torch.equal(um.row_seeds(2**42 - 1, 2), torch.tensor([2**62 - 2**20, 2**62 - 2**20 + 1]))  # as shipped
    assert Request(seed=MAX_SEED).seed == MAX_SEED


def test_arithmetic_codes_cover_the_law_evenly():
    """64 rows of one lattice hit each token of one position as often as its probability says, to one row."""
    p = torch.tensor([0.5, 0.25, 0.125, 0.125])

    def model(tokens, known, query):
        return p.log().expand(*tokens.shape, 4)

    strategy = replace(um.random_order(), score=um.Rank(torch.arange(2)), draw=um.ArithmeticCodes(64))
    tokens = decode(model, Canvas.blank(Layout.sequence(2, 4), torch.arange(64)), strategy).tokens
    assert (torch.bincount(tokens[:, 0], minlength=4) - 64 * p).abs().max() <= 1
    pairs = torch.bincount(tokens[:, 0] * 4 + tokens[:, 1], minlength=16).view(4, 4)
    assert (pairs - 64 * p[:, None] * p).abs().max() <= 1
    free = decode(model, Canvas.blank(Layout.sequence(2, 4), torch.arange(64)), um.random_order()).tokens
    assert (torch.bincount(free[:, 0], minlength=4) - 64 * p).abs().max() > 1


def test_arithmetic_codes_do_not_run_out():
    """200 fair coins from one code: the last ones are as fair as the first, and no code repeats itself."""

    def model(tokens, known, query):
        return torch.zeros(*tokens.shape, 2)

    strategy = replace(um.random_order(), score=um.Rank(torch.arange(200)), draw=um.ArithmeticCodes(512))
    tokens = decode(model, Canvas.blank(Layout.sequence(200, 2), torch.arange(512)), strategy).tokens.double()
    late = tokens[:, 150:]
    assert abs(float(late.mean()) - 0.5) < 4 * 0.5 / math.sqrt(late.numel())
    assert float(torch.corrcoef(late.T).fill_diagonal_(0).abs().max()) < 6 / math.sqrt(512)
    assert len(torch.unique(late, dim=0)) == 512


def test_warps_on_paper():
    p = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.double)
    logits = p.log()[None, None]
    planned = um.Plan(um.Fixed(1))(Canvas.blank(Layout.sequence(1, 4), [0]), {})

    def left(warp):
        return [round(x, 4) for x in warp(logits, planned).softmax(-1)[0, 0].tolist()]

    assert left(um.Nucleus(0.8)) == [0.625, 0.375, 0, 0]  # the token that reaches .8 belongs to it
    assert left(um.Nucleus(0.81)) == [0.5263, 0.3158, 0.1579, 0]
    assert left(um.Nucleus(0.01)) == [1, 0, 0, 0]
    assert left(um.TopTokens(2)) == left(um.TopTokens(share=0.5)) == [0.625, 0.375, 0, 0]
    assert left(um.Temperature(2.0)) == [round(x, 4) for x in (p.sqrt() / p.sqrt().sum()).tolist()]
    assert left(um.Suppress((0,))) == [0, 0.6, 0.3, 0.1]
    assert left(um.Typical(0.2)) == [0, 1, 0, 0]  # −log .3 = 1.20 is nearest the entropy, 1.14
    assert left(um.Chain(um.TopTokens(2), um.Temperature(0))) == [1, 0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("p", [0.15, 0.9, 1.0])
def test_filters_keep_what_a_sorted_list_keeps(dtype, ties, p):
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(1, 8, 301, generator=generator, dtype=dtype) * 2
    logits = (logits.round() if ties else logits).masked_fill(logits > 3.5, -torch.inf)
    prob = logits.double().softmax(-1)[0]
    surprise = -logits.double().log_softmax(-1)[0]
    entropy = torch.special.entr(prob).sum(-1, keepdim=True)
    for warp, far in ((um.Nucleus(p), -prob), (um.Typical(p), (surprise - entropy).abs().float())):
        kept = warp(logits, None)[0]
        for row in range(8):
            total, expected = 0.0, set()
            for token in sorted(range(301), key=lambda t: (float(far[row, t]), t)):
                if total >= p - 1e-6 and (p < 1 or prob[row, token] == 0):
                    break
                expected.add(token)
                total += float(prob[row, token])
            assert set(kept[row].isfinite().nonzero()[:, 0].tolist()) == expected
            assert torch.equal(kept[row, sorted(expected)], logits[0, row, sorted(expected)])


@pytest.mark.parametrize("p", [1e-9, 0.3, 0.9, 0.999999])
def test_partial_selection_keeps_what_a_whole_sort_keeps(p, monkeypatch):
    """Rows made to defeat a selection of few: many equals at the cut, nearly all forbidden, one token, all needed."""
    v, generator = 700, torch.Generator().manual_seed(5)
    monkeypatch.setattr("unisono.masked.stages.warp._LARGE", 256)
    flat, two, one = torch.zeros(v), torch.zeros(v), torch.full((v,), -torch.inf)
    two[::2], one[123] = 1.0, 0.0  # entropy between two surprises: equal distances on both sides
    few = torch.full((v,), -torch.inf).index_fill(0, torch.tensor([3, 4, 699]), 2.0)
    noise = torch.randn(v, generator=generator)
    peaked = noise.clone().index_fill(0, torch.tensor([350]), 50.0)
    logits = torch.stack([flat, two, one, few, noise, noise.round(), peaked, noise * 1e-4, -0.0 * flat])[None]
    for warp in (um.Typical(p), um.Nucleus(p)):
        whole = v + 1  # as large as this, a vocabulary is "small" and sorted at once
        got = warp(logits, None)
        with monkeypatch.context() as patch:
            patch.setattr("unisono.masked.stages.warp._SMALL", whole)
            patch.setattr("unisono.masked.stages.warp._LARGE", whole)
            expected = warp(logits, None)
            patch.setattr("unisono.masked.stages.warp._by_numpy", _by_torch)  # as on a GPU
            by_torch = warp(logits, None)
        assert torch.equal(got, expected) and torch.equal(got, by_torch)
        size = got.isfinite().sum(-1)[0]
        assert size[2] == 1 and size[0] == size[8] == max(1, math.ceil((p - 1e-6) * v))
        assert torch.equal(got[0, 0].isfinite(), torch.arange(v) < size[0])  # of equals the first


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_lowest_and_the_highest_number_draw_what_can_be_drawn(dtype):
    logits = torch.full((1, 2, 5000), -torch.inf, dtype=dtype)
    logits[0, :, 3000], logits[0, :, 3500] = 0.0, -30.0
    assert invert(logits, torch.tensor([[0.0, 1 - 2**-53]], dtype=torch.float64)).tolist() == [[3000, 3500]]
