"""Single stages against values worked out by hand: scores in no particular order, values on the very threshold."""

import math
from dataclasses import replace

import pytest
import torch
import unisono.masked as um
from unisono.masked import Canvas, Handle, Layout, StepContext
from unisono.masked.stages.marginals import Marginals
from unisono.masked.training.corrupt import Corrupted


def context(p, strategy=None, memo=None, known=(), vocab_size=None):
    """One step of one row whose marginals are `p` [l, v]; float64, so that a threshold can be met exactly."""
    p = torch.tensor(p, dtype=torch.float64)
    layout = Layout.sequence(len(p), vocab_size or p.shape[1])
    canvas = Canvas.blank(layout, [3])
    where = torch.tensor([[i in known for i in range(len(p))]])
    canvas = canvas.freeze(torch.zeros_like(canvas.tokens), where)
    memo = {} if memo is None else memo
    planned = um.Plan(um.Everything(4))(canvas, memo)
    marginals = Marginals(p.log()[None])
    marginals.__dict__["top"] = p.amax(-1)[None]  # without the rounding of a logarithm and back
    return StepContext(canvas, Handle(None), planned, memo, _marginals=marginals)


def sites(where):
    return where[0].nonzero()[:, 0].tolist()


def score(*values):
    return torch.tensor([values], dtype=torch.float64)


def test_the_entropy_bound_subtracts_the_largest_entropy_of_the_prefix():
    """ΣH − max H along an order in which the largest entropy comes first, then small ones: not the last one's own."""
    p = [[0.5, 0.5], [0.9, 0.1], [0.8, 0.2], [1.0, 0.0]]
    h = [float(-sum(x * torch.tensor(x).log() for x in row if x)) for row in p]
    order = score(4.0, 3.0, 2.0, 1.0)  # most uncertain first
    # after two: H1 (.325); after three: H1 + H2 (.826); the last one adds nothing
    for gamma, count in ((h[1] * 0.99, 1), (h[1] * 1.01, 2), ((h[1] + h[2]) * 0.99, 2), ((h[1] + h[2]) * 1.01, 4)):
        assert sites(um.EntropyBound(gamma)(order, context(p))) == list(range(count)), gamma


def test_the_frechet_rule_holds_on_its_bound_and_not_beyond():
    p = [[0.75, 0.25], [0.875, 0.125], [0.75, 0.25], [0.5, 0.5]]  # ε = 1/4, 1/8, 1/4, 1/2: all exact in binary
    order = score(2.0, 3.0, 1.0, 4.0)
    assert sites(um.Frechet()(order, context(p))) == [3]  # 1/2 + 1/2 = 1, and 1/2 + 1/8 + 1/2 > 1
    order = score(2.0, 3.0, 1.0, 0.0)  # ε in order: 1/8, 1/4, 1/4, 1/2
    assert sites(um.Frechet()(order, context(p))) == [0, 1, 2]  # Σ + max: 1/4, 5/8, 7/8, 13/8
    assert sites(um.Frechet(slack=0.125)(order, context(p))) == [0, 1, 2]
    assert sites(um.Frechet(slack=0.126)(order, context(p))) == [0, 1]


def test_thresholds_are_not_met_by_what_is_equal():
    p = [[0.75, 0.25], [0.5, 0.5], [0.25, 0.75]]
    at = context(p)
    assert sites(um.Threshold(0.75)(at.marginals.top, at)) == []
    assert sites(um.Threshold(0.5)(at.marginals.top, at)) == [0, 2]
    # (n + 1)·(1 − c_n): 2·1/4, 3·1/4, 4·1/2
    assert sites(um.Factor(0.5)(at.marginals.top, at)) == []
    assert sites(um.Factor(0.75)(at.marginals.top, at)) == [0]
    assert sites(um.Factor(2.0)(at.marginals.top, at)) == [0, 2]
    assert sites(um.Factor(2.01)(at.marginals.top, at)) == [0, 1, 2]


def test_an_edit_needs_more_than_its_threshold():
    at = context([[0.25, 0.75], [0.25, 0.75], [0.125, 0.875]])
    at = replace(at, canvas=at.canvas.start_from(torch.zeros(1, 3, dtype=torch.int64), torch.ones(1, 3).bool()))
    assert um.Edit(0.75)(at, at.canvas).tokens.tolist() == [[0, 0, 1]]
    assert um.Edit(0.74)(at, at.canvas).tokens.tolist() == [[1, 1, 1]]


def test_a_settled_position_that_moves_starts_to_settle_anew():
    """Calm counts of KLASS: two quiet steps, a jump, and two quiet steps again before anything is committed."""
    quiet, other, memo, chosen = [[0.95, 0.05]], [[0.05, 0.95]], {}, []
    rule = um.KLStable(epsilon=0.01, confidence=0.9, patience=2)
    for p in (quiet, quiet, other, other, other):
        chosen.append(bool(rule(score(0.0), context(p, memo=memo)).any()))
        memo = {key: value for key, value in memo.items() if key.startswith("klass")}
    assert chosen == [False, False, False, False, True]


def test_settled_means_less_than_epsilon_and_surer_than_confidence():
    p = [[0.9, 0.1]]
    for rule, expected in (
        (um.KLStable(epsilon=0.0, confidence=0.5, patience=1), False),  # it moved by 0, which is not below 0
        (um.KLStable(epsilon=1e-9, confidence=0.5, patience=1), True),
        (um.KLStable(epsilon=1e-9, confidence=0.9, patience=1), False),
    ):
        memo = {}
        rule(score(0.0), context(p, memo=memo))
        memo = {key: value for key, value in memo.items() if key.startswith("klass")}
        assert bool(rule(score(0.0), context(p, memo=memo)).any()) == expected, rule


def test_a_code_spends_nothing_on_sites_that_are_not_live():
    """Two rows, of which one draws at one site and the other at two: each as if it were alone."""
    draw, p = um.ArithmeticCodes(2), [[0.3, 0.7], [0.6, 0.4]]
    logits = torch.tensor(p, dtype=torch.float64).log()[None].expand(2, -1, -1)
    canvas = Canvas.blank(Layout.sequence(2, 2), [4, 5])
    where = torch.tensor([[0, 1], [0, 1]])

    def run(rows, live):
        memo = {}
        planned = um.Plan(um.Everything())(canvas.rows(rows), memo)
        at = StepContext(canvas.rows(rows), Handle(None), planned, memo)
        draw(logits[rows], where[rows], live[rows], at)
        return memo["codes.code"], memo["codes.grain"]

    live = torch.tensor([[True, False], [True, True]])
    both, grains = run(torch.tensor([0, 1]), live)
    memo = {}
    planned = um.Plan(um.Everything())(canvas.rows(torch.tensor([0])), memo)
    at = StepContext(canvas.rows(torch.tensor([0])), Handle(None), planned, memo)
    draw(logits[:1, :1], where[:1, :1], live[:1, :1], at)  # one site and nothing beside it
    assert float(both[0]) == float(memo["codes.code"][0]) and float(grains[0]) == float(memo["codes.grain"][0])
    assert float(grains[1]) > 2.0**-52 * 1.4  # the other row has spent two tokens


def test_credit_grows_while_a_token_stays_the_likeliest():
    """c ← decay·c + p^gamma, the logit raised by strength·log(1 + c); another likeliest token starts from nothing."""
    rule, memo, found = um.Credit(strength=0.5, gamma=2.0, decay=0.5), {}, []
    for p in ([[0.6, 0.4]], [[0.7, 0.3]], [[0.2, 0.8]]):
        found.append(float(rule(context(p, memo=memo))))
        memo = {key: value for key, value in memo.items() if key.startswith("credit")}
    credit = [0.36, 0.5 * 0.36 + 0.49, 0.64]
    expected = [q * (1 + c) ** 0.5 / (1 - q + q * (1 + c) ** 0.5) for q, c in zip((0.6, 0.7, 0.8), credit, strict=True)]
    assert found == pytest.approx(expected, rel=1e-12)


def test_margin_and_entropy_scores_are_those_of_the_marginals():
    at = context([[0.5, 0.3, 0.2], [0.25, 0.25, 0.5], [0.0, 1.0, 0.0]])
    assert um.Margin()(at)[0].tolist() == pytest.approx([0.2, 0.25, 1.0])
    assert um.NegativeEntropy()(at)[0].tolist() == pytest.approx([-1.0296530, -1.0397208, 0.0], abs=1e-6)
    assert um.MaxProb()(at)[0].tolist() == pytest.approx([0.5, 0.5, 1.0])


def test_the_mean_loss_is_weighted():
    """Weights 3 and 1: (3·log 2 + 1·log 4) / 4, not over the two tokens that count."""
    layout = Layout.sequence(3, 2)
    logits = torch.tensor([[[0.5, 0.5], [0.75, 0.25], [0.1, 0.9]]]).log()
    targets, weights = torch.tensor([[0, 1, 0]]), torch.tensor([[3.0, 1.0, 0.0]]).double()
    corrupted = Corrupted(Canvas.blank(layout, [0]), targets, weights, torch.ones(1, 3, dtype=torch.bool))
    found = float(um.masked_cross_entropy(logits, corrupted))
    assert found == pytest.approx((3 * math.log(2) + math.log(4)) / 4, rel=1e-6)
    each = um.masked_cross_entropy(logits, corrupted, reduction="none")
    assert each[0].tolist() == pytest.approx([3 * 0.6931472, 1.3862944, 0.0], rel=1e-6)


def test_smoothed_labels_are_spread_over_the_vocabulary_of_a_position():
    layout = Layout.streams(1, [2, 3])  # positions hold 0..1 and 2..4
    logits = torch.tensor([[[0.0, 1.0, 9.0, 9.0, 9.0], [9.0, 9.0, 0.0, 1.0, 2.0]]])
    corrupted = Corrupted(
        Canvas.blank(layout, [0]), torch.tensor([[1, 4]]), torch.ones(1, 2).double(), torch.ones(1, 2).bool()
    )
    found = um.masked_cross_entropy(logits, corrupted, 0.2, "none")[0]
    for at, own in ((0, torch.tensor([0.0, 1.0])), (1, torch.tensor([0.0, 1.0, 2.0]))):
        logp = own.log_softmax(0)
        assert float(found[at]) == pytest.approx(float(-0.8 * logp[-1] - 0.2 * logp.mean()), rel=1e-6)


def test_temperatures_cool_to_greedy_in_the_last_step_of_each_group():
    logits = torch.tensor([[[1.0, 3.0, 2.0]]])
    planned = context([[0.5, 0.5]]).planned
    planned = replace(planned, step=torch.tensor([1]), steps=torch.tensor([4]), group=torch.tensor([1]))
    cooled = um.Temperature(2.0, anneal=True)(logits, planned)  # 2 · (1 − 2/4) = 1
    assert torch.equal(cooled, logits)
    assert torch.equal(um.Temperature((7.0, 0.5))(logits, planned), logits * 2)
    last = um.Temperature(2.0, anneal=True)(logits, replace(planned, step=torch.tensor([3])))
    assert last[0, 0].tolist() == [-torch.inf, 0.0, -torch.inf]


def test_shares_of_tokens_are_rounded_up():
    logits = torch.arange(10.0).view(1, 1, 10)
    planned = context([[0.5, 0.5]]).planned
    for share, kept in ((0.1, 1), (0.11, 2), (0.2, 2), (0.95, 10)):
        assert int((um.TopTokens(share=share)(logits, planned) > -torch.inf).sum()) == kept, share


def test_only_remaining_counts_of_the_schedule_are_committed_by_at_most():
    at = context([[0.9, 0.1]] * 4)
    at = replace(at, planned=replace(at.planned, count=torch.tensor([2])))
    chosen = um.AtMost(um.Threshold(0.5))(score(0.6, 0.9, 0.1, 0.8), at)
    assert sites(chosen) == [1, 3]
    chosen = um.Fallback(um.Threshold(0.95), count=None)(score(0.6, 0.9, 0.1, 0.8), at)
    assert sites(chosen) == [1, 3]
    chosen = um.Fallback(um.Threshold(0.95), count=3)(score(0.6, 0.9, 0.1, 0.8), at)
    assert sites(chosen) == [0, 1, 3]


def test_halton_in_time_orders_each_row_by_its_own_length():
    """Rows of 3 and of 70 frames of two streams: the orders of 64 and of 128, streams side by side."""
    canvas = Canvas.blank(Layout.streams(70, [2, 2], shared=True), [1, 2], [6, 140])
    memo = {}
    at = StepContext(canvas, Handle(None), um.Plan(um.Everything())(canvas, memo), memo)
    rank = -um.HaltonInTime(2)(at)
    for row, size in ((0, 64), (1, 128)):
        expected = um.halton_order(1, size)[:64]
        assert torch.equal(rank[row, 0:128:2], 2.0 * expected) and torch.equal(rank[row, 1:128:2], 2.0 * expected + 1)


def test_the_square_root_schedule_by_hand():
    """1 − √r: a quarter of the steps leaves half of the positions masked."""
    shares = um.square_root(torch.tensor([0.0, 0.25, 0.81, 1.0]), torch.tensor([10.0]))
    torch.testing.assert_close(shares, torch.tensor([1.0, 0.5, 0.1, 0.0]), rtol=0, atol=1e-6)
