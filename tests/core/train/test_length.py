"""Length: what ends a run reaches its schedule, and steps count what the docs say."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import timer
from unisono.errors import RecipeError
from unisono.recipe import Recipe
from unisono.train import train


def recipe(folder, *overrides, name="codec/vocos-tiny"):
    quiet = ("--trainer.enable_model_summary=false", "--run.preview_seconds=0", "--trainer.num_sanity_val_steps=0")
    return Recipe.read(name, [f"--run.dir={folder}", *quiet, *overrides])


class Rates(Callback):
    def __init__(self):
        self.rates, self.batches, self.validated = [], [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.batches.append({k: v.clone() for k, v in batch.items() if isinstance(v, torch.Tensor)})

    def on_validation_start(self, trainer, pl_module):
        self.validated.append(trainer.global_step)


COSINE = ("--optim.schedule=cosine", "--optim.warmup_steps=0", "--optim.min_lr_ratio=0.01", "--optim.lr=0.001")


@pytest.mark.parametrize("name", ["codec/vocos-tiny", "codec/vocos-gan-tiny"])
@pytest.mark.parametrize(
    ("limits", "steps"),
    [
        (("--trainer.max_steps=10000", "--trainer.max_epochs=2"), 8),
        (("--trainer.max_steps=-1", "--trainer.max_epochs=2"), 8),
        (("--trainer.max_steps=6", "--trainer.max_epochs=2"), 6),
    ],
)
def test_the_schedule_ends_with_the_run(tmp_path, limits, steps, name):
    rates = Rates()
    train(recipe(tmp_path, *limits, *COSINE, name=name), progress=False, callbacks=[rates])
    assert len(rates.rates) == steps
    exact = [1e-3 * (0.01 + 0.99 * (1 + math.cos(math.pi * k / steps)) / 2) for k in range(steps)]
    assert rates.rates == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("limits", [("--trainer.max_steps=-1",), ("--trainer.max_steps=1000000",)])
def test_a_time_ends_the_schedule_too(tmp_path, monkeypatch, limits):
    """By a clock that goes on by 0.3 s each time that it is read."""
    monkeypatch.setattr(timer, "time", SimpleNamespace(monotonic=itertools.count(0, 0.3).__next__))
    rates = Rates()
    given = [*limits, "--trainer.max_time=00:00:01:00", "--run.ema_decay=0"]
    train(recipe(tmp_path, *given, *COSINE), progress=False, callbacks=[rates])
    assert 10 < len(rates.rates) < 200
    assert rates.rates[0] > 9e-4 and rates.rates[-1] < 1e-4
    assert min(rates.rates) > 9e-6


def test_a_schedule_without_an_end_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="needs an end") as caught:
        train(recipe(tmp_path, "--trainer.max_steps=-1", "--trainer.max_epochs=-1", *COSINE), progress=False)
    assert caught.value.path == "optim.schedule"


@pytest.mark.parametrize("count", [1, 2])
def test_to_overfit_is_to_see_the_same_batches(tmp_path, count):
    seen = Rates()
    given = (f"--trainer.overfit_batches={count}", "--trainer.max_steps=6")
    train(recipe(tmp_path, *given), progress=False, callbacks=[seen])
    assert len(seen.batches) == 6
    for k, batch in enumerate(seen.batches):
        for name, value in batch.items():
            assert torch.equal(value, seen.batches[k % count][name])


@pytest.mark.parametrize(("accumulated", "interval"), [(1, 3), (2, 1), (2, 2)])
def test_validation_counts_steps_of_the_run(tmp_path, accumulated, interval):
    seen = Rates()
    given = (f"--trainer.val_check_interval={interval}", f"--trainer.accumulate_grad_batches={accumulated}")
    train(recipe(tmp_path, *given, "--trainer.max_steps=6"), progress=False, callbacks=[seen])
    assert seen.validated == list(range(interval, 7, interval))


def test_lines_tell_loss_and_throughput(tmp_path, capfd):
    train(recipe(tmp_path, "--trainer.max_steps=3"), progress=False)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in lines] == ["1/3", "3/3"]
    assert all("loss " in line and "frames/s" in line for line in lines)
