"""Options away from their neutral value: blocks of Jacobi iteration, temperatures, coupled drafts, noise."""

import torch
from unisono.masked import random
from unisono.verify import (
    DraftModel,
    Draw,
    NGram,
    Prefix,
    PreviousIterate,
    Proposal,
    Rejection,
    Round,
    Target,
    Verdict,
    sample,
)


def scores(*rows):
    """A network of fixed logits per position, whatever the tokens are."""
    table = torch.tensor(rows)

    def network(tokens, positions, visible, cache):
        return table[positions.clamp_max(len(table) - 1)]

    return network


def prefix_of(tokens, limit, seed=1):
    return Prefix.of(torch.tensor([tokens]), limit, [seed])


def test_a_block_is_solved_before_the_next_one_begins():
    """Blocks of three behind a prompt of two; one token per round is the target's own and is not proposed."""
    propose, target, draw = PreviousIterate(block=3), Target(scores([0.0, 1.0])), Draw()
    start = prefix_of([1, 1], 12)
    for length, proposed in ((2, 2), (3, 1), (4, 0), (5, 2), (6, 1), (11, 0)):
        grown = start.commit(torch.ones(1, length - 2, dtype=torch.int64), torch.tensor([length - 2]))
        assert propose(grown, None, target, draw).tokens.shape[1] == proposed, length


def test_an_iterate_goes_on_from_the_draws_behind_what_was_accepted():
    propose, target, draw = PreviousIterate(), Target(scores([0.0, 1.0])), Draw()
    proposal = Proposal.chain(torch.tensor([[5, 6, 7]]), torch.tensor([3]))
    verdict = Verdict(torch.tensor([[0, 1, 2]]), torch.tensor([1]), torch.tensor([8]), torch.tensor([[5, 8, 3, 4]]))
    last = Round(proposal, torch.zeros(1, 4, 9), verdict)
    grown = prefix_of([1, 5, 8], 7)
    assert propose(grown, last, target, draw).tokens.tolist() == [[3, 4, 8]]  # and then the last token again


def test_ngrams_take_the_most_frequent_before_the_latest():
    tokens = [1, 2, 1, 3, 1, 2, 1, 4, 1]  # after 1: twice 2, and 4 came last
    proposal = NGram(1, 2, 2)(prefix_of(tokens, 20), None, Target(scores([0.0])), Draw())
    assert proposal.tokens.tolist() == [[2]]
    tokens = [1, 2, 1, 3, 1]  # once each: the later one
    assert NGram(1, 2, 2)(prefix_of(tokens, 20), None, Target(scores([0.0])), Draw()).tokens.tolist() == [[3]]


def test_the_noise_of_each_token_at_each_position_is_its_own():
    """The sites of position p and token t are p·v + t: none is shared by two tokens of neighbouring positions."""
    law = torch.full((1, 6, 3), 1 / 3, dtype=torch.float64)
    seed, positions = torch.tensor([4]), torch.arange(6)[None]
    drawn = sample(law, seed, positions)
    noise = random.gumbel(seed, torch.zeros(1, dtype=torch.int64), torch.arange(18), random.DRAW).reshape(6, 3)
    assert drawn[0].tolist() == noise.argmax(-1).tolist()
    shifted = sample(law[:, :3], seed, positions[:, 3:])
    assert torch.equal(shifted, drawn[:, 3:])  # a position's draw is the same in every round


def test_a_temperature_divides_and_a_warp_sees_what_it_gave():
    logits = torch.tensor([[[0.0, 2.0, 4.0]]])
    torch.testing.assert_close(Draw(2.0).law(logits), (logits.double() / 2).softmax(-1))
    warped = Draw(2.0, lambda x: x.masked_fill(x > 1.5, -torch.inf)).law(logits)
    torch.testing.assert_close(warped[0, 0], torch.tensor([0.0, 1.0, -torch.inf]).double().softmax(-1))
    assert Draw().law(logits).tolist() == [[[0.0, 0.0, 1.0]]]


def test_scores_are_what_a_draw_takes_the_largest_of():
    logits = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    seed, positions = torch.tensor([3, 4]), torch.arange(5).expand(2, 5)
    for draw in (Draw(), Draw(1.0), Draw(0.5, lambda x: x.masked_fill(x < 0, -torch.inf))):
        assert torch.equal(draw.scores(logits, seed, positions).argmax(-1), draw(logits, seed, positions))
    assert torch.equal(Draw().scores(logits, seed, positions), logits)


def test_a_coupled_draft_draws_with_the_targets_noise_and_another_with_its_own():
    flat = scores([0.0] * 7)
    grown = prefix_of([1], 40, seed=9)
    draw, target = Draw(1.0), Target(flat)
    law = draw.law(torch.zeros(1, 30, 7))
    positions = torch.arange(1, 31)[None]
    for coupled, stream in ((True, random.DRAW), (False, random.PROPOSE)):
        proposal = DraftModel(flat, 30, coupled=coupled)(grown, None, target, draw)
        assert torch.equal(proposal.tokens, sample(law, grown.seed, positions, stream))
        assert (proposal.law is None) == coupled


def judged(p, q, tokens, real, seeds):
    """The verdict of `Rejection` on rows alike: laws [n + 1, v] and [n, v], as probabilities."""
    b = len(seeds)
    rows = torch.tensor([tokens]).expand(b, -1)
    proposal = Proposal(rows, torch.tensor([real]).expand(b, -1), law=torch.tensor(q).double().expand(b, -1, -1))
    prefix = Prefix.of(torch.ones(b, 2, dtype=torch.int64), 9, seeds)
    return Rejection()(prefix, proposal, torch.tensor(p).double().log().expand(b, -1, -1), Draw(1.0)), prefix


def test_nothing_behind_a_refused_node_is_accepted():
    """The first node cannot be the target's, the second always is: none is accepted, and the residual is drawn."""
    verdict, _ = judged([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]], [[1.0, 0.0], [0.5, 0.5]], [0, 0], [True, True], [3, 4])
    assert verdict.accepted.tolist() == [0, 0] and verdict.token.tolist() == [1, 1]


def test_a_row_that_accepts_all_it_has_draws_from_the_target_and_not_from_a_residual():
    """The second node is padding: its law, all on token 0, takes nothing away from the target's."""
    p, q = [[0.5, 0.5], [0.6, 0.4], [0.5, 0.5]], [[0.5, 0.5], [1.0, 0.0]]
    verdict, prefix = judged(p, q, [0, 0], [True, False], list(range(20)))
    assert verdict.accepted.tolist() == [1] * 20
    law = torch.tensor(p[1]).double().expand(20, 1, 2)
    assert torch.equal(verdict.token, sample(law, prefix.seed, torch.full((20, 1), 3))[:, 0])
    assert 0 < int(verdict.token.sum()) < 20
