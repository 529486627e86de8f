"""Errors found in published samplers, one test each: the smallest case in which they gave another result."""

import itertools
import math
from dataclasses import replace

import torch
import unisono.masked as um
from unisono.masked import Canvas, Layout, decode

L, V = 8, 4
FLAT = Layout.sequence(L, V)
LEVELS = Layout.levels(4, 2, V)


def scripted(table):
    """A model with the same logits whatever is known."""
    return lambda tokens, known, query: um.at_sites(table.expand(len(tokens), -1, -1), query)


def noise(seed, l_=L, v=V):
    return 2 * torch.randn(l_, v, generator=torch.Generator().manual_seed(seed))


def masks(model, canvas, strategy):
    seen = []
    done = decode(model, canvas, strategy, on_step=lambda c: seen.append(c.masked.sum(1).tolist()))
    return done, seen


def test_no_mask_is_left_after_the_last_step():
    """MaskGIT's ports that return the carried canvas leak its last mask."""
    for n in (1, 2, 8, 20):
        assert decode(scripted(noise(0)), Canvas.blank(FLAT, [1]), um.maskgit(n)).canvas.known.all()


def test_known_tokens_are_not_drawn_again():
    """Halton-MaskGIT's confidence baseline draws committed tokens anew in each step."""
    seen = []
    decode(scripted(noise(0) * 0.1), Canvas.blank(FLAT, range(50)), um.maskgit(8), on_step=seen.append)
    for before, after in itertools.pairwise(seen):
        assert torch.equal(before.tokens[before.known], after.tokens[before.known])


def test_the_schedule_counts_masks_not_positions():
    """MMM's and aMUSEd's inpainting schedule by the whole length: all but the first steps then do nothing."""
    long = Layout.sequence(100, V)
    canvas = Canvas.blank(long, [1]).freeze(torch.zeros(100).long(), torch.arange(100) >= 10)
    _, seen = masks(scripted(noise(0, 100)), canvas, um.maskgit(5, um.linear))
    assert [s[0] for s in seen] == [8, 6, 4, 2, 0]


def test_counts_are_of_the_row_not_the_batch():
    """VampNet sums masks over the batch; MaskGCT takes row 0's; Dream takes k over the flattened batch."""
    where = torch.arange(L) < torch.tensor([[0], [4], [6]])
    for strategy in (um.maskgit(2, um.linear), um.dream(2), um.llada(2), um.maskgct(2, share=1.0), um.vampnet(2)):
        canvas = Canvas.blank(FLAT, [1, 2, 3]).freeze(torch.zeros(L).long(), where)
        strategy = replace(strategy, plan=um.Plan(um.Scheduled(2, um.linear)))
        _, seen = masks(scripted(noise(0)), canvas, strategy)
        assert seen == [[4, 2, 1], [0, 0, 0]], strategy.name


def test_ranks_are_within_a_level():
    """A published SoundStorm takes the top k over positions × levels, so levels are filled out of order."""
    table = noise(0)
    table[1::2] *= 50  # the fine level is far surer
    seen = []
    decode(scripted(table), Canvas.blank(LEVELS, [1]), um.soundstorm((3, 1)), on_step=seen.append)
    coarse = LEVELS.group == 0
    assert [int(c.masked[0, coarse].sum()) for c in seen] == [3, 2, 0, 0]
    assert [int(c.masked[0, ~coarse].sum()) for c in seen] == [4, 4, 4, 0]


def test_finer_levels_are_masked_while_a_coarser_one_is_decoded():
    """The same port leaves what was drawn at finer levels in the canvas when its last coarse step is over."""
    looked = []

    def model(tokens, known, query):
        looked.append((known.clone(), tokens.clone()))
        return noise(0).expand(len(tokens), -1, -1)

    decode(model, Canvas.blank(LEVELS, [1]), um.soundstorm((3, 1)))
    fine = LEVELS.group == 1
    assert len(looked) == 4
    for known, tokens in looked:
        assert not known[:, fine].any() and (tokens[:, fine] == 0).all()
    assert looked[-1][0][:, ~fine].all()


def test_rescaled_guidance_knows_no_neighbours():
    """MaskGCT rescales by a standard deviation over the batch: a row's output depends on who is beside it."""
    table = torch.stack([noise(i) * (i + 1) for i in range(3)])

    class Rows:
        def __init__(self, table):
            self.table = table

        def __call__(self, tokens, known, query):
            return self.table

    def run(rows):
        guide = um.ClassifierFree(3.5, Rows(table[rows].roll(1, -1)), rescale=0.75)
        return decode(Rows(table[rows]), Canvas.blank(FLAT, rows), um.maskgit(4, guide=guide)).tokens

    together = run([0, 1, 2])
    assert torch.equal(run([1])[0], together[1]) and torch.equal(run([2, 0]), together[[2, 0]])


def test_a_reserved_id_is_never_emitted():
    """LLaDA does not forbid its mask's id, whose prediction then counts as a commit."""
    table = noise(0)
    table[:, 3] = 50.0
    layout = replace(FLAT, vocab=torch.tensor([[0, 3]]).expand(L, 2))
    for strategy in (um.llada(4), um.maskgit(4), um.fast_dllm(), um.mdlm(4)):
        assert int(decode(scripted(table), Canvas.blank(layout, [1, 2]), strategy).tokens.max()) < 3
    suppressed = replace(um.llada(4), warp=um.Chain(um.Suppress((3,)), um.Temperature(0)))
    assert int(decode(scripted(table), Canvas.blank(FLAT, [1]), suppressed).tokens.max()) < 3


def test_the_masks_id_as_literal_text():
    """SGLang compares tokens with the mask's id, so a prompt that holds this very token is overwritten."""
    for literal in range(V):
        canvas = Canvas.blank(FLAT, [1]).prompt(torch.full((1, 3), literal))
        done = decode(scripted(noise(0)), canvas, um.llada(2, 1.0))
        assert done.tokens[0, :3].tolist() == [literal] * 3
        assert int((done.age >= 0).sum()) == L - 3


def test_temperature_divides():
    """Halton-MaskGIT's sm_temp multiplies logits: above 1 it sharpens."""
    p = torch.tensor([0.7, 0.1, 0.1, 0.1]).log().expand(L, V)
    share = []
    for t in (0.5, 1.0, 3.0):
        strategy = replace(um.random_order(8), warp=um.Temperature(t))
        share.append(float((decode(scripted(p), Canvas.blank(FLAT, range(500)), strategy).tokens == 0).double().mean()))
    expected = [0.7 ** (1 / t) / (0.7 ** (1 / t) + 3 * 0.1 ** (1 / t)) for t in (0.5, 1.0, 3.0)]
    for got, truth in zip(share, expected, strict=True):
        assert abs(got - truth) < 0.03
    assert share[0] > share[1] > share[2]


def first_commits(score, p, rows=4000):
    """How often the first of two positions, with top probabilities p, is committed first."""
    table = torch.tensor([[x, 1 - x] for x in p]).log()
    strategy = um.Strategy(um.Plan(um.Fixed(1)), score, draw=um.Greedy())
    done = decode(scripted(table), Canvas.blank(Layout.sequence(2, 2), range(rows)), strategy)
    return float((done.age[:, 0] == 0).double().mean())


def test_choice_noise_on_logarithms_and_on_probabilities():
    """MaskGCT adds Gumbel noise to p, MaskGIT to log p: with the same temperature, not the same lottery."""
    log = um.Perturbed(um.Drawn(log=True), 1.0, anneal=False)
    raw = um.Perturbed(um.Drawn(log=False), 1.0, anneal=False)
    p = (0.9, 0.6)
    assert abs(first_commits(log, p) - 0.9 / 1.5) < 0.03
    assert abs(first_commits(raw, p) - 1 / (1 + math.exp(-0.3))) < 0.03


def test_entropys_sign():
    """KLASS' entropy option adds the entropy: the least certain position goes first."""
    assert first_commits(um.NegativeEntropy(), (0.9, 0.6), 1) == 1
    assert first_commits(um.NegativeEntropy(), (0.6, 0.9), 1) == 0


def test_the_nucleus_holds_the_token_that_crosses():
    """BD3-LM's nucleus keeps cumulative ≤ p and drops the token that crosses p: another support."""
    planned = um.Plan(um.Fixed(1))(Canvas.blank(Layout.sequence(1, V), [0]), {})
    p = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.double)
    for mass, size in ((0.5, 1), (0.51, 2), (0.8, 2), (0.81, 3), (0.96, 4), (1.0, 4)):
        assert int((um.Nucleus(mass)(p.log()[None, None], planned) > -math.inf).sum()) == size


def test_one_time_for_the_batch():
    """ReMDM and BD3-LM read one time with .item(): rows with other numbers of steps are wrong."""
    steps = torch.tensor([2, 5, 9])
    together = decode(scripted(noise(0)), Canvas.blank(FLAT, [4, 5, 6]), um.remdm(steps, "cap", 0.3))
    assert together.steps.tolist() == [2, 5, 9]
    for i, n in enumerate(steps.tolist()):
        alone = decode(scripted(noise(0)), Canvas.blank(FLAT, [4 + i]), um.remdm(n, "cap", 0.3))
        assert torch.equal(alone.tokens[0], together.tokens[i])


def test_the_entropy_bounds_first_token_is_free():
    """JetEngine's cumulative sum counts the first token, so that fewer fit under the bound."""
    h = 0.6 * math.log(V)
    lo, hi = 0.25, 0.999  # find a distribution of entropy h
    for _ in range(60):
        x = (lo + hi) / 2
        p = torch.tensor([x, *[(1 - x) / 3] * 3], dtype=torch.double)
        lo, hi = (x, hi) if float(torch.special.entr(p).sum()) > h else (lo, x)
    done = decode(scripted(p.log().expand(L, V)), Canvas.blank(FLAT, [1]), um.entropy_bounded(2.0001 * h))
    assert int((done.age == 0).sum()) == 3  # ΣH − max H = 2h


def test_two_rows_are_twice_one_row():
    """Fast-dLLM gives other answers for batches of 2 and 4: its threshold falls back on the batch."""
    table = torch.stack([noise(i) for i in range(4)])

    class Rows:
        def __init__(self, rows):
            self.rows_ = rows

        def __call__(self, tokens, known, query):
            return table[self.rows_] * (1 + known.sum(1))[:, None, None] / 4

    whole = decode(Rows([0, 1, 2, 3]), Canvas.blank(FLAT, range(4)), um.fast_dllm(0.6))
    for pair in ([0, 1], [2, 3], [3, 0]):
        part = decode(Rows(pair), Canvas.blank(FLAT, pair), um.fast_dllm(0.6))
        assert torch.equal(part.tokens, whole.tokens[pair]) and torch.equal(part.age, whole.age[pair])
        assert part.steps.tolist() == whole.steps[pair].tolist()


def test_the_last_step_leaves_committed_tokens():
    """flow_matching's last step replaces every token by a new draw, unless the model is one-hot there."""
    seen = []
    decode(scripted(noise(0) * 0), Canvas.blank(FLAT, range(50)), um.mdlm(3), on_step=seen.append)
    known = seen[-2].known
    assert known.any() and torch.equal(seen[-1].tokens[known], seen[-2].tokens[known])


def test_positions_and_tokens_are_two_lotteries():
    """One float32 Gumbel over {mask} ∪ V at a small rate loses rare tokens; two lotteries keep them (MDLM)."""
    rare = torch.full((2**14 + 1,), 0.2 / 2**14)
    rare[0] = 0.8
    layout = Layout.sequence(16, len(rare))
    tokens = decode(scripted(rare.log().expand(16, -1)), Canvas.blank(layout, range(20)), um.mdlm(4)).tokens
    share = float((tokens > 0).double().mean())
    assert abs(share - 0.2) < 4 * math.sqrt(0.16 / tokens.numel())
