"""Finite: a step that is not finite is refused before it is taken, or left out and counted."""

from itertools import pairwise

import pytest
import torch
from lightning.pytorch import Callback
from unisono import cli
from unisono.errors import CheckpointError
from unisono.export import export_run
from unisono.recipe import Recipe
from unisono.train import train
from unisono.train.finite import NonFiniteError


def recipe(folder, *overrides, name="codec/vocos-tiny"):
    quiet = ("--trainer.enable_model_summary=false", "--run.preview_seconds=0", "--trainer.max_steps=6")
    return Recipe.read(name, [f"--run.dir={folder}", *quiet, *overrides])


class Poison(Callback):
    """Spoil a part of the loss, or a gradient, at one step."""

    def __init__(self, step, value, part=None):
        self.step, self.value, self.part = step, value, part
        self.rows = None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        pl_module.__dict__.pop("losses", None)
        if trainer.global_step != self.step:
            return
        self.rows = sorted(batch["row"].tolist()) if "row" in batch else None
        if self.part is not None:
            losses = type(pl_module).losses

            def poisoned(given):
                parts = losses(pl_module, given)
                parts[self.part] = parts.get(self.part, parts["loss"]) * self.value
                parts["loss"] = parts["loss"] * self.value
                return parts

            pl_module.losses = poisoned

    def on_after_backward(self, trainer, pl_module):
        if self.part is None and trainer.global_step == self.step:
            next(p for p in pl_module.parameters() if p.grad is not None).grad.view(-1)[0] = self.value


def state(folder):
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["mel", None])
@pytest.mark.parametrize("name", ["codec/vocos-tiny"])
def test_the_run_stops_and_keeps_the_last_finite_state(tmp_path, value, part, name):
    whole = train(recipe(tmp_path / "whole", "--trainer.max_steps=3"), progress=False)
    poison = Poison(3, value, part)
    with pytest.raises(NonFiniteError) as caught:
        train(recipe(tmp_path / "ill"), progress=False, callbacks=[poison])
    error = caught.value
    assert error.step == 3 and "step 3" in str(error)
    assert len(error.rows) == 4 and all(str(row) in str(error) for row in error.rows)
    if poison.rows is not None:
        assert sorted(error.rows) == poison.rows
    assert error.parts == ([part] if part else error.parts) and error.parts
    folder = tmp_path / "ill/codec-vocos-tiny/0001"
    assert str(folder / "checkpoints/last.ckpt") in str(error)
    assert whole is not None
    kept, right = state(folder), state(whole.folder)
    assert kept["global_step"] == right["global_step"] == 3
    for name, value in right["state_dict"].items():
        assert torch.equal(value, kept["state_dict"][name])
    export_run(folder, tmp_path / "export")
    # what goes on from there equals a run that never met the fault
    resumed = train(recipe(tmp_path / "ill"), progress=False, resume="last")
    straight = train(recipe(tmp_path / "straight"), progress=False)
    assert resumed is not None and straight is not None
    for name, value in state(straight.folder)["current_model_state"].items():
        assert torch.equal(value, state(resumed.folder)["current_model_state"][name])


@pytest.mark.parametrize("name", ["codec/vocos-tiny", "codec/vocos-gan-tiny"])
def test_such_steps_can_be_left_out(tmp_path, name):
    seen = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            seen.append(torch.cat([p.detach().flatten() for p in pl_module.net.parameters()]))

    mine = recipe(tmp_path, "--run.skip_nonfinite=true", name=name)
    result = train(mine, progress=False, callbacks=[Poison(2, float("nan")), Watch()])
    assert result is not None and result.skipped == 1
    moved = [not torch.equal(before, after) for before, after in pairwise(seen)]
    assert moved == [True, False, True, True, True] and torch.stack(seen).isfinite().all()
    assert result.metrics["train/skipped"] == 1


def test_an_adversarial_run_stops_too(tmp_path):
    with pytest.raises(NonFiniteError, match="the gradient of net"):
        train(recipe(tmp_path, name="codec/vocos-gan-tiny"), progress=False, callbacks=[Poison(2, float("nan"))])


def test_a_fault_in_the_first_step_is_one_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "unisono_codec.vocoders.vocos.Vocos.losses",
        lambda self, batch: {"loss": sum(p.sum() for p in self.parameters()) * float("nan")},
    )
    argv = [
        "train",
        "codec/vocos-tiny",
        f"--run.dir={tmp_path}",
        "--run.preview_seconds=0",
        "--no-progress",
        "--trainer.num_sanity_val_steps=0",
    ]
    assert cli.main(argv) == 2
    assert "step 0: train/loss is nan" in capsys.readouterr().err


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_state_that_is_not_finite_is_not_exported(tmp_path, value):
    result = train(recipe(tmp_path, "--trainer.max_steps=1"), progress=False)
    assert result is not None
    ill = state(result.folder)
    name = next(iter(dict(result.model.named_parameters())))
    ill["state_dict"][name].view(-1)[0] = value
    torch.save(ill, tmp_path / "ill.ckpt")
    with pytest.raises(CheckpointError, match=f"not finite: {name} has 1 of"):
        export_run(tmp_path / "ill.ckpt", tmp_path / "export")
    assert not (tmp_path / "export").exists()
