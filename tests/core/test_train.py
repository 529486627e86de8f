"""Runs: resumed equals uninterrupted at any step, what a run leaves, and a start from other weights."""

import json
import os
from functools import partial
from types import SimpleNamespace

import pytest
import short_runs
import torch
import yaml
from lightning.pytorch import Callback
from refused import refused
from short_runs import Kill, fit, last
from unisono import Text, cli
from unisono.errors import CheckpointError, RecipeError
from unisono.export import export_run, load, portable
from unisono.recipe import Recipe
from unisono.train import train
from unisono.train.callbacks.preview import Previews
from unisono.train.run import slow_precision
from unisono.train.warm_start import warm_start

STEPS = 6
"""Of batches of 4 from 16 items: the run crosses an epoch, and validates."""


recipe = partial(short_runs.recipe, steps=STEPS)


def assert_same(one: dict, other: dict) -> None:
    assert one["global_step"] == other["global_step"] == STEPS
    for kind in ("state_dict", "current_model_state", "averaging_state"):
        assert one[kind].keys() == other[kind].keys()
        for name, value in one[kind].items():
            assert torch.equal(value, other[kind][name]), f"{kind}: {name}"


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """An uninterrupted run."""
    return fit(recipe(tmp_path_factory.mktemp("straight")))


@pytest.mark.parametrize("stop", range(1, STEPS))
def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path, straight, stop):
    mine = recipe(tmp_path, "--run.checkpoint.every=1")
    with pytest.raises(KeyError, match="killed"):
        fit(mine, callbacks=[Kill(stop)])
    assert "UNISONO_RUN_DIR" not in os.environ
    assert_same(last(straight), last(fit(mine, resume="last")))


@pytest.mark.parametrize("stop", [1, 4, 5])
def test_a_finished_run_can_be_extended(tmp_path, straight, stop):
    """The last state holds the raw weights, not their average, and is written whatever the interval."""
    short = fit(recipe(tmp_path, f"--trainer.max_steps={stop}", "--run.checkpoint.every=4"))
    assert last(short)["global_step"] == stop
    assert_same(last(straight), last(fit(recipe(tmp_path), resume=short.folder)))


def test_the_adversarial_loop_can_be_killed_too(tmp_path):
    name = "codec/vocos-gan-tiny"
    whole = last(fit(recipe(tmp_path / "a", name=name)))
    mine = recipe(tmp_path / "b", "--run.checkpoint.every=2", name=name)
    with pytest.raises(KeyError, match="killed"):
        fit(mine, callbacks=[Kill(3)])
    assert_same(whole, last(fit(mine, resume="last")))


def test_the_trained_model_has_the_average_and_the_state_both(straight):
    state = last(straight)
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, state["state_dict"][name])
    assert any(not torch.equal(v, state["current_model_state"][k]) for k, v in state["state_dict"].items())


def test_the_average_of_the_weights_is_what_it_says(tmp_path):
    """Against the recursion, step by step: m ← m + (1 − min(decay, (1 + n) / (10 + n))) · (w − m)."""
    seen = []

    class Watch(Callback):
        def on_train_start(self, trainer, pl_module):
            seen.append(pl_module.net.head.bias.detach().clone())

        def on_train_batch_end(self, trainer, pl_module, *args):
            seen.append(pl_module.net.head.bias.detach().clone())

    result = fit(recipe(tmp_path, "--run.ema_decay=0.3"), callbacks=[Watch()])
    mean = seen[1]  # the first update copies
    for n, new in enumerate(seen[2:], 1):
        mean = mean + (1 - min(0.3, (1 + n) / (10 + n))) * (new - mean)
    torch.testing.assert_close(result.model.net.head.bias.detach(), mean, rtol=1e-5, atol=1e-8)


def test_without_an_average_the_state_is_the_weights(tmp_path):
    state = last(fit(recipe(tmp_path, "--run.ema_decay=0", "--trainer.max_steps=1")))
    assert "current_model_state" not in state


def test_a_run_leaves_what_it_says(straight):
    names = {p.name for p in straight.folder.iterdir()}
    assert {"recipe.yaml", "audit.json", "checkpoints"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert {p.name for p in straight.folder.glob("checkpoints/*")} == {"last.ckpt", f"{STEPS:07d}.ckpt"}
    assert straight.folder.name == "0001"
    again = Recipe.from_dict(yaml.safe_load((straight.folder / "recipe.yaml").read_text()))
    assert again.trainer["max_steps"] == STEPS
    assert json.loads((straight.folder / "audit.json").read_text())["kept"] == 16
    assert straight.metrics["train/loss"] > 0 and "val/loss" in straight.metrics


def test_runs_are_numbered_and_the_newest_is_resumed(tmp_path):
    folders = [fit(recipe(tmp_path, "--trainer.max_steps=1")).folder for _ in range(2)]
    assert [f.name for f in folders] == ["0001", "0002"]
    resumed = fit(recipe(tmp_path, "--trainer.max_steps=2"), resume="last")
    assert resumed.folder == folders[1]


def test_only_the_newest_states_are_kept(tmp_path):
    result = fit(recipe(tmp_path, "--run.checkpoint.every=2"))
    assert sorted(p.name for p in result.folder.glob("checkpoints/*")) == [f"{STEPS:07d}.ckpt", "last.ckpt"]


def test_what_cannot_be_resumed_is_said(tmp_path, straight):
    with pytest.raises(CheckpointError, match="nothing to resume"):
        fit(recipe(tmp_path), resume="last")
    with refused(CheckpointError, "missing", tmp_path):
        fit(recipe(tmp_path), resume=str(tmp_path))
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes((straight.folder / "checkpoints/last.ckpt").read_bytes()[:1000])
    with refused(CheckpointError, "damaged", "broken.ckpt"):
        fit(recipe(tmp_path), resume=str(broken))


def test_a_dry_run_leaves_nothing(tmp_path, capsys):
    assert train(recipe(tmp_path / "runs"), dry_run=True, progress=False) is None
    assert not (tmp_path / "runs").exists()
    assert "nothing was trained" in capsys.readouterr().out


def test_the_run_has_callbacks_of_its_own(tmp_path):
    with pytest.raises(RecipeError, match="callbacks"):
        fit(recipe(tmp_path, "--trainer.logger=false"))


# ---- a start from other weights ----------------------------------------------------------------


@pytest.mark.parametrize("source", ["run", "state", "export"])
def test_a_run_starts_from_another(tmp_path, straight, source, capsys):
    where = straight.folder
    if source == "state":
        where = straight.folder / "checkpoints/last.ckpt"
    if source == "export":
        where = export_run(straight.folder, tmp_path / "export")

    class Start(Callback):
        def on_train_start(self, trainer, pl_module):
            self.weights = {k: v.clone() for k, v in pl_module.state_dict().items()}

    start = Start()
    result = fit(recipe(tmp_path, f"--run.init_from={where}", "--trainer.max_steps=1"), callbacks=[start])
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, start.weights[name])
    total = len(start.weights)
    assert f"init_from {where}: {total} of {total} weights taken" in capsys.readouterr().out
    told = json.loads((result.folder / "init.json").read_text())
    assert (len(told["taken"]), told["fresh"], told["other_shape"], told["unused"]) == (total, [], [], [])
    capsys.readouterr()
    where = tmp_path / "gone"  # the source is needed once only
    fit(recipe(tmp_path, f"--run.init_from={where}", "--trainer.max_steps=2"), resume=result.folder)


def test_what_does_not_fit_is_counted_and_listed(tmp_path, straight):
    deeper = recipe(tmp_path, "--model.num_blocks=3", "--model.intermediate_dim=48")
    model = deeper.build_model({"mel_spec": straight.model.facts["mel_spec"]})
    drawn = {k: v.clone() for k, v in model.state_dict().items()}
    started = warm_start(model, str(straight.folder))
    source = straight.model.state_dict()
    for name, value in model.state_dict().items():
        taken = name in source and source[name].shape == value.shape
        assert torch.equal(value, source[name] if taken else drawn[name])
        assert name in (started.taken if taken else started.fresh + started.other_shape)
    assert started.fresh and all(".blocks.2." in name for name in started.fresh)
    assert {tuple(drawn[name].shape) for name in started.other_shape} == {(48, 32), (48,), (32, 48)}
    assert not started.unused
    said = str(started)
    assert f"{len(started.fresh)} fresh" in said and started.other_shape[0] in said


def test_what_the_source_has_beyond_is_listed(tmp_path, straight):
    shallow = recipe(tmp_path, "--model.num_blocks=1").build_model({"mel_spec": straight.model.facts["mel_spec"]})
    started = warm_start(shallow, str(straight.folder))
    assert started.unused and all(".blocks.1." in name for name in started.unused)
    assert not started.fresh and not started.other_shape


def test_a_source_of_which_nothing_fits_is_refused(tmp_path, straight, monkeypatch):
    model = recipe(tmp_path).build_model({"mel_spec": straight.model.facts["mel_spec"]})
    monkeypatch.setattr(
        "unisono.train.warm_start.read_weights", lambda source: (model.facts, {"other": torch.zeros(1)})
    )
    with pytest.raises(CheckpointError, match="none of its 1 weights has the name and shape"):
        warm_start(model, "elsewhere")


def test_a_source_that_is_not_there_is_said(tmp_path, capsys):
    assert cli.main(["train", "codec/vocos-tiny", f"--run.init_from={tmp_path}/nowhere", f"--run.dir={tmp_path}"]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# ---- what leaves the machine -------------------------------------------------------------------


def test_an_exported_recipe_names_no_folder_of_this_machine(tmp_path, straight):
    moved = portable(
        {
            "model": {"name": "tts/fastpitch", "dim": 3},
            "data": {
                "name": "tts/speech",
                "root": {"a": "/home/me/corpus/", "b": "C:\\data\\lj", "c": "~/x/y.csv", "d": "data/here"},
                "durations": ["/x/one.jsonl", 3, None],
                "streams": "a=/home/me/a-{0..9}.tar,b=hf:NAME?split=train,c=~/c/,d=C:\\data\\lj,e=data/here",
            },
            "run": {"dir": "/tmp/runs", "init_from": "/tmp/other", "ema_decay": 0.9},
            "components": {"vocoder": "/home/me/vocoder", "codec": "griffin-lim"},
            "seed": 1,
        },
        builtins=("codec",),
    )
    assert moved["data"]["root"] == {"a": "corpus", "b": "lj", "c": "y.csv", "d": "data/here"}
    assert moved["data"]["durations"] == ["one.jsonl", 3, None]
    assert moved["data"]["streams"] == "a=a-{0..9}.tar,b=hf:NAME?split=train,c=c,d=lj,e=data/here"
    assert moved["run"] == {"dir": "runs", "init_from": None, "ema_decay": 0.9}
    assert moved["components"] == {"vocoder": "components/vocoder", "codec": "griffin-lim"}
    folder = export_run(straight.folder, tmp_path / "export")
    assert str(straight.folder.parent) not in (folder / "recipe.yaml").read_text()
    assert load(folder).model.recipe["run"]["dir"] == "runs"
    assert Recipe.read(folder / "recipe.yaml").model == straight.model.recipe["model"]


def test_a_preview_of_a_text_is_read_as_it_is(tmp_path):
    told = {}
    board = SimpleNamespace(add_figure=lambda *_: None, add_text=lambda *args: told.update(args=args))
    trainer = SimpleNamespace(global_step=3, loggers=[SimpleNamespace(experiment=board)], is_global_zero=True)
    Previews(tmp_path, 1.0)._keep(trainer, 0, Text("# one\n```two", (1,), ("# one\n```two",), (0,)))
    assert told["args"] == ("preview/0", "    # one\n    ```two", 3)
    assert (tmp_path / "step-0000003-0.txt").read_text(encoding="utf-8") == "# one\n```two"
    assert (tmp_path / "step-0000003-0.png").is_file()


@pytest.mark.parametrize(
    ("precision", "machine", "capability", "told"),
    [
        ("bf16-mixed", "x86_64", "AVX2", True),
        ("bf16-true", "AMD64", "DEFAULT", True),
        ("32-true", "x86_64", "AVX2", False),
        ("bf16-mixed", "x86_64", "AVX512", False),
        ("bf16-mixed", "arm64", "DEFAULT", False),
    ],
)
def test_a_precision_that_a_processor_only_imitates_is_told(precision, machine, capability, told, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    assert (slow_precision(precision) is not None) == told


def test_a_run_tells_of_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("unisono.train.run.slow_precision", lambda precision: f"{precision} is slow here")
    train(recipe(tmp_path, "--trainer.precision=bf16-mixed", "--trainer.accelerator=cpu"), progress=False, dry_run=True)
    assert "bf16-mixed is slow here" in capsys.readouterr().err
