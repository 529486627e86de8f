"""text/hidden-transfer: pseudo states see what they should and leave nothing behind; texts are plain decoding's."""

import flat
import pytest
import torch
from refused import refused
from unisono.errors import RecipeError, RequestError, UnisonoError
from unisono.nn.rotary import rotation
from unisono.verify import KVCache, Prefix, Proposal, Target, autoregressive, decode, tree_of
from unisono_text.corpus.data import ToyData
from unisono_text.lossless.hidden_transfer import HiddenTransfer
from unisono_text.lossless.medusa import Medusa
from unisono_text.lossless.request import ContinueRequest
from unisono_text.lossless.transfer_tree import GUESSED, transferred_tree
from unisono_text.models.ar import Autoregressive

SIZES = dict(dim=32, num_layers=3, num_heads=2, filter_dim=48, dropout=0.0)
LAYERS = (1, 1, 2)


def fresh(kind, facts, seed, **arguments):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = flat.make(kind, **arguments)
        model.build(facts)
    model.recipe = {"seed": 1}
    return model.eval()


@pytest.fixture(scope="module")
def data():
    made = ToyData(num_items=24, context=40, batch_size=8)
    made.prepare(progress=False)
    return made


@pytest.fixture(scope="module")
def model(data):
    base = fresh(Autoregressive, data.describe(), 0, **SIZES)
    made = fresh(HiddenTransfer, data.describe(), 1, dim=32, layers=LAYERS)
    with torch.no_grad():
        base.net.head.weight.mul_(20)
        for layer in made.net.maps:
            layer.weight.normal_(std=0.1, generator=torch.Generator().manual_seed(2))
    made.attach("base", base)
    return made


def by_hand(model, tokens, place, step):
    """The logits of one pseudo state, by layers of the base over whole sequences: no cache, no other column.

    Its row of the sequence is what the base reads to ``place``, then the pseudo states up to ``step``, each put in at
    its own layer; until then, its place holds anything, for nobody before it sees it.
    """
    net = model.base.net
    row = torch.cat([tokens[: place + 1], tokens.new_zeros(step)])[None]
    size = place + 1 + step
    x, visible = net.embedding(row), torch.ones(1, 1, size, size, dtype=torch.bool).tril()
    turns = rotation(torch.arange(size), net.head_dim, net.rope_base)
    for number, layer in enumerate(net.layers):
        for at in range(step):
            if LAYERS[at] == number:
                h = x[:, place]
                x = x.clone()
                x[:, place + 1 + at] = h + h @ model.net.maps[at].weight.T
        x = layer(x, turns, visible, False, None, number)
    return net.head(net.norm(x))[0, -1]


def test_each_pseudo_state_is_that_of_its_own_sequence(model):
    tokens = torch.tensor([[1, 7, 9, 4, 5, 11, 3]])
    seen = torch.ones(1, 7, 7, dtype=torch.bool).tril()
    columns = torch.arange(7)[None]
    said, guessed = model.read(tokens, seen, columns, None, columns)
    torch.testing.assert_close(said, model.base.predict(tokens))
    for place in range(7):
        for step in (1, 2, 3):
            torch.testing.assert_close(
                guessed[0, place, step - 1], by_hand(model, tokens[0], place, step), atol=2e-4, rtol=1e-4
            )


@torch.no_grad()
@pytest.mark.parametrize("cached", [True, False])
def test_a_cache_a_tree_and_padding_change_nothing_and_pseudo_states_are_not_kept(model, cached):
    """Behind ragged prefixes, a tree's nodes say what a chain of each path says, and the cache is the base's own."""
    prompt, lengths = torch.tensor([[1, 7, 9, 4, 5], [1, 6, 2, 0, 0]]), torch.tensor([5, 3])
    prefix = Prefix.of(prompt, 20, [0, 0], lengths)
    parent = torch.tensor([-1, -1, 0, 0, 1])
    tree = Proposal(torch.tensor([[3, 8, 2, 6, 11], [4, 9, 1, 2, 3]]), torch.ones(2, 5, dtype=torch.bool), parent)
    target, plain = (Target(net, KVCache if cached else None, 2) for net in (model.causal, model.base.causal))
    for proposal in (Proposal.chain(prompt[:, :0], torch.zeros(2, dtype=torch.int64)), tree):
        out, said = target(prefix, proposal), plain(prefix, proposal)
        torch.testing.assert_close(out[:, :, 0], said)
    for row, length in enumerate(lengths.tolist()):
        for node in range(-1, 5):
            behind = tree.tokens[row, tree.ancestors[node]] if node >= 0 else prompt[row, :0]
            path = torch.cat([prompt[row, :length], behind])
            for step in (1, 2, 3):
                wanted = by_hand(model, path, len(path) - 1, step)
                torch.testing.assert_close(out[row, node + 1, step], wanted, atol=2e-4, rtol=1e-4)
    if cached:
        assert target.cache.layers.keys() == plain.cache.layers.keys()
        assert torch.equal(target.cache.length, plain.cache.length)
        for number, pair in plain.cache.layers.items():
            for kept, own in zip(target.cache.layers[number], pair, strict=True):
                for row, size in enumerate(plain.cache.length.tolist()):
                    torch.testing.assert_close(kept[row, :, :size], own[row, :, :size])


PROMPTS = torch.tensor([[1, 7, 9, 4, 5, 11], [1, 3, 8, 0, 0, 0], [1, 0, 0, 0, 0, 0]])
LENGTHS, LIMIT = torch.tensor([6, 3, 1]), 26


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("cache", [None, KVCache])
def test_tokens_are_those_of_plain_decoding(model, cache, temperature):
    given = dict(seeds=[5, 6, 7], lengths=LENGTHS, temperature=temperature, cache=cache)
    plain = decode(model.base.causal, PROMPTS, autoregressive(), LIMIT, **given)
    out = decode(model.causal, PROMPTS, transferred_tree(tree_of((3, 2, 1))), LIMIT, **given)
    assert torch.equal(out.tokens, plain.tokens) and out.lossless
    assert 0 < out.accepted.sum() < out.proposed.sum() and out.draft_nfe == 0
    for row in range(3):
        own = {**given, "seeds": [5 + row], "lengths": LENGTHS[row : row + 1]}
        alone = decode(model.causal, PROMPTS[row : row + 1], transferred_tree(tree_of((3, 2, 1))), LIMIT, **own)
        assert torch.equal(alone.tokens[0], out.tokens[row])
        assert (int(alone.rounds), int(alone.accepted)) == (int(out.rounds[row]), int(out.accepted[row]))


@torch.no_grad()
def test_a_long_prompt_is_guessed_behind_at_its_end_alone(model):
    n = GUESSED + 6
    tokens = (torch.arange(n) * 5 % model.vocabulary)[None]
    out = model.causal(tokens, torch.arange(n)[None], torch.ones(1, n, n, dtype=torch.bool).tril(), None)
    assert not out[0, :6, 1:].any() and (out[0, 6:, 1:].abs().amax((1, 2)) > 0).all()
    torch.testing.assert_close(out[:, :, 0], model.base.predict(tokens), atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(out[0, -1, 2], by_hand(model, tokens[0], n - 1, 2), atol=2e-4, rtol=1e-4)


def batch_of(data, count=3):
    return data.collate([{**data.train_set.item(i, torch.Generator()), "row": i} for i in range(count)])


def test_the_loss_is_the_distance_from_the_bases_law_at_the_place_that_is_guessed(model, data):
    batch = batch_of(data)
    text, costs = model.base.shifted(batch), [[], [], []]
    for row, length in enumerate(batch["lengths"].tolist()):
        law = model.base.predict(text[row : row + 1, :length])[0].softmax(-1).detach()
        for place in range(length):
            for step in (1, 2, 3):
                if place + step < length and model.learnt(batch)[row, place + step]:
                    logits = by_hand(model, text[row], place, step).detach()
                    costs[step - 1].append(-float((law[place + step] * logits.log_softmax(-1)).sum()))
    parts = model.losses(batch)
    for step in (1, 2, 3):
        mean = sum(costs[step - 1]) / len(costs[step - 1])
        assert float(parts[f"step_{step}"].detach()) == pytest.approx(mean, rel=1e-4)
    assert float(parts["loss"].detach()) == pytest.approx(
        sum(float(parts[f"step_{step}"].detach()) for step in (1, 2, 3)) / 3
    )


def test_training_lowers_the_loss_and_leaves_the_base_alone(model, data):
    own = fresh(HiddenTransfer, data.describe(), 3, dim=32, layers=(1, 1)).train()
    own.attach("base", model.base)
    base = {name: value.clone() for name, value in model.base.state_dict().items()}
    optimizer = torch.optim.Adam(own.parameters(), lr=0.02)
    losses = []
    for _ in range(12):
        parts = own.losses(batch_of(data, 8))
        optimizer.zero_grad()
        parts["loss"].backward()
        assert all(parameter.grad is not None for parameter in own.parameters())
        optimizer.step()
        losses.append(float(parts["loss"].detach()))
    assert losses[-1] < 0.97 * losses[0]
    assert all(torch.equal(value, base[name]) for name, value in model.base.state_dict().items())
    assert all(parameter.grad is None for parameter in model.base.parameters())


def ask(model, decoding, temperature=0.0, **given):
    texts = ["Ada has 3 ", "", "Ben"]
    return model.synthesize(
        [
            ContinueRequest(text=text, length=16 + 4 * i, decoding=decoding, temperature=temperature, seed=i, **given)
            for i, text in enumerate(texts)
        ]
    )


def test_texts_by_request_are_those_of_plain_decoding(model):
    for temperature in (0.0, 1.0):
        plain = [text.text for text in ask(model.base, "plain", temperature)]
        for decoding, more in (("plain", {}), ("ngram", {}), ("hidden-transfer", {"tree": (3, 2, 2)})):
            assert [text.text for text in ask(model, decoding, temperature, **more)] == plain, decoding


def test_what_does_not_fit_is_refused(model, data):
    facts = data.describe()
    with refused(RequestError, "shape", "tree", value=(2, 2, 2, 2), names="3"):
        ask(model, "hidden-transfer", tree=(2, 2, 2, 2))
    with refused(RequestError, "limit", "tree", value=84, names="63"):
        ask(model, "hidden-transfer", tree=(4, 4, 4))
    with refused(UnisonoError, "limit", "tree", value=64):
        transferred_tree(tree_of((64,)))
    with refused(RequestError, "shape", "tree", value=(3, 2)):
        ask(model.base, "hidden-transfer")
    with refused(RequestError, "shape", "tree"):
        ask(model, "medusa")
    medusa = fresh(Medusa, facts, 0, dim=32, heads=2)
    medusa.attach("base", model.base)
    with refused(RequestError, "shape", "tree"):
        ask(medusa, "hidden-transfer")
    for layers, code in (((), "empty"), ((2, 1), "range"), ((-1,), "range")):
        with refused(RecipeError, code, "model.layers", value=layers):
            HiddenTransfer(dim=32, layers=layers)
    with refused(RecipeError, "range", "model.layers", value=(3,), names="2"):
        fresh(HiddenTransfer, facts, 0, dim=32, layers=(3,)).attach("base", model.base)
    with refused(RecipeError, "conflict", "model.dim", value=16, names="32"):
        fresh(HiddenTransfer, facts, 0, dim=16, layers=(1,)).attach("base", model.base)
