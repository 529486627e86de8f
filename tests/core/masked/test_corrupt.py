"""Corruptions: exact laws of what is hidden, and that training sees what decoding sees."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import unisono.masked as um
from refused import refused
from torch import nn
from torch.nn import functional as F
from unisono.errors import UnisonoError
from unisono.masked import Canvas, Layout, Plan, Scheduled, decode
from unisono.masked.training.corrupt import (
    BlockDiffusion,
    Complementary,
    Counted,
    Diffusion,
    Glancing,
    PlanMasking,
    block_causal,
    corruption_for,
    noised_and_clean,
)
from unisono.testing.oracles.masked import Joint, surprise

ROWS = 40_000
SEQUENCE, LEVELS, BLOCKS = Layout.sequence(5, 4), Layout.levels(3, 3, 4, shared=False), Layout.blocks(6, 2, 4)


def blank(layout, rows=ROWS, seed=0, lengths=None):
    return Canvas.blank(layout, um.row_seeds(seed, rows), lengths)


def true_tokens(layout, rows=ROWS):
    size = layout.vocab[:, 1] - layout.vocab[:, 0]
    offset = torch.randint(0, 1 << 30, (rows, layout.length), generator=torch.Generator().manual_seed(5))
    return layout.vocab[:, 0] + offset % size


def patterns(hidden):
    """Frequencies of the 2^l patterns of hidden positions."""
    index = (hidden.long() << torch.arange(hidden.shape[1])).sum(1)
    return np.bincount(index.numpy(), minlength=2 ** hidden.shape[1])


def law_of(counts, positions, always=()):
    """Given P(count hidden), uniform over the subsets of `positions` of that size; `always` are hidden too."""
    law = np.zeros(2 ** (max([*positions, *always]) + 1))
    base = sum(1 << i for i in always)
    for k, p in counts.items():
        subsets = list(itertools.combinations(positions, k))
        for subset in subsets:
            law[base + sum(1 << i for i in subset)] += p / len(subsets)
    return law


def cosine_counts(n):
    """P(ceil(n·cos(πr/2)) = k) for r uniform: at most k is hidden from r = 2·arccos(k/n)/π on."""
    at_most = [1 - 2 / math.pi * math.acos(k / n) for k in range(n + 1)]
    return {k: at_most[k] - at_most[k - 1] for k in range(1, n + 1)}


# MaskGIT


def test_maskgit_hides_its_cosine_share_uniformly():
    corrupted = PlanMasking(Plan(Scheduled(8)))(blank(SEQUENCE), true_tokens(SEQUENCE))
    hidden = corrupted.canvas.masked
    assert torch.equal(corrupted.weights, hidden.double())
    assert surprise(patterns(hidden), law_of(cosine_counts(5), range(5))) < 6


def test_the_law_sees_another_schedule():
    corrupted = PlanMasking(Plan(Scheduled(8, um.linear)))(blank(SEQUENCE), true_tokens(SEQUENCE))
    counts = patterns(corrupted.canvas.masked)
    assert surprise(counts, law_of(cosine_counts(5), range(5))) > 20
    assert surprise(counts, law_of({k: 1 / 5 for k in range(1, 6)}, range(5))) < 6


def test_what_is_given_and_what_is_padding_stays():
    tokens, lengths = true_tokens(SEQUENCE), torch.arange(ROWS) % 6
    canvas = blank(SEQUENCE, lengths=lengths)
    given = torch.tensor([False, True, False, False, False]) & ~canvas.padding
    canvas = canvas.freeze(tokens, given)
    diffusions = (Diffusion(), Diffusion(grouped=True), BlockDiffusion(), Counted())
    for corruption in (PlanMasking(Plan(Scheduled(8))), *diffusions):
        corrupted = corruption(canvas, tokens)
        after = corrupted.canvas
        fixed = given | canvas.padding
        assert (after.known & after.frozen)[fixed].all() and not corrupted.weights[fixed].any()
        assert torch.equal(after.tokens[given], tokens[given])
        shown = after.known & ~canvas.padding
        assert torch.equal(after.tokens[shown], tokens[shown])
        assert not after.tokens[after.masked].any()
        assert torch.equal(corrupted.weights > 0, after.masked)
        assert torch.equal(corrupted.window, canvas.masked)
    # Of the rows of 4 open positions, the count follows their 4, not the layout's 5.
    whole = PlanMasking(Plan(Scheduled(8)))(canvas, tokens).canvas.masked[lengths == 5]
    assert surprise(patterns(whole), law_of(cosine_counts(4), [0, 2, 3, 4])) < 6


@pytest.mark.parametrize(
    "corruption", [PlanMasking(Plan(Scheduled(8)), prompt=True), PlanMasking(Plan(Scheduled(4)), on_steps=True)]
)
def test_a_row_does_not_depend_on_its_batch_or_padding(corruption):
    tokens = true_tokens(SEQUENCE, 20)
    lengths = torch.arange(20) % 5 + 1
    together = corruption(blank(SEQUENCE, 20, lengths=lengths), tokens).canvas
    for row in range(20):
        n = int(lengths[row])
        alone = corruption(
            Canvas.blank(Layout.sequence(n, 4), um.row_seeds(0, 20)[row : row + 1]), tokens[row, None, :n]
        )
        assert torch.equal(alone.canvas.known[0], together.known[row, :n])


def test_new_seeds_hide_other_positions_and_old_ones_the_same():
    tokens, corruption = true_tokens(SEQUENCE, 50), PlanMasking(Plan(Scheduled(8)))
    first, again, other = (corruption(blank(SEQUENCE, 50, seed), tokens).canvas.known for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


# SoundStorm


def test_a_level_is_hidden_in_part_finer_ones_wholly_coarser_ones_never():
    corrupted = PlanMasking(um.soundstorm((4, 1, 1)).plan)(blank(LEVELS), true_tokens(LEVELS))
    hidden = corrupted.canvas.masked.view(ROWS, 3, 3)
    learnt = (corrupted.weights > 0).view(ROWS, 3, 3)
    level = learnt.any(1).int().argmax(1)
    assert (learnt.any(1).sum(1) == 1).all()
    assert not hidden[torch.arange(3).expand(ROWS, 3, 3) < level[:, None, None]].any()
    assert hidden[torch.arange(3).expand(ROWS, 3, 3) > level[:, None, None]].all()
    assert torch.equal(learnt, hidden & (torch.arange(3) == level[:, None, None]))
    # The law, whole: a level of three, MaskGIT's law in it.
    law = np.zeros(512)
    for q in range(3):
        finer = [i for i in range(9) if i % 3 > q]
        part = law_of(cosine_counts(3), [q, q + 3, q + 6], finer)
        law[: len(part)] += part / 3
    assert surprise(patterns(corrupted.canvas.masked), law) < 6


STATES = [
    (um.soundstorm((3, 2)), Layout.levels(4, 2, 3)),
    (um.group_ipd((2, 3)), Layout.streams(3, [2, 2, 2, 2], [0, 0, 1, 1])),
    (um.llada(3), Layout.blocks(7, 4, 3)),
    (um.maskgit(4), Layout.sequence(6, 3)),
    (um.maskgit(20), Layout.sequence(4, 3)),  # more steps than tokens
]


@pytest.mark.parametrize(("strategy", "layout"), STATES, ids=lambda value: getattr(value, "name", ""))
def test_training_sees_the_states_of_decoding(strategy, layout):
    """With the plan's own steps: every (group, hidden) that decoding passes through, as often, and no other.

    Decoding runs with random scores, so that it passes through every subset.
    """
    seen = []

    def model(tokens, known, query):
        seen.append(~known)
        return torch.zeros(*tokens.shape, layout.vocab_size)

    decode(model, blank(layout, 6000), replace(strategy, score=um.Random()))
    groups = layout.group.unique()
    open_group = [torch.where(hidden, layout.group, 99).amin(1) for hidden in seen]
    law = np.zeros(2**layout.length)
    for group in groups:
        here = [hidden for hidden, lowest in zip(seen, open_group, strict=True) if (lowest == group).all()]
        assert here
        for hidden in here:
            # Which subset is up to the scores, which are uniform: how many is what the plan decides.
            count = int((hidden & (layout.group == group)).sum(1)[0])
            assert ((hidden & (layout.group == group)).sum(1) == count).all()
            members = (layout.group == group).nonzero()[:, 0].tolist()
            later = (layout.group > group).nonzero()[:, 0].tolist()
            part = law_of({count: 1.0}, members, later)
            assert set(np.flatnonzero(patterns(hidden))) == set(np.flatnonzero(part))
            law[: len(part)] += part / len(here) / len(groups)
    corruption = corruption_for(strategy, on_steps=True)
    corrupted = corruption(blank(layout), true_tokens(layout))
    assert surprise(patterns(corrupted.canvas.masked), law) < 6
    # With a continuous ratio: the same kind of states, and at least all of these.
    anywhere = patterns(corruption_for(strategy)(blank(layout), true_tokens(layout)).canvas.masked)
    assert set(np.flatnonzero(law)) <= set(np.flatnonzero(anywhere))


def test_groups_are_drawn_by_weight_among_those_with_something_open():
    corruption = PlanMasking(Plan(Scheduled(4)), group_weights=(3, 2, 1))
    tokens = true_tokens(LEVELS)
    canvas = blank(LEVELS)
    level = (corruption(canvas, tokens).weights > 0).view(ROWS, 3, 3).any(1).int().argmax(1)
    assert surprise(np.bincount(level), np.array([3, 2, 1]) / 6) < 6
    assert surprise(np.bincount(level), np.ones(3) / 3) > 20
    canvas = canvas.freeze(tokens, LEVELS.group == 0)
    level = (corruption(canvas, tokens).weights > 0).view(ROWS, 3, 3).any(1).int().argmax(1)
    assert surprise(np.bincount(level)[1:], np.array([2, 1]) / 3) < 6
    everything = canvas.freeze(tokens, torch.ones(9, dtype=torch.bool))
    assert not corruption(everything, tokens).weights.any()


def test_a_prompt_is_a_prefix_of_frames_from_none_to_all_but_one():
    lengths = torch.where(torch.arange(ROWS) % 2 == 0, 9, 6)
    canvas = blank(LEVELS, lengths=lengths)
    corrupted = PlanMasking(Plan(Scheduled(4)), prompt=True)(canvas, true_tokens(LEVELS))
    frozen = (corrupted.canvas.frozen & ~canvas.padding).view(ROWS, 3, 3)
    assert torch.equal(frozen.all(2), frozen.any(2))
    for frames, rows in ((3, lengths == 9), (2, lengths == 6)):
        given = frozen.all(2)[rows]
        assert torch.equal(given, given.long().cummin(1).values.bool())
        assert surprise(np.bincount(given.sum(1)), np.ones(frames) / frames) < 6
    assert (corrupted.weights.sum(1) > 0).all()


# Diffusion


@pytest.mark.parametrize(("alpha", "hidden"), [(None, 0.3), (lambda t: 1 - t**2, 0.09)])
def test_diffusion_hides_each_position_by_chance(alpha, hidden):
    diffusion = Diffusion(alpha)
    corrupted = diffusion.at(blank(SEQUENCE), true_tokens(SEQUENCE), torch.full((ROWS,), 0.3))
    law = [hidden ** bin(x).count("1") * (1 - hidden) ** (5 - bin(x).count("1")) for x in range(32)]
    assert surprise(patterns(corrupted.canvas.masked), np.array(law)) < 6
    # −α′/(1 − α): 1/t, and 2t/t².
    expected = (1 if alpha is None else 2) / 0.3
    shown = corrupted.canvas.known
    torch.testing.assert_close(corrupted.weights[~shown], torch.full_like(corrupted.weights[~shown], expected))
    assert not corrupted.weights[shown].any()


def test_times_are_stratified_and_given_by_lot():
    canvas = blank(SEQUENCE, 64, seed=3)
    diffusion = Diffusion(min_time=0.0)
    times = diffusion.times(canvas)
    assert torch.equal((times * 64).long().sort().values, torch.arange(64))
    assert not torch.equal(times.argsort(), torch.arange(64))
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(diffusion.times(canvas.rows(order)), times[order])
    # Inside its stratum a time is uniform: the mean over many batches of each stratum's offset.
    offsets = torch.cat([diffusion.times(blank(SEQUENCE, 64, seed)) * 64 % 1 for seed in range(40)])
    assert abs(float(offsets.mean()) - 0.5) < 4 * 0.289 / math.sqrt(2560)
    assert float(Diffusion(min_time=0.5).times(canvas).min()) >= 0.5


def test_grouped_diffusion_is_one_group_at_a_time():
    corrupted = Diffusion(grouped=True)(blank(BLOCKS, 3000), true_tokens(BLOCKS, 3000))
    hidden = corrupted.canvas.masked.view(-1, 3, 2)
    group = corrupted.window.view(-1, 3, 2).any(2).int().argmax(1)
    for i in range(3):
        rows = group == i
        assert 800 < rows.sum() < 1200
        assert not hidden[rows, :i].any() and hidden[rows, i + 1 :].all()
        learnt = corrupted.weights[rows].view(-1, 3, 2)
        assert not learnt[:, :i].any() and not learnt[:, i + 1 :].any()
        time = corrupted.time[rows].view(-1, 3, 2)[:, i]
        expected = torch.where(hidden[rows, i], 3 / time, 0)  # 3: the groups that were not drawn
        torch.testing.assert_close(learnt[:, i], expected)


def test_blocks_have_times_of_their_own():
    corrupted = BlockDiffusion(clip=(0.2, 0.8))(blank(BLOCKS, 500), true_tokens(BLOCKS, 500))
    time = corrupted.time.view(500, 3, 2)
    assert torch.equal(time[..., 0], time[..., 1])
    flat = time[..., 0].flatten()
    assert torch.equal(((flat - 0.2) / 0.6 * 1500).long().sort().values, torch.arange(1500))
    assert abs(np.corrcoef(time[..., 0].numpy().T)[0, 1]) < 0.15
    share = corrupted.canvas.masked.double().mean()
    assert abs(float(share) - 0.5) < 0.03


def test_blocks_may_be_given_their_times():
    canvas, tokens, diffusion = blank(BLOCKS, 500), true_tokens(BLOCKS, 500), BlockDiffusion()
    own, given = diffusion(canvas, tokens), diffusion.at(canvas, tokens, diffusion.times(canvas))
    for name in ("time", "weights"):
        assert torch.equal(getattr(own, name), getattr(given, name))
    assert torch.equal(own.canvas.known, given.canvas.known)
    times = torch.tensor([[0.25, 1.0, 0.5, 0.1]]).expand(500, 4)  # one more than there are blocks
    corrupted = diffusion.at(canvas, tokens, times)
    hidden = corrupted.canvas.masked.view(500, 3, 2).double().mean((0, 2))
    assert float(hidden[1]) == 1 and torch.allclose(hidden[[0, 2]], times[0, [0, 2]].double(), atol=0.06)
    shown = corrupted.weights.view(500, 3, 2)[:, 0].unique()
    torch.testing.assert_close(shown, torch.tensor([0.0, 4.0], dtype=torch.float64))


def test_a_number_is_hidden_in_place_of_a_time():
    """Each block's number is uniform, its subsets alike, and what a position weighs on average is 1."""
    canvas, tokens = blank(BLOCKS), true_tokens(BLOCKS)
    given = canvas.freeze(tokens, torch.tensor([True, False, False, False, False, False]))
    for start, counts in ((canvas, {1: 0.5, 2: 0.5}), (given, {1: 1.0})):
        corrupted = Counted(beside=True)(start, tokens)
        hidden = corrupted.canvas.masked
        first = [at for at in (0, 1) if bool(start.masked[0, at])]
        assert surprise(patterns(hidden[:, :2]), law_of(counts, first)) < 6
        assert surprise(patterns(hidden[:, 2:4]), law_of({1: 0.5, 2: 0.5}, [0, 1])) < 6
        weight = corrupted.weights.mean(0)
        assert (weight - start.masked[0].double()).abs().max() < 0.05
        assert torch.equal(corrupted.visible, noised_and_clean(BLOCKS)) and torch.equal(corrupted.window, start.masked)
        assert float(corrupted.weights.max()) <= 2  # n/k, where 1/t has no limit
    together = np.corrcoef(hidden[:, 2].numpy(), hidden[:, 4].numpy())[0, 1]
    assert abs(together) < 0.05


def test_numbers_hidden_cost_in_the_mean_what_times_do():
    """Over all ways to hide: the sum of n/k · P(k hidden) is the integral of 1/t · P(hidden at t)."""
    canvas, tokens = blank(SEQUENCE, 1), true_tokens(SEQUENCE, 1)
    n = SEQUENCE.length
    for k in range(1, n + 1):
        corrupted = Counted().at(canvas, tokens, torch.tensor([[(k - 0.5) / n]]))
        assert int(corrupted.canvas.masked.sum()) == k and corrupted.visible is None
        assert float(corrupted.weights.max()) == pytest.approx(n / k)
        # ∫ t^(k−1) (1 − t)^(n−k) dt is a Beta function; times C(n, k) ways to hide k of n: 1/k, which is n/k · 1/n.
        beta = math.gamma(k) * math.gamma(n - k + 1) / math.gamma(n + 1)
        assert math.comb(n, k) * beta == pytest.approx(float(corrupted.weights.max()) / n)


def test_noised_and_clean_by_hand():
    expected = """
        1 1 0 0  0 0 0 0
        1 1 0 0  0 0 0 0
        0 0 1 1  1 1 0 0
        0 0 1 1  1 1 0 0
        0 0 0 0  1 1 0 0
        0 0 0 0  1 1 0 0
        0 0 0 0  1 1 1 1
        0 0 0 0  1 1 1 1
    """
    assert noised_and_clean(Layout.blocks(4, 2, 3)).int().tolist() == [
        [int(x) for x in line.split()] for line in expected.strip().splitlines()
    ]


class Attention(nn.Module):
    """Two layers over embeddings of tokens (unknown ones are one vector) and positions."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.tokens, self.positions = nn.Embedding(5, 8), nn.Embedding(6, 8)
            self.layers = nn.ModuleList(nn.Linear(8, 24) for _ in range(2))
        self.double().requires_grad_(False)

    def forward(self, tokens, known, positions, visible):
        x = self.tokens(torch.where(known, tokens, 4)) + self.positions(positions)
        for layer in self.layers:
            q, k, v = layer(x).chunk(3, -1)
            x = x + F.scaled_dot_product_attention(q, k, v, visible)
        return x


def test_one_pass_of_block_diffusion_is_every_block_as_decoded():
    network, tokens = Attention(), true_tokens(BLOCKS, 7)
    corrupted = BlockDiffusion()(blank(BLOCKS, 7), tokens)
    canvas, place = corrupted.canvas, torch.arange(6)

    def side_by_side(visible):
        both = torch.cat([canvas.tokens, tokens], 1)
        known = torch.cat([canvas.known, torch.ones_like(canvas.known)], 1)
        return network(both, known, place.repeat(2), visible)[:, :6]

    out = side_by_side(corrupted.visible)
    for block in range(3):
        before = BLOCKS.group < block
        known = canvas.known | before
        alone = network(torch.where(before, tokens, canvas.tokens), known, place, block_causal(BLOCKS))
        here = BLOCKS.group == block
        # float64, another order of sums
        torch.testing.assert_close(out[:, here], alone[:, here], rtol=0, atol=1e-12)
    leak = corrupted.visible.clone()
    leak[0, 6] = True  # a noised token sees itself clean
    assert not torch.allclose(side_by_side(leak)[:, 0], out[:, 0])


# Complementary and glancing


@pytest.mark.parametrize("layout", [SEQUENCE, BLOCKS, LEVELS])
def test_complements_learn_each_token_of_the_window_once(layout):
    tokens, canvas = true_tokens(layout, 200), blank(layout, 200)
    canvas = canvas.freeze(tokens, torch.arange(layout.length) == 1)
    corrupted = Complementary(PlanMasking(Plan(Scheduled(4, um.linear))))(canvas, tokens)
    first, second = corrupted.weights.chunk(2)
    window, again = corrupted.window.chunk(2)
    assert torch.equal(first + second, window.double()) and torch.equal(window, again)
    assert window.any(1).all() and not window[:, 1].any()
    assert torch.equal(corrupted.canvas.masked[200:] & window, ~corrupted.canvas.masked[:200] & window)
    later = corrupted.canvas.masked.view(2, 200, -1) & ~window
    assert torch.equal(later[0], later[1])
    shown = corrupted.canvas.known
    assert torch.equal(corrupted.canvas.tokens[shown], corrupted.targets[shown])
    assert torch.equal(corrupted.canvas.seed[200:], canvas.seed)


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
def test_glancing_reveals_a_share_of_what_was_wrong(ratio):
    tokens = true_tokens(SEQUENCE)
    canvas = blank(SEQUENCE).freeze(tokens, torch.arange(5) == 0)
    wrong = torch.arange(ROWS) % 5
    guess = torch.where(torch.arange(5) > 4 - wrong[:, None], (tokens + 1) % 4, tokens)
    corrupted = Glancing(ratio)(canvas, tokens, F.one_hot(guess, 4).double())
    revealed = corrupted.canvas.known.sum(1) - 1
    assert torch.equal(revealed, (ratio * wrong).long())
    assert torch.equal(corrupted.weights > 0, corrupted.canvas.masked)
    if ratio == 0.5:  # which ones does not depend on which were wrong
        hidden = corrupted.canvas.masked[wrong == 4]
        assert surprise(patterns(hidden), law_of({2: 1.0}, range(1, 5))) < 6


def test_glancing_does_not_count_tokens_of_another_vocabulary():
    layout = Layout.levels(2, 2, 3, shared=False)
    tokens = torch.tensor([[1, 4, 2, 5]])
    logits = torch.full((1, 4, 6), 0.0)
    logits.scatter_(2, tokens[..., None], 1.0)
    logits[0, 0, 5] = 9.0  # foreign at position 0
    assert not Glancing(1.0)(blank(layout, 1), tokens, logits).canvas.known.any()


# From strategies


def test_a_strategy_says_how_to_train():
    assert corruption_for(um.maskgit(8)).plan.count.num_steps == 8
    assert corruption_for(um.mdlm(16), min_time=0.0).min_time == 0.0
    assert isinstance(corruption_for(um.remdm(16)), Diffusion) and not corruption_for(um.remdm(16)).grouped
    assert corruption_for(um.block_diffusion(4)).grouped
    alpha = lambda t: 1 - t**2  # noqa: E731
    assert corruption_for(um.mdlm(16, alpha=alpha)).alpha is alpha


@pytest.mark.parametrize("steps", [1, 3])
def test_diffusion_sees_what_mdlm_passes_through(steps):
    """The states before each step of ancestral sampling are those of the corruption at these times."""
    joint, layout, seen = Joint.random(3, 3, seed=0), Layout.sequence(3, 3), []

    def model(tokens, known, query):
        seen.append(~known)
        return joint(tokens, known, query)

    decode(model, blank(layout), um.mdlm(steps), executor=um.sync)
    for i, hidden in enumerate(seen):
        time = torch.full((ROWS,), 1 - i / steps)
        corrupted = corruption_for(um.mdlm(steps)).at(blank(layout, seed=1), true_tokens(layout), time)
        rate = 1 - i / steps
        law = np.array([rate ** bin(x).count("1") * (1 - rate) ** (3 - bin(x).count("1")) for x in range(8)])
        for states in (hidden, corrupted.canvas.masked):
            assert surprise(patterns(states), law) < 6


# Wrong input

SMALL, FIVE, COSINE = blank(SEQUENCE, 1), torch.zeros(1, 5, dtype=torch.int64), Scheduled(4)
WRONG = [
    ("range", "tokens", 4, lambda: Diffusion()(SMALL, torch.tensor([[0, 1, 4, 0, 0]]))),
    ("range", "tokens", -1, lambda: PlanMasking(Plan(Scheduled(4)))(SMALL, torch.full((1, 5), -1))),
    ("range", "tokens", 4, lambda: BlockDiffusion()(SMALL, torch.full((1, 5), 4))),
    ("range", "tokens", 4, lambda: Glancing()(SMALL, torch.full((1, 5), 4), torch.zeros(1, 5, 4))),
    ("shape", "tokens", (1, 4), lambda: Diffusion()(SMALL, torch.zeros(1, 4, dtype=torch.int64))),
    ("shape", "group_weights", 2, lambda: PlanMasking(Plan(COSINE), (1, 1))(SMALL, FIVE)),
    ("value", "group_weights", [0.0, 0.0], lambda: PlanMasking(Plan(Scheduled(4)), (0.0, 0.0))),
    ("shape", "num_steps", [4, 1], lambda: PlanMasking(Plan(Scheduled((4, 1))))(SMALL, FIVE)),
    ("range", "min_time", 1.0, lambda: Diffusion(min_time=1.0)),
    ("range", "min_time", math.inf, lambda: Diffusion(min_time=math.inf)),
    ("type", "min_time", "0", lambda: Diffusion(min_time="0")),
    ("value", "alpha", [1.0, 0.5], lambda: Diffusion(lambda t: 1 - t / 2)),
    ("value", "alpha", [0.0, 1.0], lambda: BlockDiffusion(lambda t: t)),
    ("range", "clip", (0.5, 0.5), lambda: BlockDiffusion(clip=(0.5, 0.5))),
    ("shape", "time", (2, 5), lambda: BlockDiffusion().at(SMALL, FIVE, torch.ones(2, 5))),
    ("shape", "u", (2, 5), lambda: Counted().at(SMALL, FIVE, torch.ones(2, 5))),
    ("range", "ratio", 1.5, lambda: Glancing(1.5)),
]  # fmt: skip


@pytest.mark.parametrize(("code", "path", "value", "call"), WRONG)
def test_wrong_input_is_one_sentence(code, path, value, call):
    with refused(UnisonoError, code, path, value=value):
        call()


def test_an_empty_batch_and_an_empty_row_are_no_trouble():
    for corruption in (PlanMasking(Plan(Scheduled(4)), on_steps=True), PlanMasking(Plan(Scheduled(4)), prompt=True),
                       Diffusion(), Diffusion(grouped=True), BlockDiffusion(), Counted()):  # fmt: skip
        for canvas in (blank(SEQUENCE, 0), blank(SEQUENCE, 2, lengths=[0, 0])):
            corrupted = corruption(canvas, torch.zeros_like(canvas.tokens))
            assert not corrupted.weights.any() and corrupted.canvas.known.all()
