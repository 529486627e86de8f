"""States: what is kept of a run, under which names."""

import os

import torch
from lightning.pytorch import Callback
from unisono.recipe import Recipe
from unisono.train import train
from unisono.train.callbacks.checkpoints import KeepState


def recipe(folder, *overrides, name="codec/vocos-tiny"):
    quiet = ("--trainer.enable_model_summary=false", "--run.preview_seconds=0", "--trainer.max_steps=4")
    return Recipe.read(name, [f"--run.dir={folder}", *quiet, *overrides])


def fit(recipe, **kwargs):
    result = train(recipe, progress=False, **kwargs)
    assert result is not None
    return result


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
