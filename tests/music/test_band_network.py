"""The network of the band: who sees whom, structure, words one by one against all at once, and padding."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from unisono.verify import Draw
from unisono_music.models.band.compose import Composition, Plan, Written
from unisono_music.models.band.grammar import Grammar
from unisono_music.models.band.layers import Seen, attend_by_structure, attend_linearly
from unisono_music.models.band.network import BandNetwork
from unisono_music.models.band.pieces import Pieces, pieces_of
from unisono_music.models.band.sizes import BandSizes
from unisono_music.models.band.structure import BarSimilarity, seen_by
from unisono_music.models.band.words import BAR, EMPTY, Words
from unisono_music.scores import Grid

GRAMMAR = Grammar.of(Words(bar_steps=4, num_pitches=3))
ALLOWED = torch.ones(3, len(GRAMMAR.words), dtype=torch.bool)
SIZES = BandSizes(
    dim=16, num_heads=2, dropout=0.0, expansion=2, encoder_layers=1, bottom_layers=1, top_layers=2, cross_layers=2
)
CONTROLS = [4, 3]
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}  # float32 sums of a few dozen terms in another order


def network(seed: int = 0, **given) -> BandNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        options = {"controls": CONTROLS, "sizes": SIZES, "structure": "product", **given}
        made = BandNetwork(num_tracks=3, vocabulary=len(GRAMMAR.words), **options).eval()
        for value in made.parameters():  # as far from its start as a trained one, so that every path carries something
            value.data.add_(0.2 * torch.randn(value.shape))
    return made


def random_pieces(lengths: list[int], seed: int = 0) -> list[Grid]:
    draw = np.random.default_rng(seed)
    return [Grid.of_pitches(draw.integers(-1, 3, (3, steps)).repeat(2, 1)[:, :steps]) for steps in lengths]


def read(grids: list[Grid]) -> Pieces:
    return pieces_of(grids, [0, 0, 0], GRAMMAR, ALLOWED)


def controls_for(pieces: Pieces, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    n, s = pieces.kept.shape
    return torch.stack([torch.randint(count, (3, n, s), generator=draw) for count in CONTROLS], -1)


@torch.no_grad()
def logits_of(net: BandNetwork, pieces: Pieces, controls: torch.Tensor) -> torch.Tensor:
    return net(pieces.words, pieces.bars, pieces.openings, net.read(controls, pieces.kept))


@pytest.mark.parametrize("own_weights", [True, False])
def test_a_word_reaches_other_tracks_from_the_next_bar_on(own_weights):
    net = network(sizes=replace(SIZES, own_weights=own_weights))
    pieces = read(random_pieces([16]))
    controls = controls_for(pieces)
    before = logits_of(net, pieces, controls)
    words, bars = pieces.words.clone(), pieces.bars[:, 0]
    inside = int(((bars[0] == 1) & (pieces.words[0, 0] != BAR) & (pieces.words[0, 0] != EMPTY)).nonzero()[0])
    words[0, 0, inside] = GRAMMAR.words.pitch(2) if words[0, 0, inside] != GRAMMAR.words.pitch(2) else 1
    moved = (logits_of(net, replace(pieces, words=words), controls) - before).abs().amax(-1)[:, 0] > 1e-6
    there = pieces.there[:, 0]
    assert not moved[0, :inside].any() and moved[0, inside:][there[0, inside:]].all()
    for track in (1, 2):
        assert not moved[track][bars[track] <= 1].any()
        assert moved[track][(bars[track] >= 2) & there[track]].all()


def test_whether_a_bar_is_empty_reaches_other_tracks_in_that_bar():
    net, pieces = network(), read(random_pieces([16]))
    controls = controls_for(pieces)
    words, bars = pieces.words.clone(), pieces.bars[:, 0]
    place = int(pieces.openings[0, 0, 1])
    words[0, 0, place] = BAR + EMPTY - words[0, 0, place]
    moved = logits_of(net, replace(pieces, words=words), controls) - logits_of(net, pieces, controls)
    moved = moved.abs().amax(-1)[:, 0] > 1e-6
    for track in (1, 2):
        assert not moved[track][bars[track] < 1].any()
        assert moved[track][(bars[track] >= 1) & pieces.there[track, 0]].all()


def test_without_the_exchange_tracks_know_nothing_of_one_another():
    net, pieces = network(cross_track=False), read(random_pieces([16]))
    controls = controls_for(pieces)
    words = pieces.words.clone()
    words[0, 0, 1:] = 5
    moved = (logits_of(net, replace(pieces, words=words), controls) - logits_of(net, pieces, controls)).abs().amax(-1)
    assert moved[0].any() and not moved[1:].any()


@pytest.mark.parametrize("options", [{}, {"structure": "sum"}, {"structure": "none"}, {"controls": []}])
def test_words_one_by_one_give_what_all_at_once_give(options):
    """Pieces of unlike lengths side by side; each track waits at a bar line until the others of its piece are there."""
    net = network(**options)
    grids = random_pieces([14, 7, 16])
    pieces = read(grids)
    controls = controls_for(pieces) if net.encoder else torch.zeros(3, 3, pieces.kept.shape[1], 0, dtype=torch.int64)
    guide = net.read(controls, pieces.kept)
    with torch.no_grad():
        expected = net(pieces.words, pieces.bars, pieces.openings, guide)
        reading = net.begin(guide, 64)
        at = torch.zeros(3, 3, dtype=torch.int64)
        count, evaluations = pieces.there.sum(-1), 0
        starts = (pieces.words == BAR) | (pieces.words == EMPTY)
        while bool((at < count).any()):
            place = at.clamp(max=pieces.words.shape[-1] - 1)[..., None]
            word, bar = pieces.words.gather(2, place)[..., 0], pieces.bars.gather(2, place)[..., 0]
            waits = starts.gather(2, place)[..., 0] & (at < count)
            opening = waits.all(0)
            fed = torch.where(opening, True, (at < count) & ~waits)
            made = net.step(reading, word, bar, fed, opening)
            for track, piece in fed.nonzero().tolist():
                torch.testing.assert_close(made[track, piece], expected[track, piece, at[track, piece]], **TOLERANCE)
            at, evaluations = at + fed, evaluations + 1
    words_in = torch.zeros(3, 3, pieces.kept.shape[1], dtype=torch.int64)
    words_in.scatter_add_(2, pieces.bars, pieces.there.long())
    words_in[..., 0] -= 1  # the first Edge, which is read by itself
    assert evaluations == 1 + int(words_in.amax(0).sum(-1).max())


def test_a_piece_alone_is_the_piece_in_a_batch():
    """Neither longer pieces nor bars behind the end move anything, in attention, exchange or similarity."""
    net = network()
    grids = random_pieces([6, 16])
    both, alone = read(grids), read(grids[:1])
    controls = controls_for(both)
    many = logits_of(net, both, controls)
    one = logits_of(net, alone, controls[:, :1, : alone.kept.shape[1]])
    there = alone.there[:, 0]
    torch.testing.assert_close(many[:, 0, : there.shape[1]][there], one[:, 0][there], **TOLERANCE)


def test_words_and_controls_are_heard_before_anything_is_learnt():
    """Embeddings that are small beside the codes of places drown in them, and nothing is learnt for 600 steps."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = BandNetwork(num_tracks=3, vocabulary=len(GRAMMAR.words), controls=CONTROLS, sizes=SIZES)
    pieces = read(random_pieces([16]))
    controls = controls_for(pieces)
    before = logits_of(net, pieces, controls)
    other_controls = logits_of(net, pieces, (controls + 1) % 3)
    other_words = logits_of(net, replace(pieces, words=pieces.words.clamp(min=4).flip(-1)), controls)
    for moved in (other_controls, other_words):
        assert (moved - before).std() > 0.1 * before.std()


@pytest.mark.parametrize("kind", ["product", "sum"])
def test_similarity_means_the_same_with_bars_that_are_padding(kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        similarity = BarSimilarity(2, 8, kind)
        bars = torch.randn(2, 1, 5, 8)
    kept = torch.arange(5)[None] < 3
    padded = similarity(bars, kept)[:, :3, :3]
    torch.testing.assert_close(padded, similarity(bars[:, :, :3], kept[:, :3]), **TOLERANCE)
    if kind == "product":  # a LayerNorm: each row has mean 0 and variance 1, but for eps
        plain = padded.detach()
        torch.testing.assert_close(plain.mean(-1), torch.zeros(2, 3), atol=1e-5, rtol=0)
        share = (similarity.query(bars) @ similarity.key(bars).mT / 8**0.5)[:, 0, :3, :3].softmax(-1)
        peer = torch.nn.functional.layer_norm(share, (3,), eps=1e-5)
        torch.testing.assert_close(padded, peer, **TOLERANCE)
    else:  # in the mean, weights are raised by as much as they are lowered
        torch.testing.assert_close(padded.exp().mean(-1), torch.ones(2, 3), **TOLERANCE)


@pytest.mark.parametrize(("kind", "alike"), [("product", 1.0), ("sum", 0.0)])
def test_bars_that_are_all_alike_give_plain_attention(kind, alike):
    q, k, v = torch.randn(3, 2, 2, 6, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 6, 6, dtype=torch.bool).tril()
    bars = torch.tensor([0, 0, 1, 1, 1, 2]).expand(2, 6)
    seen = seen_by(torch.full((2, 3, 3), alike), kind, mask, bars, bars)
    plain = attend_by_structure(q, k, v, Seen(mask[:, None]))
    torch.testing.assert_close(attend_by_structure(q, k, v, seen), plain, rtol=1e-5, atol=1e-6)


def test_similarity_is_that_of_the_bars_which_words_are_in():
    similarity = torch.arange(9.0).view(1, 3, 3)
    queries, keys = torch.tensor([[0, 2]]), torch.tensor([[0, 0, 1, 2]])
    seen = seen_by(similarity, "product", torch.ones(1, 2, 4, dtype=torch.bool), queries, keys)
    assert seen.factor is not None and seen.factor[0, 0].tolist() == [[0, 0, 1, 2], [6, 6, 7, 8]]


def test_linear_attention_is_the_sum_that_it_stands_for():
    q, k, v = torch.randn(3, 2, 1, 5, 4, generator=torch.Generator().manual_seed(0))
    kept = torch.tensor([[True] * 5, [True, True, False, True, False]])
    weights = (torch.nn.functional.elu(q) + 1) @ (torch.nn.functional.elu(k) + 1).mT * kept[:, None, None]
    expected = (weights / weights.sum(-1, keepdim=True)) @ v
    torch.testing.assert_close(attend_linearly(q, k, v, kept), expected[:, 0], **TOLERANCE)


# ---- composing -------------------------------------------------------------------------------------------------------


def compose(net: BandNetwork, grammar: Grammar, allowed: torch.Tensor, asked: list[Plan], draw: Draw) -> list[Written]:
    composition = Composition(net, grammar, allowed, asked, draw)
    while not composition.ended:
        composition.step()
    assert composition.finished == [len(plan.bars) for plan in asked]
    return composition.written()


def plans(bars: list[tuple[int, ...]], seeds: list[int]) -> list[Plan]:
    draw = torch.Generator().manual_seed(3)
    return [
        Plan(torch.stack([torch.randint(c, (3, len(own)), generator=draw) for c in CONTROLS], -1), own, seed)
        for own, seed in zip(bars, seeds, strict=True)
    ]


def test_what_is_composed_is_grammatical_and_the_same_alone():
    net = network()
    asked = plans([(4, 4, 4), (4,), (4, 4, 4, 4, 2)], [0, 1, 2])
    made = compose(net, GRAMMAR, ALLOWED, asked, Draw(1.0))
    for plan, written in zip(asked, made, strict=True):
        (alone,) = compose(net, GRAMMAR, ALLOWED, [plan], Draw(1.0))
        assert alone == written
        steps = sum(plan.bars)
        for track in written.words:
            pitch, onset = GRAMMAR.words.decode(track, steps)
            assert GRAMMAR.words.encode(pitch, onset) == list(track)
        bars = [[len(part) for part in _by_bar(track)] for track in written.words]
        assert all(len(own) == len(plan.bars) for own in bars)
        assert written.depth == 1 + sum(max(sizes) for sizes in zip(*bars, strict=True))


def _by_bar(words: tuple[int, ...]) -> list[list[int]]:
    """The words of each bar, its first with it; the last Edge is drawn and never read."""
    bars: list[list[int]] = []
    for word in words[1:-1]:
        if word in (BAR, EMPTY):
            bars.append([])
        bars[-1].append(word)
    return bars


def test_tracks_with_the_same_weights_and_controls_do_not_draw_alike():
    """Tracks that share a seed write the same; these have equal everything but their seeds."""
    net = network(sizes=replace(SIZES, own_weights=False), cross_track=False, controls=[])
    assert net.tracks is not None
    net.tracks.weight.data.zero_()
    (made,) = compose(net, GRAMMAR, ALLOWED, [Plan(torch.zeros(3, 4, 0, dtype=torch.int64), (4,) * 4, 5)], Draw(1.0))
    assert len(set(made.words)) == 3


def test_a_track_keeps_to_its_own_pitches():
    allowed = ALLOWED.clone()
    allowed[1, GRAMMAR.words.pitch(1) : GRAMMAR.words.pitch(3)] = False
    made = compose(network(), GRAMMAR, allowed, plans([(4,) * 6] * 4, [0, 1, 2, 3]), Draw(10.0))
    heights = [[GRAMMAR.words.decode(w.words[track], 24)[0].max() for w in made] for track in range(3)]
    assert max(heights[1]) == 0 and min(max(heights[0]), max(heights[2])) > 0


def test_a_draw_has_the_probability_that_is_trained():
    """Cost counts what the grammar allows, and nothing else: over all first bars of a track, probabilities sum to 1."""
    net = network()
    pieces = read(random_pieces([8, 5]))
    logits = logits_of(net, pieces, controls_for(pieces)).masked_fill(~pieces.legal, -torch.inf)
    share = logits[pieces.there].softmax(-1)
    assert (share[~pieces.legal[pieces.there]] == 0).all()
    chosen = pieces.legal.gather(-1, pieces.targets[..., None])[..., 0]
    assert chosen[pieces.there].all()
