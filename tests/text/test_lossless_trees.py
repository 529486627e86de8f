"""Mask trees, TR-Jacobi and SpecExec: tokens of plain decoding, rounds of a plain simulation, the best nodes."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from unisono.errors import UnisonoError
from unisono.verify import (
    Draw,
    KVCache,
    Matching,
    Method,
    NGram,
    Prefix,
    Rejection,
    Target,
    autoregressive,
    coupled_speculative,
    decode,
    look_ahead,
    rounds,
)
from unisono_text.lossless.best_first import ROOT, Row, overlaid
from unisono_text.lossless.mask_tree import MaskTree, space
from unisono_text.lossless.networks import CausalNetwork
from unisono_text.lossless.specexec import SpecExec, specexec
from unisono_text.lossless.tr_jacobi import TEMPLATE, TRJacobi, tr_jacobi
from unisono_text.lossless.tree_draft import TreeDraft
from unisono_text.models.sizes import TransformerSizes
from unisono_text.models.transformer import TextTransformer

V, START = 6, 6
MASKS = (7, 8, 9)
SIZES = TransformerSizes(dim=16, num_layers=2, num_heads=2, filter_dim=24, dropout=0.0)


def network_of(seed, sharpness=12.0, noise=0.0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = TextTransformer(V + 1 + len(MASKS), V, SIZES, "causal").eval().requires_grad_(False)
        for parameter in net.parameters():
            parameter.mul_(sharpness if parameter.dim() > 1 else 1).add_(noise * torch.randn(parameter.shape))
    return CausalNetwork(net)


TARGET = network_of(0)
DRAFT = network_of(0, noise=0.1)
METHODS = {
    "space": lambda draft: space(MASKS),
    "space, one mask": lambda draft: space(MASKS[:1]),
    "tr-jacobi": lambda draft: tr_jacobi(),
    "tr-jacobi, all n-grams": lambda draft: Method("x", TRJacobi(((1,), (0,), (0, 1)), NGram(3, 3, 2)), Matching()),
    "specexec": lambda draft: specexec(draft, 12, 3),
    "specexec, frontier of 1": lambda draft: Method("x", SpecExec(draft, 5, V, 3, 1, 1.0), Matching()),
}
PROMPT = torch.tensor([[START, 3, 1, 4], [START, 5, 0, 0], [START, 2, 3, 0]])
LENGTHS, SEEDS, LIMIT = torch.tensor([4, 1, 3]), [11, 12, 13], 21


def run(method, network=TARGET, **options):
    given = {"seeds": SEEDS, "lengths": LENGTHS, "temperature": 1.0, "cache": KVCache, **options}
    return decode(network, PROMPT, method, given.pop("limit", LIMIT), **given)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 40),
    temperature=st.sampled_from([0.0, 0.7, 1.0]),
    end=st.sampled_from([None, 2]),
    limit=st.integers(4, 22),
    lengths=st.lists(st.integers(1, 4), min_size=3, max_size=3),
    cached=st.booleans(),
)
@pytest.mark.parametrize("name", METHODS)
def test_tokens_are_those_of_plain_decoding(name, seed, temperature, end, limit, lengths, cached):
    network, draft = network_of(seed), network_of(seed, noise=0.15)
    given = {"temperature": temperature, "end": end, "limit": limit, "lengths": torch.tensor(lengths)}
    plain = run(autoregressive(), network, cache=None, **given)
    before = torch.get_rng_state()
    out = run(METHODS[name](draft), network, cache=KVCache if cached else None, **given)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(out.tokens, plain.tokens) and torch.equal(out.length, plain.length)
    assert out.nfe == int(out.rounds.max()) and out.lossless
    assert (out.tokens[:, 1:] < V).all() and (out.tokens[:, 0] == START).all()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_something_is_accepted_and_no_round_commits_more_than_a_path(name, temperature):
    """Else the tests here would verify nothing."""
    out = run(METHODS[name](DRAFT), temperature=temperature, limit=60)
    deepest = {"space": 3, "space, one mask": 1, "tr-jacobi": 8, "specexec": 12}.get(name, 3)
    assert 0 < int(out.accepted.sum()) < int(out.proposed.sum())
    made = out.length - LENGTHS
    assert (out.rounds >= (made / (deepest + 1)).ceil()).all() and (out.rounds + out.accepted == made).all()


@pytest.mark.parametrize("name", METHODS)
def test_a_row_alone_in_a_batch_and_in_another_order_is_the_same(name):
    together = run(METHODS[name](DRAFT), end=2)
    order = [2, 0, 1]
    other = decode(
        TARGET, PROMPT[order], METHODS[name](DRAFT), LIMIT, seeds=[SEEDS[i] for i in order], lengths=LENGTHS[order],
        temperature=1.0, cache=KVCache, end=2,
    )  # fmt: skip
    for row in range(3):
        alone = decode(
            TARGET, PROMPT[row : row + 1, : LENGTHS[row]], METHODS[name](DRAFT), LIMIT, seeds=[SEEDS[row]],
            temperature=1.0, cache=KVCache, end=2,
        )  # fmt: skip
        for out, at in ((alone, 0), (other, order.index(row))):
            assert torch.equal(out.tokens[at], together.tokens[row])
            for count in ("rounds", "proposed", "accepted"):
                assert getattr(out, count)[at] == getattr(together, count)[row], count


@pytest.mark.parametrize("name", METHODS)
def test_the_cache_holds_what_a_fresh_reading_of_the_committed_tokens_gives(name):
    held = KVCache(3)
    going = rounds(
        TARGET, PROMPT, METHODS[name](DRAFT), 40, seeds=SEEDS, lengths=LENGTHS, temperature=1.0, cache=lambda _: held
    )
    for prefix in going:
        fresh = KVCache(3)
        n = prefix.limit
        TARGET(prefix.tokens, torch.arange(n).expand(3, n), torch.ones(3, n, n, dtype=torch.bool).tril(), fresh)
        for row in range(3):
            size = int(prefix.length[row]) - 1
            for layer, pair in held.layers.items():
                for mine, its in zip(pair, fresh.layers[layer], strict=True):
                    if not prefix.done[row]:
                        torch.testing.assert_close(mine[row, :, :size], its[row, :, :size], rtol=0, atol=1e-4)


# Mask trees


def said_behind(network, tokens, masks, temperature, seed):
    """What masks behind a row guess, by one evaluation of its own; the last token's own draw first."""
    reading = torch.tensor([[*tokens, *masks]])
    n = reading.shape[1]
    logits = network(reading, torch.arange(n)[None], torch.ones(1, n, n, dtype=torch.bool).tril(), None)
    positions = torch.arange(len(tokens), n + 1)[None]
    return Draw(temperature)(logits[:, len(tokens) - 1 :], torch.tensor([seed]), positions)[0].tolist()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_mask_trees_take_one_evaluation_where_look_ahead_takes_two(temperature):
    """Against a simulation on the finished text: from every place, how many guesses in a row are right."""
    limit, seed = 60, 5
    prompt = torch.tensor([[START, 1]])
    given = {"seeds": [seed], "temperature": temperature, "cache": KVCache}
    text = decode(TARGET, prompt, autoregressive(), limit, **given).tokens[0].tolist()

    def right(length):
        guesses = said_behind(TARGET, text[:length], MASKS, temperature, seed)[1:]
        pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(guesses, text[length + 1 :], strict=False))
        return len(list(pairs))

    # Mask trees: the masks behind the last accepted token were read before the model's own token followed it.
    length, one, hits = 2, 0, 0
    behind = None
    while length < limit:
        one += 1
        accepted = 0 if behind is None else min(right(behind), limit - 1 - length)
        hits += accepted
        length += accepted
        behind, length = length, length + 1
    out = decode(TARGET, prompt, space(MASKS), limit, **given)
    assert out.tokens[0].tolist() == text
    assert (out.nfe, int(out.accepted)) == (one, hits) and hits > 5
    # Look-ahead tokens: the same guesses, behind the model's own token, in two evaluations.
    length, two, also = 2, 0, 0
    while length < limit:
        room = limit - 1 - length
        two += 2 if room else 1
        accepted = min(1 + right(length), room)
        also += accepted
        length += accepted + 1
    out = decode(TARGET, prompt, look_ahead(MASKS), limit, **given)
    assert (out.nfe, int(out.accepted)) == (two, also)


def by_position(logits):
    """A network that looks at positions alone."""

    def network(tokens, positions, visible, cache):
        assert (tokens >= 0).all() and (tokens <= max(MASKS)).all()
        return logits[positions.clamp_max(len(logits) - 1)]

    return network


def test_where_all_masks_are_right_a_round_commits_a_group_and_one():
    network = by_position(torch.randn(80, V, generator=torch.Generator().manual_seed(0)))
    prompt = torch.tensor([[START]])
    plain = decode(network, prompt, autoregressive(), 62)
    out, two = decode(network, prompt, space(MASKS), 62), decode(network, prompt, look_ahead(MASKS), 62)
    assert torch.equal(out.tokens, plain.tokens) and torch.equal(two.tokens, plain.tokens)
    assert out.nfe == 1 + math.ceil(60 / 4)  # the first round has no guesses
    assert two.nfe == 2 * (60 // 5) + 1  # and the last token by itself


def test_masks_are_never_committed_and_never_believed():
    """A network that would say the masks' ids: as tokens of its own they are beyond its vocabulary."""
    proposal = MaskTree(MASKS)(Prefix.of(PROMPT, LIMIT, SEEDS, LENGTHS), None, Target(TARGET), Draw())
    assert not proposal.real.any() and proposal.tokens[0].tolist() == list(MASKS)
    assert proposal.parent.tolist() == [-1, 0, 1]


# TR-Jacobi


def test_laws_behind_refused_tokens_are_the_next_candidates():
    """Where positions alone decide, the laws of the last round are right: its template is followed to its end."""
    network = by_position(torch.randn(80, V, generator=torch.Generator().manual_seed(1)))
    for temperature in (0.0, 1.0):
        given = {"seeds": [3], "temperature": temperature}
        plain = decode(network, torch.tensor([[START]]), autoregressive(), 62, **given)
        seen, going = [], rounds(network, torch.tensor([[START]]), tr_jacobi(), 62, **given)
        for prefix in going:
            seen.append(int(prefix.length))
        assert torch.equal(prefix.tokens, plain.tokens)
        assert 6 in {b - a for a, b in itertools.pairwise(seen)}
        assert len(seen) < 61 / 2.5


def test_the_second_rank_is_tried():
    """Of two equally good guesses the template has both: what jacobi's single one misses every other time."""
    accepted = {}
    for name, tree in (("one", ((0,),)), ("two", ((0,), (1,)))):
        method = Method("x", TRJacobi(tree), Matching())
        accepted[name] = int(run(method, temperature=0.0, limit=60).accepted.sum())
    assert accepted["two"] > accepted["one"]


def test_the_template_is_a_tree_of_no_more_than_twelve_nodes():
    assert 8 <= len(TEMPLATE) <= 12 and max(map(len, TEMPLATE)) == 5
    proposal = TRJacobi()(Prefix.of(PROMPT, LIMIT, SEEDS, LENGTHS), None, Target(TARGET), Draw())
    assert proposal.real.all() and proposal.parent.tolist()[:11] == [-1, -1, -1, -1, 0, 0, 1, 4, 4, 7, 9]
    for row in range(3):  # random tokens of the row
        assert set(proposal.tokens[row].tolist()) <= set(PROMPT[row, : LENGTHS[row]].tolist())


# SpecExec


def scored(network, prompt, levels, decay, temperature, seed, spread):
    """Every path of up to so many tokens, with the logarithm of its probability: each prefix is read anew."""
    scores = {(): 0.0}
    for level in range(levels):
        for path in [path for path in scores if len(path) == level]:
            tokens = torch.tensor([[*prompt, *path]])
            n = tokens.shape[1]
            logits = network(tokens, torch.arange(n)[None], torch.ones(1, n, n, dtype=torch.bool).tril(), None)
            told = Draw(temperature).scores(logits[:, -1:], torch.tensor([seed]), torch.tensor([[n]]))
            for token, value in enumerate((told[0, 0].double() / spread).log_softmax(-1).tolist()):
                scores[(*path, token)] = scores[path] + value + math.log(decay)
    del scores[()]
    return scores


def paths_of(proposal, row):
    paths = {}
    for node, parent in enumerate(proposal.parent.tolist()):
        if proposal.real[row, node]:
            paths[node] = (*paths.get(parent, ()), int(proposal.tokens[row, node]))
    return set(paths.values())


@pytest.mark.parametrize(("frontier", "temperature", "spread"), [(1, 0.0, 1.0), (8, 0.0, 0.5), (3, 1.0, 2.0)])
def test_the_tree_is_that_of_the_best_nodes_of_all(frontier, temperature, spread):
    propose = SpecExec(DRAFT, budget=9, branch=V, depth=3, frontier=frontier, spread=spread)
    prefix = Prefix.of(PROMPT, LIMIT, SEEDS, LENGTHS)
    proposal = propose(prefix, None, Target(TARGET), Draw(temperature))
    shapes = set()
    for row in range(3):
        prompt = PROMPT[row, : LENGTHS[row]].tolist()
        scores = scored(DRAFT, prompt, 3, 0.95, temperature, SEEDS[row], spread)
        best = set(sorted(scores, key=scores.get, reverse=True)[:9])
        assert paths_of(proposal, row) == best
        shapes.add(tuple(sorted(map(len, best))))
    assert proposal.tokens.shape[1] > 9 or len(shapes) == 1  # a superset of the rows' shapes
    assert proposal.nfe == proposal.carry.target.nfe > 1


def test_the_drafts_keys_are_those_of_a_fresh_reading():
    """Logits behind nodes of different branches, over two rounds, against the path read alone."""
    prefix = Prefix.of(PROMPT, LIMIT, SEEDS, LENGTHS)
    draft = TreeDraft(DRAFT, prefix)
    for turn in range(2):
        rows = [Row(20, 4) for _ in range(3)]
        draft.begin(prefix)
        for row in rows:
            row.add(ROOT, [turn, 2, 3], [-1.0, -2.0, -3.0])
        draft.expand(prefix, rows, [[0, 1], [2], [0]])
        rows[0].add(1, [4, 5], [-0.1, -0.2])
        rows[1].add(2, [1], [-0.1])
        logits = draft.expand(prefix, rows, [[3, 4], [3], []])
        draft.end(prefix)
        for row, column, path in ((0, 0, [2, 4]), (0, 1, [2, 5]), (1, 0, [3, 1])):
            tokens = torch.tensor([[*prefix.tokens[row, : prefix.length[row]].tolist(), *path]])
            n = tokens.shape[1]
            alone = DRAFT(tokens, torch.arange(n)[None], torch.ones(1, n, n, dtype=torch.bool).tril(), None)
            torch.testing.assert_close(logits[row, column], alone[0, -1], rtol=0, atol=1e-4)
        prefix = prefix.commit(torch.tensor([[1, 2], [3, 1], [0, 0]]), torch.tensor([2, 1, 2]))


def test_a_tree_with_as_many_nodes_as_a_chain_commits_more():
    """With the same draft and the same budget."""
    chain = run(coupled_speculative(DRAFT, 16, KVCache), limit=120)
    tree = run(specexec(DRAFT, 16, 6), limit=120)
    assert torch.equal(chain.tokens, tree.tokens)
    assert int(tree.rounds.sum()) < int(chain.rounds.sum())


def test_rows_of_one_shape_lie_over_each_other_and_others_beside():
    def row(tokens, parents):
        tree = Row(9, 9)
        for token, parent in zip(tokens, parents, strict=True):
            tree.add(parent, [token], [-1.0])
        return tree

    left, right = row([1, 2, 3], [ROOT, 0, ROOT]), row([4, 5, 3], [ROOT, ROOT, 1])
    tokens, real, parent = overlaid([left, right])
    assert parent.tolist() == [-1, -1, 0] and real.all()
    assert tokens.tolist() == [[1, 3, 2], [5, 4, 3]]  # the child with a child of its own comes first
    tokens, real, parent = overlaid([left, Row(9, 0), row([5], [ROOT])])
    assert real.tolist() == [[True] * 3, [False] * 3, [True, False, False]]


# Wrong input

MANY = tuple((rank,) for rank in range(10_000))


def broken(tokens, positions, visible, cache):
    cache.append(0, torch.zeros(len(tokens), 1, tokens.shape[1], 1), torch.zeros(len(tokens), 1, tokens.shape[1], 1))
    cache.mask(visible)
    return torch.full((*tokens.shape, V), torch.nan if int(cache.length.max()) > 3 else 0.0)


WRONG = [
    ("empty", "tokens", (), lambda: space(())),
    ("limit", "tokens", 33, lambda: space(range(33))),
    ("empty", "tree", (), lambda: tr_jacobi(())),
    ("limit", "tree", 10_000, lambda: tr_jacobi(MANY)),
    ("value", "tree", (0, 1), lambda: tr_jacobi([(0, 1), (0,)])),
    ("limit", "tree", V, lambda: run(tr_jacobi([(V,)]))),
    ("limit", "budget", 10_000, lambda: specexec(DRAFT, 10_000)),
    ("range", "budget", 0, lambda: specexec(DRAFT, 0)),
    ("type", "budget", 2.5, lambda: specexec(DRAFT, 2.5)),
    ("limit", "branch", 65, lambda: specexec(DRAFT, 16, 65)),
    ("range", "depth", 0, lambda: SpecExec(DRAFT, depth=0)),
    ("range", "frontier", -1, lambda: SpecExec(DRAFT, frontier=-1)),
    ("range", "decay", 0.0, lambda: SpecExec(DRAFT, decay=0.0)),
    ("range", "decay", 1.5, lambda: SpecExec(DRAFT, decay=1.5)),
    ("range", "spread", 0, lambda: SpecExec(DRAFT, spread=0)),
    ("type", "spread", "1", lambda: SpecExec(DRAFT, spread="1")),
    ("value", "logits", 0, lambda: run(specexec(broken))),
    ("conflict", "accept", "SpecExec", lambda: Method("x", SpecExec(DRAFT), Rejection())),
    ("conflict", "accept", "TRJacobi", lambda: Method("x", TRJacobi(), Rejection())),
]


@pytest.mark.parametrize(("code", "path", "value", "call"), WRONG)
def test_wrong_input_is_one_sentence(code, path, value, call):
    with refused(UnisonoError, code, path, value=value):
        call()


def test_a_draft_of_another_vocabulary_is_refused():
    small = by_position(torch.zeros(80, V - 1))

    def wide(tokens, positions, visible, cache):
        n = tokens.shape[1]
        cache.append(0, torch.zeros(3, 1, n, 1), torch.zeros(3, 1, n, 1))
        return small(tokens, positions, visible, None)

    with refused(UnisonoError, "conflict", "vocab_size", value=V - 1):
        run(specexec(wide))


def test_rows_whose_shapes_take_too_many_nodes_together_are_refused(monkeypatch):
    from unisono_text.lossless import specexec as module

    monkeypatch.setattr(module, "MOST_NODES", 4)
    with refused(UnisonoError, "limit", "budget", value=5):
        run(specexec(DRAFT, 5))
    assert replace(SpecExec(DRAFT), budget=2048).budget == 2048


@pytest.mark.parametrize(("room", "masks"), [(1, 0), (2, 1), (3, 2), (5, 4), (9, 4)])
def test_masks_whose_guess_no_row_has_room_for_are_left_out(room, masks):
    """The first round proposes nothing, so that mask j guesses the token of depth j, which is room − 1 at most."""
    prefix = Prefix.of(torch.tensor([[1, 2]]), 3 + room, [0])  # the last token is never proposed
    proposal = MaskTree((50, 51, 52, 53))(prefix, None, None, Draw(0.0, None))
    assert proposal.tokens.tolist() == [[50, 51, 52, 53][:masks]] and not proposal.real.any()
