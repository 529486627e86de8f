"""Trees of proposals, against plain loops: ancestors, the deepest path, the row that a commit was drawn from."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from unisono.verify import Draw, Matching, Prefix, Proposal, Round, TopAgree, Typical, Verdict
from unisono.verify.accept import _deepest

PARENTS = [-1, -1, 0, 0, 1, 2, 4]


def tree(parents, tokens=None, real=None, rows=1):
    n = len(parents)
    tokens = torch.arange(n).expand(rows, n) if tokens is None else torch.tensor(tokens)
    real = torch.ones(tokens.shape, dtype=torch.bool) if real is None else torch.tensor(real)
    return Proposal(tokens, real, torch.tensor(parents))


def way(parents, node):
    """A node's ancestors and itself, from the root on."""
    path = []
    while node >= 0:
        path.insert(0, node)
        node = parents[node]
    return path


@st.composite
def trees(draw):
    parents = [-1]
    for node in range(1, draw(st.integers(1, 9))):
        parents.append(draw(st.integers(-1, node - 1)))
    ok = draw(st.lists(st.booleans(), min_size=len(parents), max_size=len(parents)))
    score = draw(st.lists(st.integers(-9, 0), min_size=len(parents), max_size=len(parents)))
    return parents, ok, [float(x) for x in score]


@settings(max_examples=50, deadline=None)
@given(trees())
def test_the_deepest_accepted_path_is_that_of_a_plain_search(case):
    parents, ok, score = case
    proposal = tree(parents)
    n = len(parents)
    for node in range(n):
        assert proposal.ancestors[node].nonzero()[:, 0].tolist() == way(parents, node)
        assert int(proposal.depth[node]) == len(way(parents, node)) - 1
    whole = [way(parents, node) for node in range(n) if all(ok[i] for i in way(parents, node))]
    path, accepted = _deepest(proposal, torch.tensor([ok]), torch.tensor([score], dtype=torch.float64))
    longest = max(map(len, whole), default=0)
    assert int(accepted) == longest
    if whole:
        best = max(sum(score[i] for i in nodes) for nodes in whole if len(nodes) == longest)
        found = path[0, :longest].tolist()
        assert found in whole and sum(score[i] for i in found) == best


def test_typical_acceptance_takes_the_likelier_of_two_equally_long_paths():
    """Both children of both roots are accepted: the sum over the path decides, not the last node's own probability."""
    law = torch.tensor(
        [
            [0.6, 0.4, 0.0],  # after the prefix: node 0 says token 0, node 1 token 1
            [0.5, 0.5, 0.0],  # after node 0: token 0 (node 2) or 1
            [0.3, 0.1, 0.6],  # after node 1: token 2 (node 3)
            [0.9, 0.05, 0.05],  # after node 2
            [0.05, 0.9, 0.05],  # after node 3
        ],
        dtype=torch.float64,
    )
    proposal = tree([-1, -1, 0, 1], [[0, 1, 0, 2]])
    prefix = Prefix.of(torch.tensor([[2]]), 9, [5])
    verdict = Typical(epsilon=0.2, delta=0.9)(prefix, proposal, law.log()[None], Draw(1.0))
    assert verdict.path[0].tolist() == [0, 2]  # .6 · .5 = .30 against .4 · .6 = .24
    assert int(verdict.accepted) == 2
    assert int(verdict.token) == int(verdict.drawn[0, 3])  # what follows node 2, which is row 3


@pytest.mark.parametrize(("epsilon", "accepted"), [(0.2500001, 0), (0.2499999, 1)])
def test_typical_acceptance_is_strict(epsilon, accepted):
    """p > min(ε, δ·e^−H): a token of probability 1/4 is kept just below ε = 1/4."""
    law = torch.tensor([[0.25, 0.75], [0.5, 0.5]], dtype=torch.float64)
    prefix = Prefix.of(torch.tensor([[1]]), 9, [5])
    proposal = Proposal.chain(torch.tensor([[0]]), torch.tensor([1]))
    assert math.exp(-float(-(law[0] * law[0].log()).sum())) > epsilon
    verdict = Typical(epsilon=epsilon, delta=1.0)(prefix, proposal, law.log()[None], Draw(1.0))
    assert int(verdict.accepted) == accepted


def test_agreement_looks_at_what_stands_before_a_node():
    logits = torch.tensor([[[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0], [1.0, 0.0, 3.0, 2.0]]])
    prefix = Prefix.of(torch.tensor([[1]]), 9, [5])
    for drafts, kept in (([1, 2], 2), ([1, 1], 1), ([2, 3], 0), ([0, 3], 2)):
        proposal = Proposal.chain(torch.tensor([drafts]), torch.tensor([2]))
        verdict = TopAgree(2)(prefix, proposal, logits, Draw())
        assert int(verdict.accepted) == kept, drafts
        assert int(verdict.token) == [0, 3, 2][kept], drafts


def test_a_round_knows_the_row_that_its_token_was_drawn_from():
    """Row 0 is the prefix's end, row i + 1 what follows node i."""
    proposal = tree(PARENTS, rows=4)
    path = torch.tensor([[0, 2, 5], [1, 4, 6], [1, 4, 0], [0, 3, 0]])
    accepted = torch.tensor([0, 3, 2, 1])
    verdict = Verdict(path, accepted, torch.zeros(4, dtype=torch.int64))
    assert Round(proposal, torch.zeros(4, 8, 9), verdict).leaf.tolist() == [0, 7, 5, 1]
    nothing = Verdict(path[:, :0], accepted * 0, torch.zeros(4, dtype=torch.int64))
    assert Round(proposal, torch.zeros(4, 1, 9), nothing).leaf.tolist() == [0, 0, 0, 0]


def test_matching_follows_the_draws_through_a_tree():
    """Greedy draws: token 1 at the root, 2 after node 1, 0 after node 4: the path 1, 4 and then 0."""
    tokens = [[0, 1, 1, 2, 2, 0, 1]]
    logits = torch.zeros(1, 8, 3)
    for row, token in enumerate([1, 0, 2, 1, 2, 0, 1, 2]):  # after node i: row i + 1
        logits[0, row, token] = 1.0
    prefix = Prefix.of(torch.tensor([[2, 2]]), 9, [5])
    verdict = Matching()(prefix, tree(PARENTS, tokens), logits, Draw())
    assert verdict.path[0, : int(verdict.accepted)].tolist() == [1, 4]
    assert int(verdict.token) == 0


def test_a_commit_ends_at_the_limit_and_at_the_end_token():
    prefix = Prefix.of(torch.tensor([[1, 1], [1, 1], [1, 1]]), 5, [1, 2, 3], end=0)
    after = prefix.commit(torch.tensor([[2, 2, 2, 2], [2, 0, 2, 2], [2, 2, 2, 0]]), torch.tensor([4, 4, 2]))
    assert after.length.tolist() == [5, 4, 4] and after.done.tolist() == [True, True, False]
    assert after.tokens.tolist() == [[1, 1, 2, 2, 2], [1, 1, 2, 0, 0], [1, 1, 2, 2, 0]]
    assert prefix.room.tolist() == [2, 2, 2] and after.room.tolist() == [0, 0, 0]


def test_one_token_more_is_what_a_commit_of_one_is():
    for end in (None, 3):
        prefix = Prefix.of(torch.tensor([[1, 2, 0], [1, 0, 0], [1, 2, 2]]), 5, [1, 2, 3], torch.tensor([2, 1, 3]), end)
        for token in ([[4], [3], [0]], [[2], [2], [5]]):
            one, other = prefix.extended(torch.tensor(token)), prefix.commit(torch.tensor(token), torch.ones(3).long())
            for name in ("tokens", "length", "start", "seed", "done"):
                assert torch.equal(getattr(one, name), getattr(other, name)), name
            assert one.end == other.end == end
            if one.done.any():
                break
            prefix = one
