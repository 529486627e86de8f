"""What can be proved of the library's own step: enumerated over every context, to 1e-12.

A draw that takes the token it is told, and a batch of every context times every token, turn one step of
the real code into a kernel with exact probabilities.
"""

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import unisono.masked as um
from unisono.masked import Canvas, Handle, Layout, decode
from unisono.masked.run.step import step
from unisono.testing.oracles.masked import MASK, Joint, Markov, divergence, push, surprise, total_variation

L, V = 4, 3
FLAT = Layout.sequence(L, V)
CONTEXTS = list(itertools.product([*range(V), MASK], repeat=L))


@dataclass(frozen=True)
class Told:
    """Draws the token of each row's number; keeps the probabilities it was given."""

    seen: dict
    exact = True

    def __call__(self, logits, sites, live, at):
        self.seen["p"], self.seen["sites"], self.seen["live"] = logits.softmax(-1), sites, live
        return (torch.arange(len(sites)) % V)[:, None].expand_as(sites)


def canvas_of(contexts, layout=FLAT, seed=0):
    x = torch.tensor(contexts)
    blank = Canvas.blank(layout, torch.full((len(x),), seed))
    return blank.start_from(x.clamp_min(0), x != MASK)


def kernel_of(joint, strategy, layout=FLAT, seed=0):
    """One step of the real code, over all contexts and tokens, as {context: [(after, probability)]}."""
    open_ = [x for x in CONTEXTS if MASK in x]
    seen: dict = {}
    rows = [x for x in open_ for _ in range(V)]
    after = step(Handle(joint), canvas_of(rows, layout, seed), replace(strategy, draw=Told(seen)))
    assert (seen["live"].sum(1) == 1).all()
    outcomes: dict = {}
    for i, x in enumerate(rows):
        y = tuple(torch.where(after.known[i], after.tokens[i], MASK).tolist())
        outcomes.setdefault(x, []).append((y, float(seen["p"][i, 0, i % V])))
    return lambda x, memory, n: [(y, None, q) for y, q in outcomes[x]]


EXACT = {
    "random": um.random_order(),
    "random order": replace(um.random_order(), score=um.RandomOrder()),
    "top probability": um.dream(4, "max_prob"),
    "margin": um.dream(4, "margin"),
    "entropy": um.dream(4, "entropy"),
    "perturbed": um.dream(4, "entropy", choice_temperature=1.0),
    "credit": replace(um.credit(), plan=um.Plan(um.Fixed(1)), select=um.TopK(), draw=um.Categorical()),
    "rank": um.by_rank(torch.tensor([2, 0, 3, 1]), 4),
    "Halton": um.halton(2, 2, 4),
    "choose then draw": um.choose_then_draw(4, choice_temperature=1.0),
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("layout", [FLAT, Layout.blocks(L, 2, V)], ids=["flat", "blocks"])
def test_choosing_first_is_exact_at_one_token_per_step(name, layout):
    strategy = replace(EXACT[name], plan=um.Plan(um.Fixed(1)))
    assert strategy.exact_at_one and not strategy.uses_draw
    for seed in range(3):
        joint = Joint.random(L, V, seed)
        assert total_variation(push(kernel_of(joint, strategy, layout, seed), joint), joint.p) < 1e-12


def test_drawing_first_is_not_and_says_so():
    for strategy in (um.maskgit(4), um.llada(4, 1.0), um.soundstorm((4,)), um.vampnet(4), um.maskgct(4), um.mmm()):
        assert strategy.uses_draw and not strategy.exact_at_one, strategy.name
    for strategy in (um.fast_dllm(), um.one_pass(), um.remdm(4), um.block_diffusion(4, nucleus=0.9)):
        assert not strategy.exact_at_one, strategy.name


def chosen_sets(joint, strategy):
    """The positions that one step of the real code commits in each context."""
    open_ = [x for x in CONTEXTS if MASK in x]
    before = canvas_of(open_)
    after = step(Handle(joint), before, strategy)
    sets = (after.known & ~before.known).tolist()
    return {x: [i for i in range(L) if s[i]] for x, s in zip(open_, sets, strict=True)}


def conditional(joint, x, positions):
    """p(x_S | context) as an array, one axis per position of S."""
    sub = joint.p[tuple(slice(None) if t == MASK else t for t in x)]
    free = [i for i, t in enumerate(x) if t == MASK]
    return sub.sum(axis=tuple(a for a, i in enumerate(free) if i not in positions)) / sub.sum()


def entropy(p):
    p = p[p > 0]
    return -(p * np.log(p)).sum()


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0])
def test_the_entropy_bound_holds_in_every_context(gamma):
    several = 0
    for seed in range(4):
        joint = Joint.random(L, V, seed)
        for x, where in chosen_sets(joint, um.entropy_bounded(gamma)).items():
            together = conditional(joint, x, where)
            apart = [
                entropy(together.sum(axis=tuple(b for b in range(len(where)) if b != a))) for a in range(len(where))
            ]
            assert sum(apart) - entropy(together) <= gamma + 1e-8  # total correlation of what is drawn at once
            several += len(where) > 1
    assert several > 20 or gamma < 0.5


def test_the_frechet_rule_commits_the_jointly_likeliest_in_every_context():
    several = 0
    for seed in range(8):
        joint = Joint.random(L, V, seed, concentration=0.05 if seed % 2 else 0.3)
        for x, where in chosen_sets(joint, um.frechet()).items():
            together = conditional(joint, x, where)
            marginal = [together.sum(axis=tuple(b for b in range(len(where)) if b != a)) for a in range(len(where))]
            alone = tuple(int(m.argmax()) for m in marginal)
            assert together[alone] >= together.max() - 1e-12
            several += len(where) > 1
    assert several > 60


def test_a_looser_rule_than_frechets_is_caught():
    """Power: committing everything above 0.5 breaks the certificate somewhere."""
    wrong = 0
    for seed in range(8):
        joint = Joint.random(L, V, seed)
        for x, where in chosen_sets(joint, um.fast_dllm(0.5)).items():
            together = conditional(joint, x, where)
            marginal = [together.sum(axis=tuple(b for b in range(len(where)) if b != a)) for a in range(len(where))]
            wrong += together[tuple(int(m.argmax()) for m in marginal)] < together.max() - 1e-12
    assert wrong > 0


def moved(joint, reviser, seed):
    """How far one correction moves the joint itself: mask again as the real code says, fill from the marginals."""
    everything = [x for x in CONTEXTS if MASK not in x]
    canvas = canvas_of(everything, seed=seed)
    alone = [[joint.marginals((*x[:i], MASK, *x[i + 1 :]))[i, x[i]] for i in range(L)] for x in everything]
    canvas = replace(canvas, memo={"commit.p": torch.tensor(alone)})
    after = step(Handle(joint), canvas, replace(um.random_order(), revise=reviser))
    law = np.zeros_like(joint.p)
    for i, x in enumerate(everything):
        y = tuple(torch.where(after.known[i], after.tokens[i], MASK).tolist())
        free = [j for j in range(L) if y[j] == MASK]
        p = joint.marginals(y)
        for values in itertools.product(range(V), repeat=len(free)):
            z, q = list(y), joint.p[x]
            for j, v in zip(free, values, strict=True):
                z[j], q = v, q * p[j, v]
            law[tuple(z)] += q
    return total_variation(law, joint.p)


def test_gibbs_leaves_the_law_and_value_dependent_revision_moves_it():
    joint = Joint.random(L, V, 0)
    kept = um.Correct(1, 1, "random")
    assert kept.keeps_law and um.Never().keeps_law
    assert max(moved(joint, kept, seed) for seed in range(8)) < 1e-12
    for reviser in (um.Correct(1, 1, "lowest"), um.Correct(1, 2, "random")):
        assert not reviser.keeps_law
        assert max(moved(joint, reviser, seed) for seed in range(4)) > 0.02
    for reviser in (um.Edit(0.5), um.KeepBest(), um.Remasking("cap", 4, 0.1)):
        assert not reviser.keeps_law


def test_an_edit_moves_the_law():
    """With every position's marginals given all others, known or not, an edit prefers the likeliest token."""
    joint = Joint.random(L, V, 0)
    law = np.zeros_like(joint.p)
    for x in itertools.product(range(V), repeat=L):
        p = [joint.marginals((*x[:i], MASK, *x[i + 1 :]))[i] for i in range(L)]

        def model(tokens, known, query, p=p):
            return torch.tensor(np.array([*p, np.full(V, 1 / V)])).log().expand(len(tokens), L + 1, V)

        # a fifth position is still masked, so that the row takes a step
        canvas = Canvas.blank(Layout.sequence(L + 1, V), [0])
        canvas = canvas.start_from(torch.tensor([*x, 0]), torch.tensor([True] * L + [False]))
        after = decode(model, canvas, replace(um.random_order(), revise=um.Edit(0.5)))
        law[tuple(after.tokens[0, :L].tolist())] += joint.p[x]
    assert total_variation(law, joint.p) > 0.2


def test_correction_after_few_steps_beats_as_many_steps():
    """Two steps of masked diffusion and Gibbs rounds against as many evaluations of masked diffusion."""
    joint, rows = Joint.random(L, V, 0), 20_000
    blank = Canvas.blank(FLAT, torch.arange(rows))
    corrected = decode(joint, blank, replace(um.mdlm(2), revise=um.Correct(12)))
    plain = decode(joint, blank, um.mdlm(14))
    assert corrected.nfe <= plain.nfe + 1
    apart = [total_variation(joint.counts(d.tokens) / rows, joint.p) for d in (corrected, plain)]
    assert apart[0] < apart[1]


def test_divergence_of_masked_diffusion_falls_with_steps():
    joint = Joint.random(L, V, 0)

    def kernel(steps):
        def go(x, memory, n):
            rate, p = 1 / (steps - n), joint.marginals(x)
            options = [
                [(t, 1.0)] if t != MASK else [(MASK, 1 - rate), *((v, rate * p[i, v]) for v in range(V))]
                for i, t in enumerate(x)
            ]
            for outcome in itertools.product(*options):
                yield tuple(v for v, _ in outcome), None, math.prod(q for _, q in outcome)

        return go

    laws = [push(kernel(steps), joint, num_steps=steps) for steps in (1, 2, 4)]
    divergences = [divergence(joint.p, law) for law in laws]
    assert all(a > b for a, b in itertools.pairwise(divergences))
    assert (
        abs(
            divergences[0]
            - sum(entropy(joint.p.sum((*range(i), *range(i + 1, L)))) for i in range(L))
            + entropy(joint.p)
        )
        < 1e-9
    )


def test_long_canvases_follow_a_markov_chain():
    """An exact posterior of 24 positions: one token a step gives the chain's law, six do not."""
    chain = Markov.random(24, 4, seed=3, concentration=0.5)
    layout, rows = Layout.sequence(24, 4), 1500

    def pairs(strategy):
        tokens = decode(chain, Canvas.blank(layout, torch.arange(rows)), strategy).tokens
        return np.histogram2d(tokens[:, 11].numpy(), tokens[:, 12].numpy(), bins=[range(5)] * 2)[0]

    assert surprise(pairs(um.random_order()), chain.pairs()) < 6
    assert surprise(pairs(um.dream(24)), chain.pairs()) < 6
    assert surprise(pairs(um.random_order(12)), chain.pairs()) > 6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rare_tokens_keep_their_mass(dtype):
    """50,000 tokens, 49,000 of which share a fifth of the probability; a joint float32 Gumbel would lose them."""
    v, common = 50_000, 1000
    logits = torch.full((v,), float(np.log(0.2 / (v - common))))
    logits[:common] = float(np.log(0.8 / common))
    logits = logits.to(dtype)
    expected = float(logits.double().softmax(0)[common:].sum())
    layout = Layout.sequence(32, v)

    def model(tokens, known, query):
        return logits.expand(*known.shape, v)

    tokens = torch.cat([decode(model, Canvas.blank(layout, [seed]), um.random_order(32)).tokens for seed in range(20)])
    share, n = float((tokens >= common).double().mean()), tokens.numel()
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / n)
