"""Adapters of every text model: training begins at the model, only they are trained, and merging changes nothing."""

import copy
import shutil
from pathlib import Path

import pytest
import torch
import unisono
from refused import refused
from unisono.errors import CheckpointError, RecipeError
from unisono.export import export_run, load, save_export
from unisono.nn.adapters import merge
from unisono.recipe import Recipe
from unisono.train.warm_start import warm_start
from unisono_text.corpus.data import ToyData

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
    raw = {"model": {"name": name, **NETWORKS[name]}, "data": {"name": "text/toy"}, "seed": seed}
    return Recipe.from_dict({**raw, "adapters": adapters or {}}).build_model(facts)


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
        whole = merge(copy.deepcopy(tuned))
        torch.testing.assert_close(whole.predict(tokens), said, rtol=1e-4, atol=1e-4)
    # Both ways of export give the same texts.
    request = dict(text="Ada", length=8, temperature=0.0)
    kept = unisono.load(save_export(tuned, tmp_path / "kept"))
    alone = unisono.load(save_export(whole, tmp_path / "merged"))
    assert kept(request).text == alone(request).text
    assert alone.model.state_dict().keys() == plain.state_dict().keys()


@pytest.fixture
def alone(data, tmp_path):
    """An export of adapters alone, of which one has learnt something, the plain one beneath, and the model."""
    facts = data.describe()
    base = save_export(model_of("text/ar", facts), tmp_path / "base")
    tuned = model_of("text/ar", facts, {"rank": 2, "train": ["net.head.*"]}, seed=2)
    warm_start(tuned, str(base))
    with torch.no_grad():
        for name in sorted(tuned.adapted):
            tuned.get_parameter(name).add_(torch.randn(tuned.get_parameter(name).shape) * 0.1)
    return save_export(tuned, tmp_path / "alone", adapters_alone=True), base, tuned.eval()


def test_adapters_are_written_alone_and_joined_with_the_export_that_they_were_trained_on(alone, tmp_path):
    folder, base, tuned = alone
    tokens = torch.tensor([[1, 2, 3]])
    joined = load(folder, base=base).model
    assert joined.state_dict().keys() == tuned.state_dict().keys()
    assert all(torch.equal(value, tuned.state_dict()[name]) for name, value in joined.state_dict().items())
    plain = load(export_run(folder, tmp_path / "merged", base=base)).model
    with torch.no_grad():
        torch.testing.assert_close(plain.predict(tokens), tuned.predict(tokens), rtol=1e-5, atol=1e-5)
    assert not plain.adapted and "adapters" not in plain.recipe


def test_adapters_alone_are_refused_without_their_base_or_with_another(alone, data, tmp_path):
    folder, base, _ = alone
    with refused(CheckpointError, "missing", "base", names="--base"):
        load(folder)
    with refused(CheckpointError, "missing", "base"):
        warm_start(model_of("text/ar", data.describe()), str(folder))
    other = save_export(model_of("text/ar", data.describe(), seed=7), tmp_path / "other")
    with refused(CheckpointError, "conflict", "other"):
        load(folder, base=other)
    with refused(CheckpointError, "conflict", "alone"):
        load(folder, base=folder)
    with refused(CheckpointError, "conflict", "base"):
        load(base, base=base)
    with refused(CheckpointError, "conflict", "base"):
        export_run(tmp_path, tmp_path / "x", base=base)
    with refused(CheckpointError, "empty", "adapters"):
        save_export(load(base).model, tmp_path / "x", adapters_alone=True)


def test_a_part_that_would_stay_random_beneath_adapters_is_refused(alone, data):
    _, base, _ = alone
    raw = {"model": {"name": "text/ar", **NETWORKS["text/ar"], "num_layers": 3}, "data": {"name": "text/toy"}}
    deeper = Recipe.from_dict({**raw, "adapters": {"rank": 2}}).build_model(data.describe())
    with refused(CheckpointError, "shape", "run.init_from", value=str(base), names="net.layers.2."):
        warm_start(deeper, str(base))


def test_an_export_of_before_with_adapters_is_read_as_it_was(alone, tmp_path):
    _, _, tuned = alone
    tuned.recipe["adapters"]["train"] = []
    old = save_export(tuned, tmp_path / "old")
    text = (old / "recipe.yaml").read_text()
    begin, end = text.index("adapters:"), text.index("trainer:")
    moved = text[:begin] + text[end:]
    section = "  adapters:\n    rank: 2\n    alpha: 2.0\n    dropout: 0.0\n"
    (old / "recipe.yaml").write_text(moved.replace("model:\n", "model:\n" + section, 1))
    read = load(old).model
    tokens = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        assert torch.equal(read.predict(tokens), tuned.predict(tokens))
    assert load(shutil.copytree(Path(__file__).parents[2] / "checkpoints/text-ar-shakespeare", tmp_path / "none")).model


def test_a_wrong_key_of_the_section_of_before_is_refused():
    with refused(RecipeError, "unknown", "adapters.rnak"):
        raw = {"model": {"name": "text/ar", "adapters": {"rnak": 2, "rank": 2}}, "data": {"name": "text/toy"}}
        Recipe.from_dict(raw)
