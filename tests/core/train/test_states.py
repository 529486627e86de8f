"""States: what is kept of a run, under which names."""

import errno
import os
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback
from refused import refused
from short_runs import Kill, fit, recipe
from unisono.errors import CheckpointError
from unisono.export import export_run, find_training_state, load, read_training_state
from unisono.recipe import CheckpointSpec
from unisono.train.callbacks.checkpoints import KeepState
from unisono.train.curves import read_curves
from unisono.train.states.shelf import Shelf


class Keep(Callback):
    """Keep the state of a step under a name."""

    def __init__(self, step, name):
        self.step, self.name = step, name

    def on_train_batch_end(self, trainer, pl_module, *args):
        if trainer.global_step == self.step:
            (keep,) = (c for c in trainer.callbacks if isinstance(c, KeepState))
            self.kept = keep.keep(trainer, self.name)
            self.weights = {k: v.clone() for k, v in pl_module.state_dict().items()}


def test_a_state_is_kept_under_another_name_and_written_once(tmp_path):
    keep = Keep(2, "best-1")
    result = fit(recipe(tmp_path), callbacks=[keep])
    folder = result.folder / "checkpoints"
    assert keep.kept == folder / "best-1.ckpt"
    assert sorted(path.name for path in folder.iterdir()) == ["0000004.ckpt", "best-1.ckpt", "last.ckpt"]
    state = torch.load(keep.kept, weights_only=True)
    assert state["global_step"] == 2
    for name, value in keep.weights.items():
        assert torch.equal(value, state["current_model_state"][name])
    again = Keep(4, "best-1")
    fit(recipe(tmp_path), callbacks=[again], resume=keep.kept)
    assert torch.load(keep.kept, weights_only=True)["global_step"] == 4
    assert os.path.samefile(keep.kept, folder / "last.ckpt")  # one file under three names


def state_of(result):
    return read_training_state(find_training_state(result.folder))


def assert_same(one, other, path=""):
    assert type(one) is type(other), path
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other) and one.dtype == other.dtype, path
    elif isinstance(one, dict):
        assert list(one) == list(other), path
        for key in one:
            assert_same(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for number, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{path}.{number}")
    else:
        assert one == other or one != one, path


WEIGHTS = ("state_dict", "current_model_state", "averaging_state", "optimizer_states")


def assert_same_training(one, other):
    for key in WEIGHTS:
        assert_same(one[key], other[key], key)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """An uninterrupted run."""
    return fit(recipe(tmp_path_factory.mktemp("straight")))


SHARDED = "--run.checkpoint.layout=sharded"
BESIDE = "--run.checkpoint.asynchronous=true"


@pytest.mark.parametrize("layout", ["file", "sharded"])
def test_a_state_written_beside_training_goes_on_as_if_nothing_had_been(tmp_path, straight, layout):
    """Killed after step 3 and resumed, in the other layout too, a run equals an uninterrupted one to the bit."""
    mine = recipe(tmp_path, BESIDE, f"--run.checkpoint.layout={layout}", "--run.checkpoint.every=1")
    with pytest.raises(KeyError, match="killed"):
        fit(mine, callbacks=[Kill(3)])
    (folder,) = (tmp_path / "codec-vocos-tiny").iterdir()
    states = folder / "checkpoints"
    names = {"file": ["0000003.ckpt", "last.ckpt"], "sharded": ["0000003", "last"]}
    assert sorted(path.name for path in states.iterdir()) == names[layout]
    other = {"file": "sharded", "sharded": "file"}[layout]
    result = fit(recipe(tmp_path, f"--run.checkpoint.layout={other}"), resume="last")
    assert sorted(path.name for path in states.iterdir()) == [name.replace("3", "4") for name in names[other]]
    assert_same_training(state_of(straight), state_of(result))


def test_both_layouts_hold_the_same(tmp_path, straight):
    sharded = fit(recipe(tmp_path, SHARDED))
    path = find_training_state(sharded.folder)
    assert path == sharded.folder / "checkpoints/0000004"
    one, other = state_of(straight), state_of(sharded)
    del one["unisono"]["recipe"], other["unisono"]["recipe"]
    for state in (one, other):
        del state["callbacks"]  # seconds that steps took
    assert_same(one, other)
    names = [name for name, _ in straight.model.named_parameters()]
    assert sorted(one["optimizer_states"][0]["state"]) == sorted(names)


def test_what_a_run_folder_is_good_for_holds_for_shards_too(tmp_path, straight, capsys):
    sharded = fit(recipe(tmp_path / "one", SHARDED))
    exported = [
        export_run(each, tmp_path / f"export-{number}") for number, each in enumerate((straight.folder, sharded.folder))
    ]
    weights = [(folder / "model.safetensors").read_bytes() for folder in exported]
    assert weights[0] == weights[1]
    where = sharded.folder / "checkpoints/last"
    fit(recipe(tmp_path / "two", f"--run.init_from={where}", "--trainer.max_steps=1"))
    total = len(straight.model.state_dict())
    assert f"{total} of {total} weights taken" in capsys.readouterr().out
    assert read_curves(sharded.folder)
    with refused(CheckpointError, "format", names="unisono export RUN DEST"):
        load(sharded.folder)


@pytest.mark.parametrize("layout", ["file", "sharded"])
def test_a_full_disk_is_told_at_the_next_step_and_the_older_state_stays(tmp_path, monkeypatch, layout):
    name = f"place_{'file' if layout == 'file' else 'folder'}"
    place = getattr(Shelf, name)

    def full(self, aside, step):
        if step > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return place(self, aside, step)

    monkeypatch.setattr(Shelf, name, full)
    mine = recipe(tmp_path, BESIDE, f"--run.checkpoint.layout={layout}", "--run.checkpoint.every=1")
    with pytest.raises(CheckpointError, match="no space left on device; free some space, and go on with --resume"):
        fit(mine)
    (folder,) = (tmp_path / "codec-vocos-tiny").iterdir()
    assert read_training_state(find_training_state(folder))["global_step"] == 1
    assert not [path for path in (folder / "checkpoints").iterdir() if path.name.startswith(".")]


def test_a_state_of_another_model_is_refused_in_shards_too(tmp_path):
    begun = fit(recipe(tmp_path, SHARDED, "--trainer.max_steps=1"))
    with pytest.raises(CheckpointError, match=r"model\.network\.dim=32"):
        fit(recipe(tmp_path, "--model.network.dim=48"), resume="last")
    shard = next((begun.folder / "checkpoints/0000001").glob("*.distcp"))
    shard.unlink()
    with refused(CheckpointError, "missing", shard.name, names=shard.name):
        export_run(begun.folder, tmp_path / "export")


class Odd(Callback):
    def state_dict(self):
        return {"of": [KeyError]}


def test_a_callback_whose_state_could_not_be_read_back_is_refused_before_the_first_step(tmp_path):
    seen = []

    class Watch(Callback):
        def on_train_batch_start(self, *args):
            seen.append(args)

    with refused(CheckpointError, "type", names=["Odd", "of"]):
        fit(recipe(tmp_path), callbacks=[Odd(), Watch()])
    assert not seen


@pytest.mark.parametrize("name", ["", "7", "last", "../x", ".x"])
def test_a_name_that_would_be_taken_for_another_is_refused(tmp_path, name):
    keep = KeepState(tmp_path, CheckpointSpec())
    with refused(CheckpointError, "value", "name", value=name):
        keep.keep(SimpleNamespace(global_step=1), name)
