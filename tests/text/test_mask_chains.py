"""Mask chains of text/pard and text/parallelspec: what each column sees, what is dropped, and what a chain costs."""

import flat
import pytest
import torch
from refused import refused
from torch.nn import functional as F
from unisono.errors import RecipeError
from unisono_text.corpus.data import ToyData
from unisono_text.lossless.mask_chains import ChainSpec, MaskChains
from unisono_text.lossless.parallel_spec import ParallelSpec
from unisono_text.lossless.pard import PARD, asked, columns
from unisono_text.models.ar import Autoregressive

SIZES = dict(dim=32, num_layers=2, num_heads=2, filter_dim=48, dropout=0.0)
ALL = dict(keep=1.0)


def fresh(kind, facts, seed, **arguments):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = flat.make(kind, **arguments)
        model.build(facts)
    model.recipe = {"seed": 1}
    return model.eval()


@pytest.fixture(scope="module")
def data():
    made = ToyData(num_items=24, context=24, batch_size=8)
    made.prepare(progress=False)
    return made


@pytest.fixture(scope="module")
def packed():
    made = ToyData(num_items=24, context=120, batch_size=8, pack=True)
    made.prepare(progress=False)
    return made


def batch_of(data, count=3):
    return data.collate([{**data.train_set.item(i, torch.Generator()), "row": i} for i in range(count)])


def pairs_of(chains, row):
    """A row's real masks as (place, step)."""
    real = chains.real[row]
    return list(zip(chains.place[row][real].tolist(), chains.step[row][real].tolist(), strict=True))


@pytest.mark.parametrize("documents", [None, [[0, 0, 0, 0, 1, 1, 1, 2, 2], [0, 0, 1, 1, 1, 1, 1, 1, 1]]])
@pytest.mark.parametrize("keep", [1.0, 0.7])
def test_what_is_seen_holds_for_every_pair_of_columns(documents, keep):
    t, spec = 9, ChainSpec(num_draft=4, keep=keep)
    chains = MaskChains.draw(spec, torch.tensor([t, 6]), [1, 2])
    labels = torch.zeros(2, t, dtype=torch.int64) if documents is None else torch.tensor(documents)
    seen = chains.visible(t, None if documents is None else labels)
    m = chains.place.shape[1]
    assert m and seen.shape == (2, t + m, t + m)
    for row in range(2):
        # Each column as (its text column or the one before it, its step, its document); None is padding.
        masks = zip(chains.place[row].tolist(), chains.step[row].tolist(), chains.real[row].tolist(), strict=True)
        known = [(i, 0, int(labels[row, i])) for i in range(t)]
        known += [(place, step, int(labels[row, place])) if real else None for place, step, real in masks]
        for i, who in enumerate(known):
            for j, whom in enumerate(known):
                if who is None or whom is None:
                    wanted = i == j
                elif whom[1] == 0:
                    wanted = whom[0] <= who[0] and whom[2] == who[2]
                else:
                    wanted = whom[0] == who[0] and 1 <= whom[1] <= who[1]
                if who is not None or j >= t:  # what padding sees of the text, nobody reads
                    assert bool(seen[row, i, j]) == wanted, (row, who, whom)
    assert not bool(chains.real.all())


def test_a_kept_places_earlier_masks_are_kept_and_nothing_wraps_around():
    spec = ChainSpec(num_draft=6)
    chains = MaskChains.draw(spec, torch.tensor([40, 17, 3]), [3, 4, 5])
    deepest = 0
    for row, length in enumerate((40, 17, 3)):
        pairs = set(pairs_of(chains, row))
        assert all((place, before) in pairs for place, step in pairs for before in range(1, step))
        assert all(0 < place + step < length for place, step in pairs)
        deepest = max(deepest, *(step for _, step in pairs))
    assert deepest == 5


def test_shares_are_those_of_the_paper():
    spec, length = ChainSpec(num_draft=8), 20_000
    assert spec.shares == pytest.approx([0.7, 0.49, 0.343, 0.2401, 0.2, 0.2, 0.2])
    step = MaskChains.draw(spec, torch.tensor([length]), [6]).step
    for j, share in enumerate(spec.shares, 1):
        # Four standard deviations of a binomial.
        assert abs(int((step == j).sum()) - share * (length - j)) < 4 * (length * share * (1 - share)) ** 0.5
    assert ChainSpec(num_draft=3, keep=1.0).shares == [1.0, 1.0]


def test_a_row_drops_the_same_in_any_company():
    spec = ChainSpec(num_draft=5)
    alone = MaskChains.draw(spec, torch.tensor([11]), [8])
    together = MaskChains.draw(spec, torch.tensor([30, 11, 2]), [7, 8, 9])
    assert pairs_of(alone, 0) == pairs_of(together, 1)
    assert MaskChains.draw(spec, torch.tensor([1]), [1]).place.shape == (1, 0)


def one_by_one(model, text, tokens, num_draft):
    """Nats of every sub-task at every place, each asked alone: {(place, step): nats}."""
    costs = {}
    for place in range(len(tokens)):
        for step in range(min(num_draft, len(tokens) - place)):
            reading = torch.cat([text[: place + 1], torch.tensor(model.mask_ids[:step], dtype=torch.int64)])[None]
            logits = model.net(reading)[0, -1]
            costs[place, step] = float(F.cross_entropy(logits, tokens[place + step]).detach())
    return costs


@pytest.mark.parametrize("own_masks", [False, True])
def test_with_nothing_dropped_the_loss_is_that_of_all_sub_tasks(data, own_masks):
    model = fresh(PARD, data.describe(), 0, **SIZES, chain=ChainSpec(num_draft=3, own_masks=own_masks, **ALL))
    assert model.mask_ids == tuple(model.vocabulary + 1 + (i if own_masks else 0) for i in range(2))
    batch = batch_of(data)
    parts, text = model.losses(batch), model.shifted(batch)
    costs = []
    for row, length in enumerate(batch["lengths"].tolist()):
        its = one_by_one(model, text[row, :length], batch["tokens"][row, :length], 3)
        learnt = model.learnt(batch)[row]
        costs += [nats for (place, step), nats in its.items() if learnt[place + step]]
    assert float(parts["loss"].detach()) == pytest.approx(sum(costs) / len(costs), rel=1e-5)


def test_with_some_dropped_it_is_that_of_those_kept(data):
    model = fresh(PARD, data.describe(), 0, **SIZES, chain=ChainSpec(num_draft=4, keep=0.5, least=0.1))
    batch = batch_of(data)
    chains = MaskChains.draw(model.chain, batch["lengths"], model.row_seeds(batch))
    text, costs = model.shifted(batch), []
    for row, length in enumerate(batch["lengths"].tolist()):
        its = one_by_one(model, text[row, :length], batch["tokens"][row, :length], 4)
        kept = {*pairs_of(chains, row), *((place, 0) for place in range(length))}
        assert len(kept) < len(its)
        costs += [its[pair] for pair in kept if model.learnt(batch)[row, sum(pair)]]
    assert float(model.losses(batch)["loss"].detach()) == pytest.approx(sum(costs) / len(costs), rel=1e-5)


def test_documents_that_share_a_row_do_not_see_or_predict_each_other(packed):
    model = fresh(PARD, packed.describe(), 0, **SIZES, chain=ChainSpec(num_draft=3, **ALL))
    batch = batch_of(packed, 2)
    documents = batch["documents"]
    assert len(set(documents[0].tolist())) > 1
    chains = MaskChains.draw(model.chain, batch["lengths"], model.row_seeds(batch))
    reading, positions, visible = columns(model, batch, chains)
    _, there = asked(model, batch, chains)
    t = documents.shape[1]
    crosses = documents.gather(1, chains.asked) != documents.gather(1, chains.place)
    assert bool(crosses[chains.real].any()) and not bool((there[:, t:] & crosses).any())
    # Another first document changes nothing of what the second says.
    logits = model.net(reading, visible, positions)
    second = documents[0] == documents[0, -1]
    other = reading.clone()
    other[0, :t][~second] = (other[0, :t][~second] + 1) % model.vocabulary
    changed = model.net(other, visible, positions)
    mine = torch.cat([second, second[chains.place[0]]])
    torch.testing.assert_close(logits[0, mine], changed[0, mine])
    assert not torch.allclose(logits[0, ~mine], changed[0, ~mine])


def test_every_weight_learns_and_the_masks_with_it(data):
    model = fresh(PARD, data.describe(), 0, **SIZES, chain=ChainSpec(num_draft=4, own_masks=True, **ALL)).train()
    model.losses(batch_of(data))["loss"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(float(row.abs().sum()) > 0 for row in model.net.embedding.weight.grad[model.vocabulary + 1 :])


def test_a_draft_begins_as_the_text_ar_that_it_is_made_of(data):
    facts = data.describe()
    source = fresh(Autoregressive, facts, 5, **SIZES)
    model = fresh(PARD, facts, 6, **SIZES, chain=ChainSpec(num_draft=4))
    drawn = model.net.embedding.weight[-1].clone()
    assert not model.load_state_dict(model.read_source(source.state_dict())).missing_keys
    tokens = torch.arange(10)[None] % model.vocabulary
    torch.testing.assert_close(model.predict(tokens), source.predict(tokens))
    assert torch.equal(model.net.embedding.weight[-1], drawn)
    # A draft goes on as it is; a state of another width is left for the warm start to name.
    again = model.read_source(model.state_dict())
    assert torch.equal(again["net.embedding.weight"], model.net.embedding.weight)
    narrow = {"net.embedding.weight": torch.zeros(model.vocabulary + 1, 8)}
    assert model.read_source(narrow) is narrow


def test_the_draft_on_states_is_taught_the_bases_law(data):
    """By hand: each column's cross-entropy with what the base says there, its state the base's one place before."""
    base = fresh(Autoregressive, data.describe(), 0, **SIZES)
    model = fresh(ParallelSpec, data.describe(), 1, dim=32, network=base.sizes, chain=ChainSpec(num_draft=3, **ALL))
    model.attach("base", base)
    batch = batch_of(data, 2)
    text, costs = model.shifted(batch), []
    for row, length in enumerate(batch["lengths"].tolist()):
        hidden = base.net(text[row : row + 1, :length], hidden=True)
        law = base.net.head(hidden)[0].softmax(-1)
        for place in range(length):
            for step in range(min(3, length - place)):
                if not model.learnt(batch)[row, place + step]:
                    continue
                masks = torch.tensor(model.mask_ids[:step], dtype=torch.int64)
                reading = torch.cat([text[row, : place + 1], masks])[None]
                states = torch.cat([torch.zeros(1, 32), hidden[0, :place], torch.zeros(step, 32)])[None]
                size = place + 1 + step
                logits = model.net.with_states(
                    reading, states, torch.ones(1, size, size, dtype=torch.bool).tril(), torch.arange(size)[None]
                )[0, -1]
                costs.append(-float((law[place + step] * logits.log_softmax(-1)).sum().detach()))
    loss = model.losses(batch)["loss"]
    assert float(loss.detach()) == pytest.approx(sum(costs) / len(costs), rel=1e-5)
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in base.parameters())


@pytest.mark.parametrize(
    ("name", "value"), [("num_draft", 1), ("num_draft", 0), ("keep", 0.0), ("keep", 1.5), ("least", -0.1)]
)
def test_chains_that_cannot_be_are_refused(name, value):
    with refused(RecipeError, "range", f"model.chain.{name}", value=value):
        ChainSpec(**{name: value})
