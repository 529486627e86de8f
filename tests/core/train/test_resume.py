"""Resume: other values are applied and noted, or refused by name before anything is written."""

import json
import os
import shutil

import pytest
import torch
import yaml
from lightning.pytorch import Callback
from short_runs import fit, last, recipe
from unisono.errors import UnisonoError
from unisono.export import find_training_state
from unisono.train.resume import Origin


def content(folder):
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


class Watch(Callback):
    """The optimiser's settings, and the weights, at the first step."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if not hasattr(self, "groups"):
            self.groups = [{k: v for k, v in g.items() if k != "params"} for g in trainer.optimizers[0].param_groups]
            self.weights = {k: v.clone() for k, v in pl_module.state_dict().items()}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    return fit(recipe(tmp_path_factory.mktemp("begun"), "--trainer.max_steps=2"))


@pytest.fixture
def copy(begun, tmp_path):
    folder = tmp_path / "codec-vocos-tiny" / "0001"
    shutil.copytree(begun.folder, folder)
    return folder


def test_settings_of_the_optimiser_are_applied_and_noted(copy, tmp_path, capsys):
    watch = Watch()
    changes = {"lr": 0.003, "betas": [0.5, 0.6], "eps": 0.01, "weight_decay": 0.25, "schedule": "linear"}
    given = [f"--optim.{key}={value}" for key, value in changes.items()]
    result = fit(recipe(tmp_path, *given), resume="last", callbacks=[watch])
    assert result.folder.samefile(copy)
    decayed, spared = watch.groups
    rate = 0.003 * (0.01 + 0.99 * 0.5)  # of a linear schedule, after two of four steps
    for group, decay in ((decayed, 0.25), (spared, 0.0)):
        assert group["lr"] == pytest.approx(rate) and group["initial_lr"] == 0.003
        assert (tuple(group["betas"]), group["eps"], group["weight_decay"]) == ((0.5, 0.6), 0.01, decay)
    noted = json.loads((copy / "changes.json").read_text())
    assert [note["step"] for note in noted] == [2]
    assert noted[0]["changes"]["optim.lr"] == [0.001, 0.003]
    assert {f"optim.{key}" for key in changes} <= noted[0]["changes"].keys()
    assert yaml.safe_load((copy / "recipe.yaml").read_text())["optim"]["lr"] == 0.003
    assert "optim.lr: 0.001 → 0.003" in capsys.readouterr().out
    fit(recipe(tmp_path, *given, "--trainer.max_steps=5"), resume="last")
    assert [note["step"] for note in json.loads((copy / "changes.json").read_text())] == [2, 4]


def test_without_an_average_the_raw_weights_go_on(copy, tmp_path):
    watch = Watch()
    before = torch.load(copy / "checkpoints/last.ckpt", weights_only=True)["current_model_state"]
    result = fit(recipe(tmp_path, "--run.ema_decay=0"), resume="last", callbacks=[watch])
    for name, value in before.items():
        assert torch.equal(value, watch.weights[name])
    assert "current_model_state" not in last(result)
    fit(recipe(tmp_path, "--trainer.max_steps=5"), resume="last")  # and an average can begin again


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("--seed=7", "seed=0"),
        ("--data.batch_size=8", "data.batch_size=4"),
        ("--data.num_items=24", "num_items="),
        ("--model.dim=48", "model.network.dim=32|model.dim=32"),
        ("--data.mel.sample_rate=24000", "mel_spec"),
        ("--optim.lr=0", "optim.lr"),
    ],
)
def test_what_cannot_change_is_refused_by_name_and_nothing_is_written(copy, tmp_path, override, told):
    before = content(copy)
    with pytest.raises(UnisonoError, match=told):
        fit(recipe(tmp_path, override), resume="last")
    assert content(copy) == before
    assert [path.name for path in copy.parent.iterdir()] == ["0001"]


def test_a_state_of_lightnings_requeue_is_found(copy, tmp_path):
    state = torch.load(copy / "checkpoints/last.ckpt", weights_only=True)
    requeued = copy / "hpc_ckpt_1.ckpt"
    torch.save(state, requeued)
    os.utime(requeued, (2e9, 2e9))
    assert find_training_state(copy) == requeued and find_training_state(copy.parent) == requeued
    assert fit(recipe(tmp_path), resume="last").folder.samefile(copy)
    os.utime(requeued, (1e9, 1e9))
    assert find_training_state(copy).name == "last.ckpt"


def test_facts_are_compared_by_name(begun, monkeypatch):
    """The state of this run against facts in which one value is another."""
    path = begun.folder / "checkpoints/last.ckpt"
    kept = torch.load(path, weights_only=True)
    data = recipe(begun.folder.parent.parent).build_data()
    data.prepare(progress=False)
    model = recipe(begun.folder).build_model(data.describe())
    Origin(path, kept).check(model, data, {})

    kept["unisono"]["facts"] = {**kept["unisono"]["facts"], "speakers": ["a", "b"]}
    model.facts = {**model.facts, "speakers": ["b", "a"]}
    monkeypatch.setattr(type(model), "Facts", None)
    with pytest.raises(UnisonoError, match=r"fact speakers=\['a', 'b'\], this one has \['b', 'a'\]"):
        Origin(path, kept).check(model, data, {})


@pytest.mark.parametrize(
    "name",  # the others are games of two players
    ["text/ar-tiny", "convert/starganv2-tiny", "image/vae-tiny", "codec/vocos-gan-tiny"],
)
def test_a_run_in_float64_resumes_to_the_bit(name, tmp_path):
    """Lightning makes weights float64 only after it has restored a state: read into float32 they were rounded."""
    given = ("--trainer.precision=64-true", "--optim.schedule=constant")
    straight = last(fit(recipe(tmp_path / "straight", *given, "--trainer.max_steps=4", name=name)))
    fit(recipe(tmp_path / "parts", *given, "--trainer.max_steps=2", name=name))
    resumed = last(fit(recipe(tmp_path / "parts", *given, "--trainer.max_steps=4", name=name), resume="last"))
    assert {value.dtype for value in straight["state_dict"].values() if value.is_floating_point()} == {torch.float64}
    differing = [
        key for key, value in straight["state_dict"].items() if not torch.equal(value, resumed["state_dict"][key])
    ]
    assert differing == []
