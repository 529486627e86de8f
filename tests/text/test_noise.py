"""Make Some Noise: what is read is noised as stated, what is learnt never, and the tuned model decodes as it is."""

import flat
import pytest
import torch
from refused import refused
from torch.nn import functional as F
from unisono.errors import RecipeError
from unisono.export import load, save_export
from unisono.recipe import Recipe
from unisono.train.warm_start import warm_start
from unisono_text.corpus.data import ToyData
from unisono_text.lossless.noise import NoiseSpec, noised
from unisono_text.lossless.request import ContinueRequest
from unisono_text.models.ar import Autoregressive

SIZES = dict(dim=32, num_layers=2, num_heads=2, filter_dim=48, dropout=0.0)


@pytest.fixture(scope="module")
def data():
    made = ToyData(num_items=24, context=40, batch_size=8)
    made.prepare(progress=False)
    return made


def recipe_of(noise):
    raw = {"model": {"name": "text/ar", "network": SIZES, "noise": noise}, "data": {"name": "text/toy"}, "seed": 1}
    return Recipe.from_dict(raw)


def batch_of(data, count=6):
    return data.collate([{**data.train_set.item(i, torch.Generator()), "row": i} for i in range(count)])


def test_without_a_span_the_loss_is_the_ordinary_one_exactly(data, monkeypatch):
    monkeypatch.setattr(Autoregressive, "global_step", 0)
    batch, facts = batch_of(data), data.describe()
    plain, none = (recipe_of(noise).build_model(facts).train() for noise in ({}, {"span": 0, "share": 1.0}))
    assert torch.equal(plain.losses(batch)["loss"], none.losses(batch)["loss"])
    tokens = batch["tokens"]
    assert noised(tokens, plain.learnt(batch), None, range(6), NoiseSpec()) is tokens


def test_labels_and_validation_are_never_noised(data, monkeypatch):
    monkeypatch.setattr(Autoregressive, "global_step", 3)
    batch, facts = batch_of(data), data.describe()
    model = recipe_of({"span": 4, "share": 1.0}).build_model(facts).train()
    before = {name: value.clone() for name, value in batch.items()}
    learnt, targets = model.learnt(batch), batch["tokens"]
    read = noised(targets, learnt, None, model.row_seeds(batch), model.noise)
    assert (read != targets).any()
    # By hand: what is read is noised, what is wanted is the text.
    logits = model.predict(F.pad(read[:, :-1], (1, 0), value=model.start_id)).log_softmax(-1)
    wanted = -logits.gather(2, targets[:, :, None])[:, :, 0][learnt].mean()
    torch.testing.assert_close(model.losses(batch)["loss"], wanted)
    assert all(torch.equal(value, batch[name]) for name, value in before.items())
    plain = recipe_of({}).build_model(facts).eval()
    assert torch.equal(model.eval().losses(batch)["loss"], plain.losses(batch)["loss"])


def test_noise_is_one_span_of_earlier_tokens_of_its_document():
    tokens = torch.arange(100, 124).repeat(400, 1)  # no token twice: where one came from can be told
    learnt = torch.ones_like(tokens, dtype=torch.bool)
    learnt[:, :3] = learnt[:, 21:] = False  # a prompt, and padding
    documents = torch.tensor([0] * 10 + [1] * 14).expand(400, -1)
    seeds = list(range(400))
    read = noised(tokens, learnt, documents, seeds, NoiseSpec(span=4, share=1.0))
    starts = set()
    for row in read.tolist():
        places = [i for i, token in enumerate(row) if token != 100 + i]
        # All four differ, since no token stands before itself.
        assert len(places) == 4 and places[-1] - places[0] == 3
        first = 0 if places[0] < 10 else 10
        assert all(row[i] in range(100 + first, 100 + i) for i in places)
        # A token that is drawn behind the span's first is one of those that were read, noise among them.
        assert all(row[i] in row[first:i] for i in places)
        starts.add(places[0])
    assert starts == {3, 4, 5, 6, *range(11, 18)}  # within a document, learnt, behind one token of it
    assert torch.equal(read, noised(tokens, learnt, documents, seeds, NoiseSpec(span=4, share=1.0)))
    some = noised(tokens, learnt, documents, seeds, NoiseSpec(span=4, share=0.25))
    count = int((some != tokens).any(1).sum())
    assert abs(count - 100) < 4 * (400 * 0.25 * 0.75) ** 0.5
    none = noised(tokens, learnt, documents, seeds, NoiseSpec(span=19, share=1.0))
    assert torch.equal(none, tokens)  # no document has room


def test_a_tuned_model_is_another_and_says_so(data, tmp_path, monkeypatch):
    monkeypatch.setattr(Autoregressive, "global_step", 0)
    facts, batch = data.describe(), batch_of(data)
    base = recipe_of({}).build_model(facts).eval()
    assert base.facts.tuned is None
    source = save_export(base, tmp_path / "base")
    tuned = recipe_of({"span": 5, "share": 0.5}).build_model(facts)
    took = warm_start(tuned, str(source))
    assert not took.fresh and not took.other_shape
    optimizer = torch.optim.Adam(tuned.train().parameters(), lr=0.01)
    for _ in range(8):
        optimizer.zero_grad()
        tuned.losses(batch)["loss"].backward()
        optimizer.step()
    again = load(save_export(tuned.eval(), tmp_path / "tuned")).model
    assert again.facts.tuned == ("noise",) and load(source).model.facts.tuned is None
    # Lossless towards the model that it is now.
    requests = {
        name: [
            ContinueRequest(text=text, length=16, decoding=name, temperature=t, seed=i)
            for i, (text, t) in enumerate([("Ada has 3 ", 0.0), ("Ben", 1.0)])
        ]
        for name in ("plain", "jacobi", "gauss-seidel", "ngram")
    }
    plain = [text.text for text in again.synthesize(requests.pop("plain"))]
    for name, asked in requests.items():
        assert [text.text for text in again.synthesize(asked)] == plain, name


@pytest.mark.parametrize(
    ("path", "value", "noise"),
    [
        ("model.noise.span", -1, {"span": -1}),
        ("model.noise.share", 0.0, {"span": 5, "share": 0.0}),
        ("model.noise.share", 1.5, {"share": 1.5}),
    ],
)
def test_noise_that_cannot_be_is_refused(path, value, noise):
    with refused(RecipeError, "range", path, value=value):
        NoiseSpec(**noise)


def test_a_span_that_no_row_has_room_for_is_refused(data):
    with refused(RecipeError, "range", "model.noise.span", value=40):
        flat.make(Autoregressive, **SIZES, noise=NoiseSpec(span=40)).build(data.describe())
