"""text/space: one evaluation trains what an evaluation for each mask would, and decoding gives the model's own text."""

import flat
import pytest
import torch
from refused import ANYTHING, refused
from unisono.errors import CheckpointError, RecipeError, RequestError
from unisono.export import load, save_export
from unisono.recipe import Recipe
from unisono.train.warm_start import warm_start
from unisono_text.corpus.data import ToyData
from unisono_text.lossless.ahead import ask, draw_places, within_units
from unisono_text.lossless.catalogue import CATALOGUE
from unisono_text.lossless.look_ahead import PaSS
from unisono_text.lossless.request import ContinueRequest
from unisono_text.lossless.space import MaskSpec, Space
from unisono_text.models.ar import Autoregressive

SIZES = dict(dim=32, num_layers=2, num_heads=2, filter_dim=48, dropout=0.0)


@pytest.fixture(scope="module")
def data():
    made = ToyData(num_items=24, context=40, batch_size=8)
    made.prepare(progress=False)
    return made


def model_of(data, **masks):
    raw = {"model": {"name": "text/space", "network": SIZES, "masks": masks}, "data": {"name": "text/toy"}, "seed": 1}
    model = Recipe.from_dict(raw).build_model(data.describe()).eval()
    with torch.no_grad():  # as drawn, all tokens are about equally likely
        model.net.head.weight.mul_(20)
        model.masks.weight.mul_(20)
    return model


def batch_of(data, count=4):
    return data.collate([{**data.train_set.item(i, torch.Generator()), "row": i} for i in range(count)])


def test_what_sees_what_by_brute_force():
    b, t, p, k = 2, 9, 3, 2
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 50, (b, t), generator=generator)
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2, 2], [0] * 9])
    learnt = torch.rand(b, t, generator=generator) < 0.8
    places = torch.tensor([[1, 5, 8], [0, 4, 4]])
    asked = ask({"tokens": tokens, "documents": documents}, learnt, places, k)
    columns = [("text", i, 0) for i in range(t)] + [("mask", q, j) for q in range(p) for j in range(k)]
    for row in range(b):
        of = documents[row].tolist()
        for i, (kind, here, j) in enumerate(columns):
            for m, (other, there, before) in enumerate(columns):
                if kind == "text":
                    sees = other == "text" and there <= here and of[there] == of[here]
                elif other == "text":
                    place = int(places[row, here])
                    sees = there <= place and of[there] == of[place]
                else:
                    sees = there == here and before <= j
                assert bool(asked.visible[row, i, m]) == sees, (row, columns[i], columns[m])
            if kind == "mask":
                place = int(places[row, here])
                at, mask = place + 1 + j, i - t
                assert int(asked.positions[row, i]) == at and int(asked.step[mask]) == j
                fit = at < t and of[at] == of[place] and bool(learnt[row, at])
                assert bool(asked.there[row, mask]) == fit
                assert not fit or asked.wanted[row, mask] == tokens[row, at]


@pytest.mark.parametrize("shared", [True, False])
def test_the_loss_is_that_of_an_evaluation_for_each_mask(data, shared):
    model = model_of(data, count=3, places=5, weight=0.7, shared=shared)
    batch = batch_of(data)
    asked, before = model.ask(batch), model.shifted(batch)
    parts = model.losses(batch)
    ordinary = model.cost(batch)[model.learnt(batch)]
    torch.testing.assert_close(parts["text"], ordinary.mean())
    costs, places = [], draw_places(model.learnt(batch), 5, model.row_seeds(batch))
    for row, places_of_row in enumerate(places.tolist()):
        for place in places_of_row:
            for j in range(3):
                if place + 1 + j < int(batch["lengths"][row]):
                    # A pass of its own: the text up to the place, and the masks up to this one.
                    size = place + 2 + j
                    reading = torch.cat([before[row, : place + 1], torch.tensor(model.look_ahead[: j + 1])])[None]
                    visible = torch.ones(1, size, size, dtype=torch.bool).tril()
                    said = model.causal(reading, torch.arange(size)[None], visible, None)[0, -1].log_softmax(-1)
                    costs.append(-said[batch["tokens"][row, place + 1 + j]])
    alone = torch.stack(costs)
    assert len(alone) == int(asked.there.sum())
    torch.testing.assert_close(parts["masks"], alone.mean())
    whole = (ordinary.sum() + 0.7 * alone.sum()) / (len(ordinary) + len(alone))
    torch.testing.assert_close(parts["loss"], whole)
    parts["loss"].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_the_text_is_said_as_by_a_text_ar_of_the_same_weights(data):
    model = model_of(data, count=2)
    plain = flat.make(Autoregressive, **SIZES)
    plain.build(data.describe())
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if k != "masks.weight"})
    batch = batch_of(data)
    assert torch.equal(plain.eval().cost(batch), model.cost(batch))
    torch.testing.assert_close(model.losses(batch)["text"], plain.losses(batch)["loss"])
    # And behind masks as by a text/pass of the same vectors.
    ahead = PaSS(dim=32, ahead=2)
    ahead.build(data.describe())
    ahead.attach("base", plain)
    with torch.no_grad():
        ahead.net.weight.copy_(model.masks.weight.expand(2, -1))
    tokens = torch.tensor([[*model.shifted(batch)[0, :6].tolist(), *model.look_ahead]])
    given = torch.arange(8)[None], torch.ones(1, 8, 8, dtype=torch.bool).tril(), None
    torch.testing.assert_close(model.causal(tokens, *given), ahead.causal(tokens, *given))


def test_a_share_of_the_rows_is_asked_in_training_and_all_in_validation(data, monkeypatch):
    monkeypatch.setattr(Space, "global_step", 0)
    model, batch = model_of(data, count=2, places=4, share=0.5), batch_of(data, 1)
    many = {name: value.repeat(200, *[1] * (value.dim() - 1)) for name, value in batch.items()}
    many["row"] = torch.arange(200)
    assert bool(model.ask(many).there.any(1).all())
    count = int(model.train().ask(many).there.any(1).sum())
    assert abs(count - 100) < 4 * 50**0.5


def test_units_are_runs_of_what_the_model_is_sure_of():
    sure = torch.tensor([[0, 1, 1, 1, 0, 0, 1, 0, 1, 1]]).bool()
    learnt, count = torch.ones_like(sure), 3
    places = torch.arange(10)[None]
    asked = ask({"tokens": torch.arange(10)[None]}, learnt, places, count)
    kept = (asked.there & within_units(asked, sure, count)).view(10, count)
    for place in range(10):
        for j in range(count):
            # Asked while all before it, the place's own token included, are of one run; so is the token behind.
            wanted = place + 1 + j < 10 and bool(sure[0, place : place + 1 + j].all())
            assert bool(kept[place, j]) == wanted, (place, j)


def test_units_are_those_of_the_models_own_probabilities(data):
    model, batch = model_of(data, count=3, places=6, alpha=0.05), batch_of(data)
    p = model.predict(model.shifted(batch)).softmax(-1).gather(2, batch["tokens"][:, :, None])[:, :, 0]
    sure = (p > 0.05) & model.learnt(batch)
    assert 0 < int(sure.sum()) < sure.numel()
    asked = model.ask(batch)
    assert bool(asked.there.any())
    place = asked.positions[:, batch["tokens"].shape[1] :] - 1 - asked.step
    assert bool(sure.gather(1, place)[asked.there].all())
    nothing = model_of(data, count=3, places=6, alpha=0.999999).losses(batch)
    torch.testing.assert_close(nothing["loss"], nothing["text"])  # no unit: the ordinary loss


def test_texts_are_those_of_plain_decoding(data):
    model = model_of(data, count=3)
    for temperature in (0.0, 1.0):
        made = {}
        for decoding in ("plain", "pass", "jacobi", "ngram", *({"space", "tr-jacobi"} & CATALOGUE.keys())):
            requests = [
                ContinueRequest(text=text, length=12 + 4 * i, decoding=decoding, temperature=temperature, seed=i)
                for i, text in enumerate(["Ada has 3 ", "", "Ben"])
            ]
            made[decoding] = [text.text for text in model.synthesize(requests)]
        assert all(texts == made["plain"] for texts in made.values())


def test_it_begins_as_a_text_ar_and_says_that_it_is_another(data, tmp_path):
    plain = Recipe.from_dict({"model": {"name": "text/ar", "network": SIZES}, "data": {"name": "text/toy"}})
    base = save_export(plain.build_model(data.describe()), tmp_path / "base")
    for alpha, objective in ((0.0, "masks"), (0.5, "units")):
        model = model_of(data, count=2, alpha=alpha)
        took = warm_start(model, str(base))
        assert took.fresh == ["masks.weight"] and not took.other_shape
        again = load(save_export(model, tmp_path / objective)).model
        assert again.facts.tuned == (objective,) and again.look_ahead == model.look_ahead
    other = ToyData(num_items=8, context=40, tokenizer="bytes")
    other.prepare(progress=False)
    with refused(CheckpointError, "conflict", "run.init_from"):
        warm_start(model_of(other, count=2), str(base))


@pytest.mark.parametrize(
    ("name", "value"),
    [("count", 0), ("places", 0), ("share", 0.0), ("share", 1.1), ("weight", 0.0), ("alpha", 1.0), ("alpha", -0.1)],
)
def test_masks_that_cannot_be_are_refused(name, value):
    with refused(RecipeError, "range", f"model.masks.{name}", value=value):
        MaskSpec(**{name: value})


def test_what_does_not_fit_is_refused(data):
    with refused(RecipeError, "range", "model.masks.count", value=40):
        flat.make(Space, **SIZES, masks=MaskSpec(count=40)).build(data.describe())
    with refused(RequestError, "shape", "tree", value=ANYTHING):
        model_of(data, count=2).synthesize([ContinueRequest(decoding="medusa")])
