"""Propose, verify, commit: against the target's law on joints small enough to list, and one token at a time."""

import itertools
import math
from dataclasses import dataclass, replace

import pytest
import torch
from refused import refused
from unisono.errors import UnisonoError
from unisono.masked import Layout, random
from unisono.verify import (
    Draw,
    Matching,
    Method,
    Prefix,
    Proposal,
    Rejection,
    Target,
    Verdict,
    acceptance,
    autoregressive,
    coupled_speculative,
    decode,
    gauss_seidel,
    guided_diffusion,
    jacobi,
    look_ahead,
    medusa,
    medusa_typical,
    ngram,
    residual,
    speculative,
    tree_of,
)
from unisono.verify import accept as rules

L, V = 5, 3
START = V  # the start token; any token from V on means "unknown" to the oracle


class Joint:
    """A random law of L tokens, with every conditional: p(x_i | any of the others), exactly."""

    def __init__(self, seed: int, length: int = L, vocab: int = V, concentration: float = 0.3, peak: float = 0.0):
        generator = torch.Generator().manual_seed(seed)
        p = torch._sample_dirichlet(torch.full((vocab**length,), concentration).double(), generator)
        p = (1 - peak) * p
        p[len(p) // 3] += peak
        self.p, self.length, self.vocab = p.reshape((vocab,) * length), length, vocab
        table = torch.zeros(length, *[vocab + 1] * length, vocab, dtype=torch.float64)
        for known in itertools.product(range(vocab + 1), repeat=length):
            q = self.p[tuple(slice(None) if x == vocab else slice(x, x + 1) for x in known)]
            for at in range(length):
                if known[at] == vocab:
                    marginal = q.sum([i for i in range(length) if i != at]).clamp_min(1e-300)
                    table[(at, *known)] = (marginal / marginal.sum()).log()
        self.table = table

    def log_law(self, at, digits):
        """log p(x_at | digits [..., L]), where digits of `vocab` and more are unknown."""
        at = torch.broadcast_to(torch.as_tensor(at), digits.shape[:-1])
        return self.table[(at, *digits.clamp_max(self.vocab).unbind(-1))]

    def contexts(self, tokens, positions, visible):
        """What each token sees: [b, n, L] digits. Position 0 is the start token's."""
        digits = torch.full((*tokens.shape, self.length + 1), self.vocab)
        for j in range(tokens.shape[1]):
            here = visible[:, :, j, None] & (torch.arange(self.length + 1) == positions[:, None, j, None])
            digits = torch.where(here, tokens[:, None, j, None], digits)
        return digits[..., 1:]

    def network(self, tokens, positions, visible, cache):
        digits = self.contexts(tokens, positions, visible)
        return self.log_law(positions.clamp_max(self.length - 1), digits)

    def with_heads(self, tokens, positions, visible, cache):
        """Head j predicts token j further: exact marginals."""
        digits = self.contexts(tokens, positions, visible)
        heads = [self.log_law((positions + j).clamp_max(self.length - 1), digits) for j in range(3)]
        return torch.stack(heads, 2)

    def denoiser(self, tokens, known, query):
        digits = torch.where(known, tokens, self.vocab)
        return self.log_law(query, digits[:, None].expand(*query.shape, self.length))


JOINT, DRAFT = Joint(0), Joint(1)
PROMPT = torch.tensor([[START]])


def one_by_one(joint, prompt, seeds, temperature, limit=L + 1):
    """Ancestral sampling in a plain loop, with the noise of (seed, position, token)."""
    rows = []
    for row, seed in zip(prompt.tolist(), seeds, strict=True):
        row = list(row)
        while len(row) < limit:
            digits = torch.tensor(row[1:] + [joint.vocab] * (joint.length - len(row) + 1))
            logits = joint.log_law(len(row) - 1, digits)
            if temperature:
                sites = len(row) * joint.vocab + torch.arange(joint.vocab)
                key = torch.tensor([seed])
                logits = (logits / temperature).log_softmax(-1) + random.gumbel(
                    key, torch.zeros_like(key), sites[None], random.DRAW
                ).squeeze(0)
            row.append(int(logits.argmax()))
        rows.append(row)
    return torch.tensor(rows)


def guided(joint, top_k=1):
    return guided_diffusion(joint.denoiser, Layout.sequence(L, V), num_draft=3, skip=1, top_k=top_k)


LOSSLESS = {
    "autoregressive": (autoregressive(), "network"),
    "jacobi": (jacobi(), "network"),
    "gauss-seidel 1": (gauss_seidel(1), "network"),
    "gauss-seidel 2": (gauss_seidel(2), "network"),
    "gauss-seidel 3": (gauss_seidel(3), "network"),
    "n-gram": (ngram(3, 3, 2), "network"),
    "medusa": (medusa(), "with_heads"),
    "medusa, a lopsided tree": (medusa([(1,), (0,), (0, 2), (0, 0)]), "with_heads"),
    "look-ahead": (look_ahead([START + 1, START + 2]), "network"),
    "guided": (guided(JOINT), "network"),
    "guided by a foreign model": (guided(DRAFT), "network"),
    "coupled speculative": (coupled_speculative(DRAFT.network, 2), "network"),
}


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("temperature", [0.0, 1.0, 0.6])
def test_matching_gives_what_one_token_at_a_time_gives(name, temperature):
    method, network = LOSSLESS[name]
    assert method.lossless
    seeds = range(60)
    prompt = PROMPT.expand(60, 1)
    out = decode(getattr(JOINT, network), prompt, method, L + 1, seeds=seeds, temperature=temperature)
    assert torch.equal(out.tokens, one_by_one(JOINT, prompt, seeds, temperature))
    assert (out.length == L + 1).all() and out.lossless
    per_round = 2 if name == "look-ahead" else 1
    assert out.nfe <= L * per_round and (out.rounds <= L).all()


@pytest.mark.parametrize("method", [jacobi(), gauss_seidel(4)], ids=lambda m: m.name)
def test_jacobi_takes_fewer_evaluations_than_tokens_where_tokens_hardly_depend(method):
    joint = Joint(3, concentration=30.0)  # near uniform, so that noise decides alone
    out = decode(joint.network, PROMPT.expand(400, 1), method, L + 1, seeds=range(400), temperature=1.0)
    assert torch.equal(out.tokens, one_by_one(joint, PROMPT.expand(400, 1), range(400), 1.0))
    assert out.rounds.double().mean() < 0.8 * L
    assert (out.accepted + out.rounds == L).all()


def test_an_independent_law_is_solved_in_two_rounds():
    joint = Joint(0)
    single = torch.tensor([0.2, 0.5, 0.3]).log().double()
    joint.table[:] = single
    out = decode(joint.network, PROMPT.expand(50, 1), jacobi(), L + 1, seeds=range(50), temperature=1.0)
    assert (out.rounds <= 2).all()


def test_guidance_by_the_targets_own_joint_saves_evaluations():
    joint = Joint(0, peak=0.6)  # the likeliest token at every position is the likeliest sequence's
    out = decode(joint.network, PROMPT, guided(joint), L + 1)
    assert torch.equal(out.tokens, one_by_one(joint, PROMPT, [0], 0.0))
    assert out.accepted == 3
    # Three proposed and accepted, the target's own; then one is missing, and nothing need be proposed.
    assert (out.nfe, out.draft_nfe, out.draft_positions) == (2, 1, 3)


# Rejection: the law, listed through the rule itself


def push(rule, target, draft, num_draft, monkeypatch):
    """The law of the decoder: point masses pushed through `rule`, every draft and refusal by its probability.

    Uniforms are forced to accept the first a nodes and refuse the next; the law that the rule then hands
    to `sample` is recorded.
    """
    seen = {}
    monkeypatch.setattr(rules.random, "uniform", lambda seed, step, sites, stream: seen["u"])
    monkeypatch.setattr(rules, "sample", lambda law, *rest: seen.update(rest=law) or law.argmax(-1))
    laws, final = {(): 1.0}, torch.zeros_like(target.p)
    while laws:
        following = {}
        for context, mass in laws.items():
            if len(context) == target.length:
                final[context] += mass
                continue
            n = min(num_draft, target.length - len(context) - 1)
            drafts = list(itertools.product(range(V), repeat=n))
            rows = [(x, a) for x in drafts for a in range(n + 1)]
            tokens = torch.tensor([x for x, _ in rows], dtype=torch.int64).reshape(len(rows), n)
            digits = torch.full((len(rows), n + 1, target.length), V)
            for i in range(n + 1):
                digits[:, i, : len(context)] = torch.tensor(context, dtype=torch.int64)
                digits[:, i, len(context) : len(context) + i] = tokens[:, :i]
            at = len(context) + torch.arange(n + 1)
            p, q = (joint.log_law(at.expand(len(rows), -1), digits) for joint in (target, draft))
            prefix = Prefix.of(torch.tensor([[START, *context]] * len(rows)), L + 1, [0] * len(rows))
            seen["u"] = torch.tensor([[0.0 if i < a else 1.0 for i in range(n)] for _, a in rows]).reshape(len(rows), n)
            proposal = Proposal.chain(tokens, torch.full((len(rows),), n), law=q[:, :n].exp())
            verdict = rule(prefix, proposal, p, Draw(1.0))
            p, q = p.exp(), q.exp()
            for row, (x, a) in enumerate(rows):
                assert verdict.accepted[row] <= a
                weight = mass
                for i in range(n):
                    weight *= float(q[row, i, x[i]])
                keep = [min(1.0, float(p[row, i, x[i]] / q[row, i, x[i]])) for i in range(n)]
                for i in range(a):
                    weight *= keep[i]
                if a < n:
                    weight *= 1 - keep[a]
                if weight <= 0:
                    continue
                assert verdict.accepted[row] == a
                for token, chance in enumerate(seen["rest"][row, 0].tolist()):
                    state = (*context, *x[:a], token)
                    following[state] = following.get(state, 0.0) + weight * chance
        laws = following
    return final


def tv(p, q):
    return 0.5 * float((p - q).abs().sum())


@pytest.mark.parametrize("num_draft", [1, 2, 4])
def test_speculative_sampling_has_the_targets_law(num_draft, monkeypatch):
    law = push(Rejection(), JOINT, DRAFT, num_draft, monkeypatch)
    assert law.sum() == pytest.approx(1, abs=1e-12)
    assert tv(law, JOINT.p) < 1e-12


def test_the_listing_sees_a_wrong_residual(monkeypatch):
    monkeypatch.setattr(rules, "residual", lambda p, q: p)
    assert tv(push(Rejection(), JOINT, DRAFT, 2, monkeypatch), JOINT.p) > 0.05


def test_acceptance_and_residual_add_up_to_the_target():
    generator = torch.Generator().manual_seed(0)
    p, q = torch.rand(2, 50, 7, generator=generator, dtype=torch.float64).pow(4)
    p[0], q[1, 3], p[2, 4], q[3, 1:] = q[0], 0, 0, 0
    p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
    kept = q * acceptance(p, q)
    law = kept + (1 - kept.sum(-1, keepdim=True)) * residual(p, q)
    torch.testing.assert_close(law, p, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("share", "accepted"), [(0.999, 1), (1.001, 0)])
def test_a_node_is_accepted_just_below_p_over_q(share, accepted, monkeypatch):
    p, q = torch.tensor([0.2, 0.5, 0.3]).double(), torch.tensor([0.5, 0.25, 0.25]).double()
    monkeypatch.setattr(rules.random, "uniform", lambda *_: torch.tensor([[share * 0.2 / 0.5]]).double())
    monkeypatch.setattr(rules, "sample", lambda law, *_: law.argmax(-1))
    prefix = Prefix.of(PROMPT, 4, [0])
    proposal = Proposal.chain(torch.tensor([[0]]), torch.tensor([1]), law=q[None, None])
    assert Rejection()(prefix, proposal, p.log().expand(1, 2, 3), Draw(1.0)).accepted == accepted


# The decoder as it runs, drawn many times

ROWS = 60_000
NOISE = 0.015  # TV of 60,000 exact draws over 27 outcomes is 0.008 on average; a broken rule is off by 0.05


SMALL, SMALL_DRAFT = Joint(4, length=3), Joint(5, length=3)


def drawn_law(method, joint=SMALL, network="network"):
    prompt = torch.zeros(ROWS, 1, dtype=torch.int64)  # what stands at the start, this network does not look at
    out = decode(getattr(joint, network), prompt, method, 4, seeds=random.row_seeds(7, ROWS), temperature=1.0)
    index = (out.tokens[:, 1:] * torch.tensor([9, 3, 1])).sum(1)
    return torch.bincount(index, minlength=27).reshape(3, 3, 3) / ROWS


@pytest.mark.parametrize("num_draft", [1, 2])
def test_speculative_samples_follow_the_target(num_draft):
    assert tv(drawn_law(speculative(SMALL_DRAFT.network, num_draft)), SMALL.p) < NOISE


def test_jacobi_samples_follow_the_target():
    assert tv(drawn_law(jacobi()), SMALL.p) < NOISE


class AcceptsOnceTooOften(Rejection):
    def __call__(self, prefix, proposal, logits, draw):
        verdict = super().__call__(prefix, proposal, logits, draw)
        more = (verdict.accepted + 1).clamp_max(proposal.real.sum(1))
        return replace(verdict, accepted=more)


class KeepsTheNoise(Rejection):
    """Draws the replacement from p instead of the residual."""

    def __call__(self, prefix, proposal, logits, draw):
        verdict = super().__call__(prefix, proposal, logits, draw)
        own = draw(logits, prefix.seed, rules._positions(prefix, proposal))
        return Verdict(verdict.path, verdict.accepted, own.gather(1, verdict.accepted[:, None])[:, 0])


class BelievesAll(Matching):
    def __call__(self, prefix, proposal, logits, draw):
        verdict = super().__call__(prefix, proposal, logits, draw)
        accepted = proposal.real.sum(1)
        return replace(verdict, accepted=accepted, token=verdict.drawn.gather(1, accepted[:, None])[:, 0])


@pytest.mark.parametrize("rule", [AcceptsOnceTooOften(), KeepsTheNoise()], ids=lambda r: type(r).__name__)
def test_the_test_sees_a_broken_rejection(rule):
    method = replace(speculative(SMALL_DRAFT.network, 2), accept=rule)
    assert tv(drawn_law(method), SMALL.p) > 3 * NOISE


def test_the_tests_see_a_broken_match():
    method = replace(jacobi(), accept=BelievesAll())
    seeds, prompt = range(60), PROMPT.expand(60, 1)
    out = decode(JOINT.network, prompt, method, L + 1, seeds=seeds, temperature=1.0)
    assert not torch.equal(out.tokens, one_by_one(JOINT, prompt, seeds, 1.0))
    assert tv(drawn_law(method), SMALL.p) > 3 * NOISE


def test_typical_acceptance_says_that_it_is_lossy_and_is():
    method = medusa_typical(tree_of((2, 1)))
    assert not method.lossless
    assert tv(drawn_law(method, network="with_heads"), SMALL.p) > 3 * NOISE
    assert tv(drawn_law(medusa(tree_of((2, 1))), network="with_heads"), SMALL.p) < NOISE


def test_typical_acceptance_is_the_published_threshold():
    """By hand, at one node: p = 0.25 passes min(0.3, 0.5·e^−H), its neighbours' 0.05 does not."""
    p = torch.tensor([0.7, 0.25, 0.05]).double()
    entropy = -(p * p.log()).sum()
    assert 0.05 < 0.5 * (-entropy).exp() < 0.25
    rule = medusa_typical(epsilon=0.3, delta=0.5).accept
    prefix = Prefix.of(PROMPT.expand(3, 1), 4, [0, 1, 2])
    proposal = Proposal.chain(torch.tensor([[0], [1], [2]]), torch.ones(3, dtype=torch.int64))
    assert rule(prefix, proposal, p.log().expand(3, 2, 3), Draw(1.0)).accepted.tolist() == [1, 1, 0]


def test_agreement_with_more_than_the_best_is_lossy_and_follows_the_drafter():
    strict, loose = guided(DRAFT), guided(DRAFT, top_k=V)
    assert strict.lossless and not loose.lossless
    truth = one_by_one(JOINT, PROMPT, [0], 0.0)
    out = decode(JOINT.network, PROMPT, loose, L + 1)
    assert not torch.equal(out.tokens, truth)
    # All of the first three are the drafter's: everything is among the V best.
    nothing = torch.zeros(1, L, dtype=torch.int64)
    first = DRAFT.denoiser(nothing, nothing.bool(), torch.arange(3)[None])
    assert torch.equal(out.tokens[:, 1:4], first.argmax(-1))


# n-grams


def test_ngrams_propose_what_followed_most_often_then_latest():
    proposer = ngram(num_draft=4, longest=3, shortest=2).propose
    #      1 2 is followed by 5, 6, 5, … so 5; then (2, 5) by 1; (5, 1) by 2; and again.
    row = [1, 2, 5, 1, 2, 6, 1, 2, 5, 1, 2]
    prefix = Prefix.of(torch.tensor([row, row]), 30, [0, 0], torch.tensor([11, 6]))
    proposal = proposer(prefix, None, None, Draw())
    assert proposal.tokens[0].tolist() == [5, 1, 2, 5]
    # The shorter row ends in 2 6, and 6 was never seen before: nothing.
    assert proposal.real.tolist() == [[True] * 4, [False] * 4]
    once = proposer(Prefix.of(torch.tensor([[1, 7, 3, 1, 8, 3, 1]]), 30, [0]), None, None, Draw())
    assert once.tokens[0, 0] == 8  # (3, 1) was followed by 8; a tie of shorter contexts would also be the latest
    cut = proposer(Prefix.of(torch.tensor([row]), 13, [0]), None, None, Draw())
    assert cut.real.tolist() == [[True]]  # the last token is the target's own


def test_ngrams_save_evaluations_on_a_text_that_repeats():
    period = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6])

    def network(tokens, positions, visible, cache):
        return torch.nn.functional.one_hot(period[(positions + 1) % 8], 10).double()

    out = decode(network, period[None, :1], ngram(num_draft=6), 64)
    assert torch.equal(out.tokens[0], period.repeat(8))
    assert out.nfe < 63 / 2


# Rows


def test_a_row_alone_and_in_a_batch_are_equal():
    prompt = torch.tensor([[START, 0, 1], [START, 2, 0], [START, 1, 1]])
    lengths, seeds = torch.tensor([3, 1, 2]), [5, 6, 7]
    for method, network in [*LOSSLESS.values(), (speculative(DRAFT.network, 3), "network")]:
        network = getattr(JOINT, network)
        together = decode(network, prompt, method, L + 1, seeds=seeds, lengths=lengths, temperature=1.0)
        for row in range(3):
            start = prompt[row : row + 1, : lengths[row]]
            alone = decode(network, start, method, L + 1, seeds=[seeds[row]], temperature=1.0)
            assert torch.equal(alone.tokens[0], together.tokens[row]), method.name
            assert alone.rounds[0] == together.rounds[row], method.name


@pytest.mark.parametrize("name", LOSSLESS)
def test_an_end_token_ends_a_row(name):
    method, network = LOSSLESS[name]
    prompt, seeds = PROMPT.expand(40, 1), range(40)
    truth = one_by_one(JOINT, prompt, seeds, 1.0)
    out = decode(getattr(JOINT, network), prompt, method, L + 1, seeds=seeds, temperature=1.0, end=2)
    assert len(set(out.length.tolist())) > 2
    for row in range(40):
        line = truth[row].tolist()
        size = line.index(2) + 1 if 2 in line else L + 1
        assert out.length[row] == size
        assert out.tokens[row].tolist() == line[:size] + [0] * (L + 1 - size)


def test_nothing_to_do_costs_nothing():
    full = torch.tensor([[START, 0, 1, 2, 0, 1]])
    out = decode(JOINT.network, full, jacobi(), L + 1)
    assert out.nfe == 0 and torch.equal(out.tokens, full)
    assert decode(JOINT.network, full[:0], jacobi(), L + 1).tokens.shape == (0, L + 1)


@dataclass
class Counted:
    calls: int = 0
    tokens: int = 0

    def __call__(self, tokens, positions, visible, cache):
        self.calls, self.tokens = self.calls + 1, self.tokens + tokens.numel()
        return JOINT.with_heads(tokens, positions, visible, cache)


@pytest.mark.parametrize("name", LOSSLESS)
def test_the_bill_is_what_was_called(name):
    network, steps = Counted(), []
    method, prompt = LOSSLESS[name][0], PROMPT.expand(3, 1)
    out = decode(network, prompt, method, L + 1, seeds=range(3), temperature=1.0, on_step=steps.append)
    assert (out.nfe, out.positions) == (network.calls, network.tokens)
    assert len(steps) == out.rounds.max() and torch.equal(steps[-1].tokens, out.tokens)


def test_a_drafts_bill_is_its_own():
    target, draft = Counted(), Counted()
    out = decode(target, PROMPT, speculative(draft, 2), L + 1, temperature=1.0, seeds=[3])
    assert (out.draft_nfe, out.draft_positions) == (draft.calls, draft.tokens)
    assert (out.nfe, out.positions) == (target.calls, target.tokens)


# Wrong input


def nan_after(position):
    def network(tokens, positions, visible, cache):
        logits = JOINT.network(tokens, positions, visible, cache)
        return logits.masked_fill((positions == position)[:, :, None], torch.nan)

    return network


WIDE = Joint(2, length=2, vocab=4)
LATER = torch.tensor([2])

WRONG = [
    ("value", "logits", 0, "after token 4", lambda: decode(nan_after(3), PROMPT, autoregressive(), L + 1)),
    ("value", "logits", 0, "after token 3", lambda: decode(JOINT.network, PROMPT, speculative(nan_after(2)), L + 1)),
    ("limit", "max_length", 6, "7 tokens", lambda: decode(JOINT.network, PROMPT.expand(1, 7), jacobi(), 6)),
    ("empty", "prompt", 0, "start token", lambda: decode(JOINT.network, PROMPT[:, :0], jacobi(), 6)),
    ("range", "prompt", -1, "token -1", lambda: decode(JOINT.network, PROMPT * 0 - 1, jacobi(), 6)),
    (
        "shape",
        "lengths",
        (2,),
        "1 prompts",
        lambda: decode(JOINT.network, PROMPT, jacobi(), 6, lengths=torch.tensor([1, 1])),
    ),
    ("range", "lengths", 2, "1 columns", lambda: decode(JOINT.network, PROMPT, jacobi(), 6, lengths=LATER)),
    ("shape", "seeds", (2,), "1 prompts", lambda: decode(JOINT.network, PROMPT, jacobi(), 6, seeds=[1, 2])),
    ("missing", "seeds", None, "temperature 1.0", lambda: decode(JOINT.network, PROMPT, jacobi(), 6, temperature=1.0)),
    ("range", "temperature", -1.0, "-1.0", lambda: decode(JOINT.network, PROMPT, jacobi(), 6, temperature=-1.0)),
    (
        "range",
        "temperature",
        math.inf,
        "inf",
        lambda: decode(JOINT.network, PROMPT, jacobi(), 6, temperature=math.inf, seeds=[0]),
    ),
    ("type", "temperature", "1", "'1'", lambda: Draw("1")),
    ("range", "num_draft", 0, "at least 1", lambda: speculative(DRAFT.network, 0)),
    ("range", "num_draft", 0, "at least 1", lambda: ngram(0)),
    ("range", "num_draft", 0, "at least 1", lambda: guided_diffusion(JOINT.denoiser, Layout.sequence(L, V), 0)),
    ("empty", "tree", (), "at least one", lambda: medusa([])),
    ("empty", "tokens", (), "at least one", lambda: look_ahead([])),
    ("value", "tree", (0, 1), "(0, 1)", lambda: medusa([(0, 1), (0,)])),
    ("conflict", "tree", ((0,), (0,)), "once", lambda: medusa([(0,), (0,)])),
    ("range", "longest", 2, "3 to 2", lambda: ngram(2, 2, 3)),
    ("range", "shortest", 1, "1 to 3", lambda: ngram(2, 3, 1)),
    ("type", "longest", 3.5, "3.5", lambda: ngram(2, 3.5, 2)),
    ("range", "block", 0, "at least 1", lambda: gauss_seidel(0)),
    ("range", "top_k", 0, "at least 1", lambda: guided(JOINT, top_k=0)),
    ("range", "epsilon", 0, "0 < epsilon", lambda: medusa_typical(epsilon=0)),
    ("range", "delta", 0.0, "delta > 0", lambda: medusa_typical(delta=0.0)),
    ("conflict", "temperature", 0, "Matching", lambda: decode(JOINT.with_heads, PROMPT, medusa_typical(), 6)),
    ("limit", "tree", 3, "2 extra heads", lambda: decode(JOINT.with_heads, PROMPT, medusa(tree_of((1, 1, 1))), 6)),
    ("limit", "tree", 2, "0 extra heads", lambda: decode(JOINT.network, PROMPT, medusa(), 6)),
    ("limit", "tree", 3, "3 tokens", lambda: decode(JOINT.with_heads, PROMPT, medusa([(3,)]), 6)),
    ("conflict", "vocab_size", 4, "of 3", lambda: decode(JOINT.network, PROMPT, speculative(WIDE.network), 3)),
    (
        *("conflict", "vocab_size", 4, "of 3"),
        lambda: decode(JOINT.network, PROMPT, guided_diffusion(WIDE.denoiser, Layout.sequence(2, 4), skip=1), 3),
    ),
    ("conflict", "layout", 5, "leaves 4", lambda: decode(JOINT.network, PROMPT, guided(JOINT), 5)),
    (
        "shape",
        "logits",
        (1, 7),
        "(1, 5, vocabulary)",
        lambda: decode(lambda *_: torch.zeros(1, 7), PROMPT, jacobi(), 6),
    ),
    (
        "type",
        "logits",
        torch.int64,
        "torch.int64",
        lambda: decode(lambda t, *_: t[:, :, None].expand(-1, -1, 3), PROMPT, jacobi(), 6),
    ),
    ("conflict", "accept", "PreviousIterate", "Matching", lambda: Method("x", jacobi().propose, Rejection())),
    ("range", "tokens", 99, "up to 4", lambda: decode(Table(), PROMPT * 33, jacobi(), 6)),
]


class Table:
    """Reads tokens with an embedding, which knows 5."""

    def __call__(self, tokens, positions, visible, cache):
        return torch.zeros(5, 3)[tokens]


@pytest.mark.parametrize(("code", "path", "value", "names", "call"), WRONG)
def test_wrong_input_is_one_sentence(code, path, value, names, call):
    with refused(UnisonoError, code, path, value=value, names=names):
        call()


def test_nan_behind_what_is_proposed_is_no_error():
    """Padding may be anything: only what decides is read."""

    def network(tokens, positions, visible, cache):
        logits = JOINT.network(tokens, positions, visible, cache)
        return logits.masked_fill((positions == L)[:, :, None], torch.nan)

    prompt = torch.tensor([[START, 0, 0, 0], [START, 1, 0, 0]])
    lengths = torch.tensor([4, 2])
    out = decode(network, prompt, jacobi(), L + 1, lengths=lengths)
    assert torch.equal(out.tokens, decode(JOINT.network, prompt, jacobi(), L + 1, lengths=lengths).tokens)


def test_a_target_reads_only_the_prefix_and_a_nodes_ancestors():
    seen = {}

    def network(tokens, positions, visible, cache):
        seen.update(tokens=tokens, positions=positions, visible=visible)
        return torch.zeros(*tokens.shape, 3)

    prefix = Prefix.of(torch.tensor([[3, 1]]), 9, [0])
    tree = Proposal(torch.tensor([[0, 1, 2]]), torch.ones(1, 3, dtype=torch.bool), torch.tensor([-1, -1, 0]))
    Target(network)(prefix, tree)
    assert seen["tokens"].tolist() == [[3, 1, 0, 1, 2]]
    assert seen["positions"].tolist() == [[0, 1, 2, 2, 3]]
    expected = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [1, 1, 1, 0, 1]]
    assert seen["visible"].int().tolist() == [expected]
