"""Rollback: with a cache of keys and values, a small transformer gives what it gives without."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from torch import nn
from torch.nn import functional as F
from unisono.errors import UnisonoError
from unisono.masked import Layout
from unisono.verify import (
    Causal,
    KVCache,
    Matching,
    Method,
    Prefix,
    Proposal,
    Target,
    Verdict,
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
    speculative,
    tree_of,
)

VOCAB, LIMIT, DIM, HEADS = 7, 20, 16, 2
AHEAD = (VOCAB, VOCAB + 1, VOCAB + 2)  # look-ahead tokens: read, never predicted


class Transformer(nn.Module):
    """Two layers, absolute positions, extra heads on request; random weights, in float64."""

    def __init__(self, seed: int, num_heads: int = 0, spread: float = 1.0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.tokens, self.positions = nn.Embedding(VOCAB + 3, DIM), nn.Embedding(LIMIT, DIM)
            self.qkv = nn.ModuleList(nn.Linear(DIM, 3 * DIM) for _ in range(2))
            self.mlp = nn.ModuleList(nn.Sequential(nn.Linear(DIM, 32), nn.GELU(), nn.Linear(32, DIM)) for _ in range(2))
            self.out = nn.Linear(DIM, (1 + num_heads) * VOCAB)
        self.num_heads, self.spread = num_heads, spread
        self.double().eval().requires_grad_(False)

    def hidden(self, tokens, positions, visible, cache):
        x = self.tokens(tokens) + self.positions(positions)
        mask = visible if cache is None else cache.mask(visible)
        for layer, (qkv, mlp) in enumerate(zip(self.qkv, self.mlp, strict=True)):
            q, k, v = qkv(F.layer_norm(x, (DIM,))).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
            if cache is not None:
                k, v = cache.append(layer, k, v)
            y = F.scaled_dot_product_attention(q, k, v, mask[:, None])
            x = x + y.transpose(1, 2).flatten(2)
            x = x + mlp(x)
        return F.layer_norm(x, (DIM,))

    def forward(self, tokens, positions, visible, cache):
        logits = self.spread * self.out(self.hidden(tokens, positions, visible, cache))
        return logits.unflatten(2, (1 + self.num_heads, VOCAB)) if self.num_heads else logits

    def denoise(self, tokens, known, query):
        """The same weights as a masked model: whatever it says, the target decides."""
        tokens = torch.where(known, tokens, VOCAB)
        positions = torch.arange(tokens.shape[1]).expand_as(tokens)
        visible = torch.ones(*tokens.shape, tokens.shape[1], dtype=torch.bool)
        logits = self.out(self.hidden(tokens, positions, visible, None))
        return logits.gather(1, query[:, :, None].expand(-1, -1, VOCAB))


PLAIN, HEADED, DRAFT = Transformer(0, spread=3), Transformer(0, num_heads=2, spread=3), Transformer(1, spread=3)
PROMPT, LENGTHS, SEEDS = torch.tensor([[3, 1, 4, 1], [5, 2, 0, 0], [6, 5, 3, 0]]), torch.tensor([4, 1, 3]), [11, 12, 13]

METHODS = {
    "autoregressive": (lambda cache: autoregressive(), PLAIN),
    "jacobi": (lambda cache: jacobi(), PLAIN),
    "gauss-seidel": (lambda cache: gauss_seidel(4), PLAIN),
    "n-gram": (lambda cache: ngram(3), PLAIN),
    "speculative": (lambda cache: speculative(DRAFT, 3, cache), PLAIN),
    "coupled": (lambda cache: coupled_speculative(DRAFT, 3, cache), PLAIN),
    "look-ahead": (lambda cache: look_ahead(AHEAD), PLAIN),
    "guided": (lambda cache: guided_diffusion(DRAFT.denoise, Layout.sequence(LIMIT, VOCAB), 4), PLAIN),
    "medusa": (lambda cache: medusa(tree_of((3, 3))), HEADED),
    "typical": (lambda cache: medusa_typical(tree_of((4, 3)), 0.2, 0.8), HEADED),
}


def run(name, cache, temperature=1.0, **options):
    make, network = METHODS[name]
    arguments = {"seeds": SEEDS, "lengths": LENGTHS, "temperature": temperature, "cache": cache, **options}
    return decode(network, PROMPT, make(cache), LIMIT, **arguments)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("end", [None, 2])
def test_a_cache_changes_nothing_but_the_bill(name, end):
    without, cached = run(name, None, end=end), run(name, KVCache, end=end)
    assert torch.equal(cached.tokens, without.tokens)
    assert torch.equal(cached.length, without.length) and torch.equal(cached.rounds, without.rounds)
    assert (cached.nfe, cached.draft_nfe) == (without.nfe, without.draft_nfe)
    assert cached.positions < 0.8 * without.positions
    if without.accepted.sum() == 0 and name not in ("autoregressive", "n-gram"):
        pytest.fail("nothing was accepted, so that nothing was rolled back in part")


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("speculative", "typical")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_lossless_methods_give_the_tokens_of_autoregression(name, temperature):
    options = {"seeds": SEEDS, "lengths": LENGTHS, "temperature": temperature}
    alone = decode(METHODS[name][1], PROMPT, autoregressive(), LIMIT, cache=KVCache, **options)
    out = run(name, KVCache, temperature)
    assert torch.equal(out.tokens, alone.tokens)
    assert out.nfe <= alone.nfe * (2 if name == "look-ahead" else 1)


def test_greedy_speculation_is_greedy_autoregression():
    assert torch.equal(run("speculative", KVCache, 0.0).tokens, run("autoregressive", KVCache, 0.0).tokens)


@pytest.mark.parametrize("name", METHODS)
def test_a_row_alone_and_in_a_batch_are_equal(name):
    make, network = METHODS[name]
    together = run(name, KVCache)
    for row in range(3):
        prompt = PROMPT[row : row + 1, : LENGTHS[row]]
        alone = decode(network, prompt, make(KVCache), LIMIT, seeds=[SEEDS[row]], temperature=1.0, cache=KVCache)
        assert torch.equal(alone.tokens[0], together.tokens[row])
        assert alone.rounds[0] == together.rounds[row]
        assert alone.accepted[0] == together.accepted[row] and alone.proposed[0] == together.proposed[row]


TREE = torch.tensor([-1, -1, 0, 1, 1, 4])


def compare(cache_type):
    """The largest difference of logits over rounds with trees and chains, of which random parts are kept."""
    generator = torch.Generator().manual_seed(0)
    cached, plain = Target(PLAIN, cache_type, 3), Target(PLAIN)
    prefix, worst = Prefix.of(PROMPT, LIMIT, SEEDS, LENGTHS), 0.0
    for turn in range(6):
        parent = TREE if turn % 2 else None
        tokens = torch.randint(0, VOCAB, (3, 6), generator=generator)
        room = torch.where(prefix.done, 0, LIMIT - 1 - prefix.length)
        proposal = Proposal(tokens, torch.ones(3, 6, dtype=torch.bool), parent)
        proposal = Proposal(tokens, proposal.depth < room[:, None], parent)
        a, b = cached(prefix, proposal), plain(prefix, proposal)
        real = torch.cat([~prefix.done[:, None], proposal.real], 1)
        worst = max(worst, float((a - b).abs()[real].max()))
        path = torch.tensor([[0, 2, 0], [1, 4, 5], [1, 3, 0]]) if turn % 2 else torch.arange(6).expand(3, 6)
        most = torch.tensor([2, 3, 2]) if turn % 2 else torch.tensor([0, 2, 4])
        accepted = torch.minimum(most, room)
        verdict = Verdict(path, accepted, torch.tensor([1, 2, 3]))
        cached.keep(prefix, proposal, verdict)
        fresh = torch.cat([tokens.gather(1, path), verdict.token[:, None]], 1)
        fresh = fresh.scatter(1, accepted[:, None], verdict.token[:, None])
        prefix = prefix.commit(fresh, accepted + 1)
    assert prefix.done.any()
    return worst


def test_rollback_equals_no_cache_logit_by_logit():
    # float64; sums over attention in another order.
    assert compare(KVCache) < 1e-12


class KeepsTheWrongBranch(KVCache):
    def select(self, start, path):
        pass


class ForgetsNothing(KVCache):
    """Sees what was refused."""

    def mask(self, visible):
        return super().mask(visible) | True


class SeesSiblings(KVCache):
    def mask(self, visible):
        return super().mask(visible | torch.ones_like(visible).tril())


@pytest.mark.parametrize("broken", [KeepsTheWrongBranch, ForgetsNothing, SeesSiblings])
def test_the_comparison_sees_a_broken_cache(broken):
    assert compare(broken) > 1e-3


class Anything:
    """Proposes chains and trees at random: empty, twins, tokens beyond the vocabulary, more than there is room for.

    Many of its tokens are right, so that paths of every length are accepted.
    """

    brings_law = False

    def __init__(self, truth, seed):
        self.truth, self.generator = truth, torch.Generator().manual_seed(seed)

    def draw(self, high, *shape):
        return torch.randint(0, high, shape, generator=self.generator)

    def __call__(self, prefix, last, target, draw):
        n, chain, b = int(self.draw(8, 1)), bool(self.draw(2, 1)), len(prefix.length)
        parent = torch.tensor([int(self.draw(i + 1, 1)) - 1 for i in range(n)], dtype=torch.int64)
        blank = Proposal(self.draw(VOCAB + 3, b, n), self.draw(6, b, n) > 0, None if chain else parent)
        where = (prefix.length[:, None] + blank.depth).clamp_max(LIMIT - 1)
        tokens = torch.where(self.draw(3, b, n) > 0, self.truth.gather(1, where), blank.tokens)
        return Proposal(tokens, blank.real, blank.parent)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    temperature=st.sampled_from([0.0, 1.0]),
    end=st.sampled_from([None, 2]),
    lengths=st.lists(st.integers(1, 4), min_size=3, max_size=3),
    cached=st.booleans(),
)
def test_whatever_is_proposed_the_tokens_are_those_of_plain_decoding(seed, temperature, end, lengths, cached):
    options = {"seeds": SEEDS, "lengths": torch.tensor(lengths), "temperature": temperature, "end": end}
    truth = decode(PLAIN, PROMPT, autoregressive(), LIMIT, **options)
    method = Method("anything", Anything(truth.tokens, seed), Matching())
    out = decode(PLAIN, PROMPT, method, LIMIT, cache=KVCache if cached else None, **options)
    assert torch.equal(out.tokens, truth.tokens) and torch.equal(out.length, truth.length)
    assert (out.rounds + out.accepted >= out.length - options["lengths"]).all()


@pytest.mark.parametrize("rows", [1, 3])
def test_rows_of_one_length_are_cached_as_others_are(rows):
    """A plain slice and a scatter: the second by rows of which one is longer and looked at no further."""
    even, ragged = KVCache(rows), KVCache(rows + 1)
    generator = torch.Generator().manual_seed(0)
    ragged.append(0, torch.zeros(rows + 1, 1, 2, 3), torch.zeros(rows + 1, 1, 2, 3))
    ragged.advance(2)
    ragged.truncate(torch.tensor([0] * rows + [2]))
    for n, keep in ((3, 2), (1, 3), (2, 4)):
        key, value = torch.randn(2, rows + 1, 1, n, 3, generator=generator)
        visible = torch.ones(rows + 1, n, n, dtype=torch.bool).tril()
        mask, more = even.mask(visible[:rows]), ragged.mask(visible)[:rows]
        assert torch.equal(mask, more[:, :, : mask.shape[2]]) and not more[:, :, mask.shape[2] :].any()
        assert even.sees_all(n) == (n == 1) and not ragged.sees_all(n)
        assert not even.sees_all(n) or mask.all()
        mine, other = even.append(0, key[:rows], value[:rows]), ragged.append(0, key, value)
        for a, b in zip(mine, other, strict=True):
            assert torch.equal(a, b[:rows, :, : a.shape[2]])
        for cache in (even, ragged):
            cache.advance(n)
            cache.truncate(torch.full((len(cache.length),), keep) + (torch.arange(len(cache.length)) == rows) * 2)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("lengths", [LENGTHS, torch.tensor([4, 4, 4])])
def test_memory_that_nothing_was_written_to_is_not_read(name, lengths, monkeypatch):
    """As it comes, memory may hold NaN. Rows of one length become rows of several when one accepts more."""
    without = run(name, None, lengths=lengths)
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda x, *shape: x.new_full(shape, torch.nan))
    assert torch.equal(run(name, KVCache, lengths=lengths).tokens, without.tokens)


def test_what_a_cache_saves():
    """One token at a time: without a cache n (n + 1) / 2 tokens are computed, with it each once."""
    plain = decode(PLAIN, PROMPT[:1, :1], autoregressive(), LIMIT)
    cached = decode(PLAIN, PROMPT[:1, :1], autoregressive(), LIMIT, cache=KVCache)
    assert plain.positions == (LIMIT - 1) * LIMIT // 2
    assert cached.positions == LIMIT - 1


def test_a_network_of_tokens_only():
    def network(tokens):
        positions = torch.arange(tokens.shape[1]).expand_as(tokens)
        visible = torch.ones(*tokens.shape, tokens.shape[1], dtype=torch.bool).tril()
        return PLAIN(tokens, positions, visible, None)

    for name in ("jacobi", "n-gram", "speculative", "look-ahead"):
        make, _ = METHODS[name]
        out = decode(Causal(network), PROMPT, make(None), LIMIT, seeds=SEEDS, lengths=LENGTHS, temperature=1.0)
        assert torch.equal(out.tokens, run(name, None).tokens)
    with refused(UnisonoError, "unsupported", "cache"):
        decode(Causal(network), PROMPT, jacobi(), LIMIT, cache=KVCache)
    tree = Proposal(torch.tensor([[0, 1]]), torch.ones(1, 2, dtype=torch.bool), torch.tensor([-1, -1]))
    with refused(UnisonoError, "unsupported", "proposal"):
        Target(Causal(network))(Prefix.of(PROMPT[:1], LIMIT, [0]), tree)


def test_columns_that_are_padding_everywhere_are_not_computed():
    """All at once: a row of 4 and 19 new tokens would take 22 columns, of which no row can hold more than 20."""
    seen = []

    def network(tokens, *rest):
        seen.append(tokens.shape[1])
        return PLAIN(tokens, *rest)

    decode(network, PROMPT, jacobi(), LIMIT, lengths=LENGTHS)
    assert max(seen) == LIMIT


def test_wrong_input_is_one_sentence():
    with refused(UnisonoError, "range", "tokens", value=13, names="up to 3"):
        decode(PLAIN, PROMPT + 7, autoregressive(), LIMIT)
    with refused(UnisonoError, "range", "tokens", value=6, names="up to 20"):
        decode(PLAIN, PROMPT, jacobi(), LIMIT + 2)
    used = KVCache(3)
    used.advance(2)
    with refused(UnisonoError, "state", "cache"):
        decode(PLAIN, PROMPT, jacobi(), LIMIT, cache=lambda rows: used)
    with refused(UnisonoError, "shape", "key", value=1, names="of 2"):
        KVCache(2).append(0, torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
    with refused(UnisonoError, "range", "num_rows", value=-1, names="at least 0"):
        KVCache(-1)
