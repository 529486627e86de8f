"""Low-rank adapters: training begins at the model, only they are trained, and merging changes nothing."""

import pytest
import torch
import unisono
from refused import refused
from unisono.errors import RecipeError
from unisono.export import save_export
from unisono.recipe import Recipe
from unisono.train.warm_start import warm_start
from unisono_text.corpus.data import ToyData
from unisono_text.models.adapters import Adapters, merged

NETWORKS = {
    "text/ar": dict(dim=16, num_layers=2, num_heads=2, dropout=0.0),
    "text/mdlm": dict(dim=16, num_layers=2, num_heads=2, dropout=0.0),
    "text/block": dict(dim=16, num_layers=2, num_heads=2, dropout=0.0, block_size=4),
    "text/anchored": dict(dim=16, num_layers=2, num_heads=2, dropout=0.0, anchor_layers=1, skip=True),
    "text/seed": dict(dim=16, num_layers=2, num_heads=2, dropout=0.0),
    "text/dream": dict(
        network=dict(dim=16, num_layers=2, num_heads=4, kv_heads=2, filter_dim=24, biased=True, kind="float32")
    ),
}


@pytest.fixture(scope="module")
def data():
    made = ToyData(num_items=8, context=32)
    made.prepare(progress=False)
    return made


def model_of(name, facts, adapters=None, seed=1):
    section = {"name": name, **NETWORKS[name], "adapters": adapters or {}}
    return Recipe.from_dict({"model": section, "data": {"name": "text/toy"}, "seed": seed}).build_model(facts)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_model_is_tuned_from_an_export_and_merged(name, data, tmp_path, monkeypatch):
    facts = data.describe()
    plain = model_of(name, facts).eval()
    source = save_export(plain, tmp_path / "plain")
    tuned = model_of(name, facts, {"rank": 2, "alpha": 4.0}, seed=2)
    for step, value in (("global_step", 0), ("total_steps", 1000)):  # of no trainer
        monkeypatch.setattr(type(tuned), step, value)
    warm_start(tuned, str(source))
    tokens = torch.tensor([data.tokenizer.encode("Ada has 3 red coins.")])
    with torch.no_grad():
        torch.testing.assert_close(tuned.eval().predict(tokens), plain.predict(tokens))
    frozen = {n: p.clone() for n, p in tuned.named_parameters() if not p.requires_grad}
    learnt = [n for n, p in tuned.named_parameters() if p.requires_grad]
    assert learnt and all(".lora_" in n for n in learnt) and len(learnt) == 2 * 2 * (4 if name != "text/dream" else 7)
    batch = data.collate([{**data.train_set.item(i, torch.Generator()), "row": i} for i in range(8)])
    optimizer = tuned.optim.make(tuned.train())
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = tuned.losses(batch)["loss"]
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = 0.05
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert all(torch.equal(p, frozen[n]) for n, p in tuned.named_parameters() if n in frozen)
    tuned.eval()
    with torch.no_grad():
        said = tuned.predict(tokens)
        assert not torch.allclose(said, plain.predict(tokens), atol=1e-2)
        whole = merged(tuned)
        torch.testing.assert_close(whole.predict(tokens), said, rtol=1e-4, atol=1e-4)
    # Both ways of export give the same texts.
    request = dict(text="Ada", length=8, temperature=0.0)
    kept = unisono.load(save_export(tuned, tmp_path / "kept"))
    alone = unisono.load(save_export(whole, tmp_path / "merged"))
    assert kept(request).text == alone(request).text
    assert alone.model.state_dict().keys() == plain.state_dict().keys()


def test_wrong_adapters_are_refused(data):
    for name, value in (("rank", -1), ("alpha", 0), ("dropout", 1.0)):
        with refused(RecipeError, "range", f"model.adapters.{name}", value=value, names=f"{name}={value}"):
            Adapters(**{name: value})
    with refused(RecipeError, "missing", "model.adapters.rank", value=0):
        merged(model_of("text/ar", data.describe()))
    with refused(RecipeError, "unknown", "model.adapters.rnak"):
        model_of("text/ar", data.describe(), {"rnak": 2})
