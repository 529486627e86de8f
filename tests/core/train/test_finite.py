"""Finite: a step that is not finite is refused before it is taken, or left out and counted."""

from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import short_runs
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loops.progress import _ProcessedTracker
from unisono import cli
from unisono.errors import CheckpointError
from unisono.export import export_run
from unisono.train import train
from unisono.train.finite import NonFiniteError, _all_finite
from unisono.train.states.boundary import Boundary

recipe = partial(short_runs.recipe, steps=6)


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


@pytest.mark.parametrize(
    ("values", "finite"),
    [
        ([1.0, -2.0], True),
        ([3e25, -3e38], True),  # the sum of their squares is infinite in float32
        ([1.0, float("inf")], False),
        ([float("nan"), 1.0], False),
        ([3e38, float("nan")], False),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_is_not_infinite(values, finite, dtype):
    parts = [torch.ones(3), torch.tensor(values, dtype=dtype), torch.ones(0)]
    assert all(part.isfinite().all() for part in parts) == finite  # none of them overflows by itself
    assert _all_finite(parts, SimpleNamespace(world_size=1), torch.device("cpu")) == finite


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


def test_with_accumulated_gradients_the_last_step_s_end_is_kept(tmp_path):
    """The first batch of the third step is done when the second one is not finite; both are shown again."""
    given = ("--trainer.accumulate_grad_batches=2", "--trainer.max_steps=4")
    with pytest.raises(NonFiniteError):
        train(recipe(tmp_path / "ill", *given), progress=False, callbacks=[Poison(2, float("nan"))])
    kept = state(tmp_path / "ill/codec-vocos-tiny/0001")
    assert kept["global_step"] == 2
    assert kept["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"] == 4
    resumed = train(recipe(tmp_path / "ill", *given), progress=False, resume="last")
    straight = train(recipe(tmp_path / "straight", *given), progress=False)
    assert resumed is not None and straight is not None
    for name, value in state(straight.folder)["current_model_state"].items():
        assert torch.equal(value, state(resumed.folder)["current_model_state"][name])


def test_an_adversarial_run_keeps_no_state_in_which_one_player_is_a_step_ahead(tmp_path):
    given = ("--run.checkpoint.every=2",)
    with pytest.raises(NonFiniteError, match="the gradient of net") as caught:
        train(
            recipe(tmp_path, *given, name="codec/vocos-gan-tiny"), progress=False, callbacks=[Poison(3, float("nan"))]
        )
    folder = tmp_path / "codec-vocos-gan-tiny/0001"
    assert caught.value.step == 3 and str(folder / "checkpoints/last.ckpt") in str(caught.value)
    kept = state(folder)
    assert kept["global_step"] == 2
    steps = [{int(values["step"]) for values in each["state"].values()} for each in kept["optimizer_states"]]
    assert steps == [{2}, {2}]


def test_buffers_go_back_to_the_end_of_the_last_step():
    """What a batch with NaN does to a running mean is undone; what earlier batches did is not."""
    counts = [_ProcessedTracker(ready=5, started=5, processed=4, completed=4) for _ in range(2)]
    progress = SimpleNamespace(total=counts[0], current=counts[1])
    trainer: Any = SimpleNamespace(
        global_step=2, fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    )
    norm, boundary = torch.nn.BatchNorm1d(3), Boundary()
    norm.register_buffer("table", torch.zeros(2), persistent=False)
    module: Any = norm
    norm(torch.randn(4, 3))
    boundary.mark(trainer, module)
    kept = {name: value.clone() for name, value in norm.state_dict().items()}
    for value in (1.0, float("nan")):  # two batches of one step
        norm(torch.full((4, 3), value))
        boundary.mark(trainer, module)
    counts[0].ready = counts[0].started = counts[0].completed = 6
    assert not norm.running_mean.isfinite().all()
    boundary.restore(trainer)
    for name, value in norm.state_dict().items():
        assert torch.equal(value, kept[name]), name
    assert (counts[0].ready, counts[0].completed, counts[1].ready) == (4, 4, 4)
    trainer.global_step = 3
    norm(torch.ones(4, 3))
    boundary.mark(trainer, module)
    moved = norm.running_mean.clone()
    norm(torch.full((4, 3), float("nan")))
    boundary.restore_buffers()
    assert torch.equal(norm.running_mean, moved) and not torch.equal(moved, kept["running_mean"])


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
