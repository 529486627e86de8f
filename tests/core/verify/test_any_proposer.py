"""Whatever is proposed, Matching gives plain decoding's tokens: trees and chains of nonsense, of every shape."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from unisono.masked import random
from unisono.verify import Draw, KVCache, Matching, Method, Prefix, Proposal, Verdict, autoregressive, decode

V = 5
BEYOND = 4  # ids of nodes that no target draws: V … V + BEYOND − 1


def network(tokens, positions, visible, cache):
    """Logits from a sum over all that a token sees of numbers of (token, position): exact in any order."""
    mine = ((tokens + 7) * (positions * 131 + 17) % 10007).double()[:, None, :, None]
    if cache is not None:
        mine, _ = cache.append(0, mine, mine)
        visible = cache.mask(visible)
    heard = (visible.double() * mine[:, 0, None, :, 0]).sum(-1)
    return 3 * torch.cos(heard[..., None] * torch.arange(1, V + 1).double() * 0.37)


def plainly(row, seed, limit, temperature, end):
    """One token at a time in a plain loop, with the noise of (seed, position, token)."""
    row = list(row)
    while len(row) < limit and row[-1] != end:
        heard = sum((token + 7) * (position * 131 + 17) % 10007 for position, token in enumerate(row))
        scores = 3 * torch.cos(torch.tensor(float(heard)).double() * torch.arange(1, V + 1).double() * 0.37)
        if temperature:
            sites = len(row) * V + torch.arange(V)
            key = torch.tensor([seed])
            scores = (scores / temperature).log_softmax(-1)
            scores = scores + random.gumbel(key, torch.zeros_like(key), sites[None], random.DRAW)[0]
        row.append(int(scores.argmax()))
    return row


@dataclass
class Anything:
    """Chains and trees of any tokens, some of them right: duplicates, unreal nodes, ids that no one draws, too many."""

    truth: list[list[int]]
    seed: int
    kinds: tuple[str, ...]
    brings_law: bool = False
    calls: int = 0

    def __call__(self, prefix: Prefix, last: Any, target: Any, draw: Draw) -> Proposal:
        self.calls += 1
        generator = torch.Generator().manual_seed(self.seed * 1000 + self.calls)

        def below(n: int, *shape: int) -> torch.Tensor:
            return torch.randint(0, n, shape, generator=generator)

        kind = self.kinds[int(below(len(self.kinds), 1))]
        b, room = len(prefix.length), int(prefix.room.max())
        n = 0 if kind == "empty" else 1 + int(below(7, 1))
        if kind == "over-long":
            n += room
        parent = torch.tensor([int(below(i + 1, 1)) - 1 for i in range(n)]) if kind in ("tree", "twins") else None
        tokens = below(V + BEYOND, b, n)
        real = below(8, b, n) > 0
        if parent is None:
            real = real.long().cumprod(1).bool()
        proposal = Proposal(tokens, real, parent)
        for row, said in enumerate(self.truth):
            for node, depth in enumerate(proposal.depth.tolist()):
                at = int(prefix.length[row]) + depth
                if at < len(said) and int(below(4, 1)):
                    tokens[row, node] = said[at]
                elif kind == "twins" and node:
                    tokens[row, node] = tokens[row, node - 1]
        return Proposal(tokens, real, parent)


KINDS = ("empty", "chain", "tree", "twins", "over-long")
prompts = st.lists(st.lists(st.integers(0, V - 1), min_size=1, max_size=4), min_size=1, max_size=3)


@settings(max_examples=40, deadline=None)
@given(
    rows=prompts,
    more=st.integers(1, 9),
    seed=st.integers(0, 10**6),
    temperature=st.sampled_from([0.0, 0.8, 1.0]),
    end=st.sampled_from([None, 1, 3]),
    cached=st.booleans(),
    kinds=st.sets(st.sampled_from(KINDS), min_size=1).map(sorted).map(tuple),
)
def test_any_proposer_under_matching_gives_plain_decodings_tokens(rows, more, seed, temperature, end, cached, kinds):
    limit = max(map(len, rows)) + more
    rows = [[0 if token == end else token for token in row] for row in rows]  # a prompt that has ended is no prompt
    seeds = [seed + i for i in range(len(rows))]
    truth = [plainly(row, s, limit, temperature, end) for row, s in zip(rows, seeds, strict=True)]
    lengths = torch.tensor([len(row) for row in rows])
    prompt = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
    for i, row in enumerate(rows):
        prompt[i, : len(row)] = torch.tensor(row)
    method = Method("anything", Anything(truth, seed, kinds), Matching())
    given_ = dict(seeds=seeds, lengths=lengths, temperature=temperature, end=end, cache=KVCache if cached else None)
    out = decode(network, prompt, method, limit, **given_)
    for i, said in enumerate(truth):
        assert out.length[i] == len(said)
        assert out.tokens[i].tolist() == said + [0] * (limit - len(said))
    assert (out.accepted + out.rounds >= out.length - lengths).all()
    assert out.lossless and (out.accepted <= out.proposed).all()


def test_much_of_it_is_accepted():
    """Else the test above would verify nothing."""
    truth = [plainly([2], s, 40, 1.0, None) for s in range(4)]
    for kind in KINDS[1:]:
        method = Method("anything", Anything(truth, 3, (kind,)), Matching())
        out = decode(network, torch.full((4, 1), 2), method, 40, seeds=range(4), temperature=1.0, cache=KVCache)
        assert out.tokens.tolist() == truth
        assert int(out.accepted.sum()) > 30 and int(out.proposed.sum()) > int(out.accepted.sum())


# What a loop owes to those who write a proposer or a rule


class Shared:
    """One tree for all rows: row 0 has its left half, row 1 its right half, and each guesses right there."""

    brings_law = False

    def __init__(self, truth):
        self.truth = truth

    def __call__(self, prefix, last, target, draw):
        parent = torch.tensor([-1, 0, -1, 2])
        depth = torch.tensor([0, 1, 0, 1])
        at = (prefix.length[:, None] + depth).clamp_max(self.truth.shape[1] - 1)
        real = torch.tensor([[True, True, False, False], [False, False, True, True]]) & (depth < prefix.room[:, None])
        return Proposal(self.truth.gather(1, at), real, parent)


@pytest.mark.parametrize("cache", [None, KVCache])
def test_a_tree_is_shared_by_the_rows_and_a_node_that_one_lacks_is_never_committed_there(cache):
    truth = torch.tensor([plainly([2], s, 14, 1.0, None) for s in range(2)])
    method = Method("halves", Shared(truth), Matching())
    out = decode(network, torch.full((2, 1), 2), method, 14, seeds=range(2), temperature=1.0, cache=cache)
    assert torch.equal(out.tokens, truth)
    assert out.rounds.tolist() == [5, 5] and out.proposed.tolist() == [8, 8]  # three tokens a round, 13 in all


class Decides:
    """A rule that keeps one node and adds a token of its own making, whatever the target says."""

    lossless = False

    def __init__(self):
        self.seen = []

    def __call__(self, prefix, proposal, logits, draw):
        self.seen.append((proposal.law, proposal.carry, logits.shape))
        b, n = proposal.tokens.shape
        accepted = proposal.real.sum(1).clamp_max(1)
        return Verdict(torch.arange(n).expand(b, n), accepted, torch.full((b,), 4))


class WithLaw:
    brings_law = True

    def __call__(self, prefix, last, target, draw):
        count = prefix.room.clamp_max(2)
        n = int(count.max())
        law = torch.full((len(count), n, V), 1 / V, dtype=torch.float64)
        return Proposal.chain(torch.full((len(count), n), 3), count, law=law, carry="mine")


def test_a_rule_sees_both_laws_and_alone_decides_on_the_last_token():
    rule = Decides()
    out = decode(network, torch.tensor([[2]]), Method("decides", WithLaw(), rule), 8)
    assert out.tokens.tolist() == [[2, 3, 4, 3, 4, 3, 4, 4]]
    assert [shape for _, _, shape in rule.seen] == [(1, 3, V)] * 3 + [(1, 1, V)]
    assert all(carry == "mine" and law.shape == (1, shape[1] - 1, V) for law, carry, shape in rule.seen)
    assert decode(network, torch.tensor([[2]]), autoregressive(), 8).tokens.tolist() != out.tokens.tolist()
