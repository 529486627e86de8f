"""Losses of masked training: against PyTorch, and the bound against likelihoods that are listed."""

import itertools
import math

import numpy as np
import pytest
import torch
import unisono.masked as um
from refused import refused
from torch.nn import functional as F
from unisono.errors import UnisonoError
from unisono.masked import Canvas, Layout, Plan, Scheduled
from unisono.masked.training import corrupt
from unisono.masked.training.corrupt import Diffusion, PlanMasking
from unisono.masked.training.losses import masked_cross_entropy, negative_elbo, subs
from unisono.testing.oracles.masked import MASK, Joint

LAYOUT = Layout.streams(3, [4, 2])
TWO = Layout.streams(3, [4, 4], [0, 1], shared=True)


def example(layout=LAYOUT, rows=6):
    canvas = Canvas.blank(layout, range(rows), [layout.length] * (rows - 1) + [2])
    size = layout.vocab[:, 1] - layout.vocab[:, 0]
    generator = torch.Generator().manual_seed(0)
    tokens = layout.vocab[:, 0] + torch.randint(0, 100, (rows, layout.length), generator=generator) % size
    tokens = torch.where(canvas.padding, 77, tokens)  # padding may hold anything
    logits = torch.randn(rows, layout.length, layout.vocab_size, generator=generator, dtype=torch.float64)
    return PlanMasking(Plan(Scheduled(4)))(canvas, tokens), logits


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_pytorchs_where_hidden(smoothing):
    corrupted, logits = example()
    total, count = 0.0, 0
    each = masked_cross_entropy(logits, corrupted, smoothing, reduction="none")
    for row, at in itertools.product(range(6), range(6)):
        if corrupted.weights[row, at] == 0:
            assert each[row, at] == 0
            continue
        start, stop = LAYOUT.vocab[at].tolist()
        own, target = logits[row, at, start:stop], corrupted.targets[row, at] - start
        expected = F.cross_entropy(own[None], target[None], label_smoothing=smoothing)
        assert float(each[row, at]) == pytest.approx(float(expected), abs=1e-12)
        total, count = total + float(expected), count + 1
    assert count > 10
    assert float(masked_cross_entropy(logits, corrupted, smoothing)) == pytest.approx(total / count, abs=1e-12)


def test_infinite_logits_where_nothing_is_learnt_do_no_harm():
    corrupted, logits = example()
    logits.requires_grad_()
    clean = masked_cross_entropy(logits, corrupted)
    for poison in (-torch.inf, torch.nan):
        loss = masked_cross_entropy(torch.where((corrupted.weights == 0)[..., None], poison, logits), corrupted)
        assert torch.equal(loss, clean)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert gradient.isfinite().all() and gradient.any()


def test_gradients_reach_what_is_hidden_and_its_own_vocabulary_only():
    corrupted, logits = example()
    logits.requires_grad_()
    masked_cross_entropy(logits, corrupted, 0.1).backward()
    expected = (corrupted.weights > 0)[..., None] & ~LAYOUT.foreign()
    assert torch.equal(logits.grad != 0, expected)


def test_nothing_hidden_costs_nothing():
    canvas = Canvas.blank(TWO, [0]).freeze(torch.zeros(6, dtype=torch.int64), torch.ones(6, dtype=torch.bool))
    corrupted = PlanMasking(Plan(Scheduled(4)))(canvas, canvas.tokens)
    assert masked_cross_entropy(torch.randn(1, 6, 4), corrupted) == 0


def test_half_precision_logits_are_read_in_single():
    corrupted, logits = example()
    rough = masked_cross_entropy(logits.bfloat16(), corrupted)
    assert rough.dtype == torch.float32
    assert float(rough) == pytest.approx(float(masked_cross_entropy(logits.bfloat16().double(), corrupted)), rel=1e-5)


def test_subs_gives_laws_with_known_tokens_certain_and_foreign_ones_impossible():
    corrupted, logits = example()
    canvas = corrupted.canvas
    p = subs(logits, canvas).exp()
    real = ~canvas.padding
    torch.testing.assert_close(p.sum(-1), torch.ones_like(p[..., 0]), rtol=0, atol=1e-12)
    assert (p.gather(2, canvas.tokens[..., None])[..., 0] == 1)[canvas.known & real].all()
    assert not p[LAYOUT.foreign().expand_as(p) & real[..., None]].any()


# The bound

L, V = 3, 3
FLAT, BLOCKS = Layout.sequence(L, V), Layout.blocks(4, 2, 3)
ALPHAS = {"linear": None, "square": lambda t: 1 - t**2, "cosine": lambda t: torch.cos(t * math.pi / 2)}


class Warped(Joint):
    """A denoiser whose conditionals fit no joint law: those of a joint, sharpened by what is known."""

    def __call__(self, tokens, known, query):
        logits = super().__call__(tokens, known, query).clamp_min(-30)
        return (logits * (0.4 + 0.3 * known.sum(1))[:, None, None]).log_softmax(-1)


def expected_bound(model, layout, diffusion, monkeypatch, nodes=60):
    """E[negative_elbo] of every sequence: times by Gauss–Legendre, hidden positions by listing, through the code."""
    l = layout.length  # noqa: E741
    sequences = torch.tensor(list(itertools.product(range(V), repeat=l)))
    canvas = Canvas.blank(layout, [0] * len(sequences))
    groups = len(layout.group_sizes) if diffusion.grouped else 1
    x, w = np.polynomial.legendre.leggauss(nodes)
    bound = torch.zeros(len(sequences), dtype=torch.float64)
    for t, weight in zip((x + 1) / 2, w / 2, strict=True):
        time = torch.full((len(sequences),), t, dtype=torch.float64)
        rate = float(time[0] if diffusion.alpha is None else 1 - diffusion.alpha(time[:1])[0])
        for group in range(groups):
            members = [i for i in range(l) if not diffusion.grouped or layout.group[i] == group]
            lot = torch.full((len(sequences),), (group + 0.5) / groups, dtype=torch.float64)
            monkeypatch.setattr(corrupt, "_row_number", lambda *_, lot=lot: lot)
            for hidden in itertools.product([True, False], repeat=len(members)):
                numbers = torch.ones(len(sequences), l, dtype=torch.float64)
                numbers[:, members] = torch.where(torch.tensor(hidden), 0.0, 1.0).double()
                monkeypatch.setattr(corrupt, "_site_numbers", lambda *_, n=numbers: n)
                corrupted = diffusion.at(canvas, sequences, time)
                assert torch.equal(corrupted.weights[0, members] > 0, torch.tensor(hidden))
                chance = rate ** sum(hidden) * (1 - rate) ** (len(hidden) - sum(hidden)) / groups
                logits = model(corrupted.canvas.tokens, corrupted.canvas.known, None)
                bound += weight * chance * negative_elbo(logits, corrupted)
    return bound


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_bound_of_a_consistent_network_is_its_negative_log_likelihood(alpha, monkeypatch):
    """Whatever α is: the chain rule in a random order, and one joint law has the same in each."""
    joint = Joint.random(L, V, seed=1, concentration=1.0)
    bound = expected_bound(joint, FLAT, Diffusion(ALPHAS[alpha], min_time=0.0), monkeypatch)
    expected = -torch.from_numpy(np.log(joint.p.reshape(-1)))
    torch.testing.assert_close(bound, expected, rtol=0, atol=1e-9)


def test_the_bound_by_groups_is_the_likelihood_too(monkeypatch):
    """One group drawn of two: the weights make up for the other."""
    joint = Joint.random(4, V, seed=2, concentration=1.0)
    bound = expected_bound(joint, BLOCKS, Diffusion(min_time=0.0, grouped=True), monkeypatch, nodes=6)
    expected = -torch.from_numpy(np.log(joint.p.reshape(-1)))
    torch.testing.assert_close(bound, expected, rtol=0, atol=1e-10)


def listed_orders(model):
    """(the law of first-hitting decoding, E over orders of −log of the product of conditionals)."""
    law, surprisal = np.zeros((V,) * L), np.zeros((V,) * L)
    orders = list(itertools.permutations(range(L)))
    for x in itertools.product(range(V), repeat=L):
        for order in orders:
            tokens, log_p = [MASK] * L, 0.0
            for i in order:
                now = torch.tensor([tokens])
                log_p += float(model(now.clamp_min(0), now >= 0, None)[0, i, x[i]])
                tokens[i] = x[i]
            law[x] += math.exp(log_p) / len(orders)
            surprisal[x] -= log_p / len(orders)
    return law, surprisal


def test_the_bound_of_any_network_is_above_the_negative_log_likelihood_of_its_sampler(monkeypatch):
    model = Warped(Joint.random(L, V, seed=3, concentration=1.0).p)
    bound = expected_bound(model, FLAT, Diffusion(min_time=0.0), monkeypatch, nodes=6).numpy().reshape((V,) * L)
    law, surprisal = listed_orders(model)
    assert law.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(bound, surprisal, atol=1e-10)
    gap = bound + np.log(law)
    assert gap.min() > -1e-12 and gap.max() > 0.01


def test_a_factorised_network_pays_the_sum_of_its_marginals(monkeypatch):
    single = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8]], dtype=torch.float64).log()
    bound = expected_bound(
        lambda tokens, known, query: single.expand(len(tokens), L, V),
        FLAT,
        Diffusion(min_time=0.0),
        monkeypatch,
        nodes=6,
    )
    expected = [-sum(float(single[i, x[i]]) for i in range(L)) for x in itertools.product(range(V), repeat=L)]
    torch.testing.assert_close(bound, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_listing_sees_a_wrong_weight(monkeypatch):
    joint = Joint.random(L, V, seed=1, concentration=1.0)
    monkeypatch.setattr(corrupt, "_rate", lambda alpha, time: torch.ones_like(time))
    bound = expected_bound(joint, FLAT, Diffusion(min_time=0.0), monkeypatch, nodes=6)
    assert float((bound + torch.from_numpy(np.log(joint.p.reshape(-1)))).abs().max()) > 0.1


def test_drawn_bounds_average_to_the_likelihood():
    """The corruption as it runs, on one sequence: 40,000 draws, stratified times."""
    joint = Joint.random(L, V, seed=1, concentration=1.0)
    canvas = Canvas.blank(FLAT, um.row_seeds(1, 40_000))
    tokens = torch.tensor([[2, 0, 1]]).expand(40_000, L)
    corrupted = Diffusion(min_time=0.0)(canvas, tokens)
    bounds = negative_elbo(joint(corrupted.canvas.tokens, corrupted.canvas.known, None), corrupted)
    error = float(bounds.std()) / math.sqrt(40_000)
    assert abs(float(bounds.mean()) + math.log(joint.p[2, 0, 1])) < 4 * error
    assert error < 0.05


def test_wrong_input_is_one_sentence():
    corrupted, logits = example()
    b, n, v = logits.shape
    for code, path, value, call in [
        ("unknown", "reduction", "sum", lambda: masked_cross_entropy(logits, corrupted, reduction="sum")),
        ("range", "label_smoothing", 1.0, lambda: masked_cross_entropy(logits, corrupted, 1.0)),
        ("type", "label_smoothing", "0", lambda: masked_cross_entropy(logits, corrupted, "0")),
        ("shape", "logits", (b, 5, v), lambda: masked_cross_entropy(logits[:, :5], corrupted)),
        ("shape", "logits", (b, n, 5), lambda: masked_cross_entropy(logits[..., :5], corrupted)),
        ("missing", "corrupted.time", None, lambda: negative_elbo(logits, corrupted)),
    ]:
        with refused(UnisonoError, code, path, value=value):
            call()
