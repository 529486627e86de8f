"""The best states: which are kept, remembered, exported; and runs that end when nothing improves."""

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import short_runs
import torch
from lightning.pytorch import Callback
from refused import refused
from unisono.cli import main
from unisono.errors import CheckpointError, RecipeError
from unisono.export import load
from unisono.export.best import find_best_state
from unisono.switches import EarlyStopping, KeepBest
from unisono.train import train
from unisono.train.callbacks.best import KeepBestStates, StopEarly

STEPS = 6


def recipe(folder, *overrides, name="codec/vocos-tiny"):
    """A run of six steps that validates after each."""
    return short_runs.recipe(folder, "--trainer.val_check_interval=1", *overrides, name=name, steps=STEPS)


def fit(recipe, *values, at="val/score", stop=None, **kwargs):
    result = train(recipe, progress=False, callbacks=[Say(values, at, stop)] if values else [], **kwargs)
    assert result is not None
    return result


class Say(Callback):
    """Log given values: the one of step n is ``values[n - 1]``; dies at the beginning of a step."""

    def __init__(self, values, tag, stop):
        self.values, self.tag, self.stop = values, tag, stop

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.stop:
            raise KeyError("killed")

    def on_train_batch_end(self, trainer, pl_module, *args):
        if not self.tag.startswith("val/"):
            pl_module.log(self.tag, self.values[trainer.global_step - 1])

    def on_validation_epoch_end(self, trainer, pl_module):
        if self.tag.startswith("val/"):
            pl_module.log(self.tag, self.values[max(trainer.global_step, 1) - 1])


NAN = math.nan


class Keep:
    """Stands for ``KeepState``: a kept state is a small file."""

    def __init__(self, folder):
        self.folder = folder

    def keep(self, trainer, name):
        path = self.folder / f"checkpoints/{name}.ckpt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
        return path


def trainer_at(step, **logged):
    """Stands for Lightning's trainer at the end of a validation."""
    return SimpleNamespace(
        global_step=step,
        callback_metrics=logged,
        sanity_checking=False,
        state=SimpleNamespace(fn="fit"),
        world_size=1,
        is_global_zero=True,
        should_stop=False,
        enable_validation=True,
        val_dataloaders=[1],
        num_val_batches=[1],
        strategy=SimpleNamespace(broadcast=lambda value: value),
    )


def watched(callback, values, start=1):
    """Show a callback the values of steps; returns the step at which it ends the run, or the last."""
    callback.on_train_start(trainer_at(start - 1), None)
    for step, value in enumerate(values, start):
        trainer = trainer_at(step, score=torch.tensor(float(value)))
        callback.on_validation_end(trainer, None)
        if trainer.should_stop:
            return step
    return step


def best_of(folder, **spec):
    return KeepBestStates(KeepBest("score", **spec), Keep(folder), folder, 1)


def noted(folder):
    return [(each["step"], each["value"]) for each in json.loads((folder / "best.json").read_text())["best"]]


def kept_in(folder):
    return sorted(int(path.stem.removeprefix("best-")) for path in folder.glob("checkpoints/best*"))


@pytest.mark.parametrize(
    ("values", "mode", "k", "steps"),
    [
        ((3, 1, 2, 1, 5, 4), "min", 1, [2]),  # of equal values the earlier
        ((3, 1, 2, 1, 5, 4), "min", 3, [2, 4, 3]),
        ((3, 1, 2, 1, 5, 4), "max", 2, [5, 6]),
        ((NAN, 2, NAN, 3, NAN, 1), "min", 9, [6, 2, 4]),  # NaN is never good
        ((NAN, math.inf, NAN, NAN, NAN, NAN), "min", 1, [2]),
        ((1, 2, 3, 4, 5, 6), "min", 1, [1]),
        ((6, 5, 4, 3, 2, 1), "min", 2, [6, 5]),
    ],
)
def test_the_k_best_are_kept(tmp_path, values, mode, k, steps):
    watched(best_of(tmp_path, mode=mode, k=k), values)
    assert noted(tmp_path) == [(step, float(values[step - 1])) for step in steps]
    assert kept_in(tmp_path) == sorted(steps)


@pytest.mark.parametrize("seed", range(20))
def test_they_are_those_of_sorting_all(tmp_path, seed):
    draw = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 6, (12,), generator=draw).tolist()
    mode, k, stop = ("min", "max")[seed % 2], 1 + seed % 4, 1 + seed % 11
    watched(best_of(tmp_path, mode=mode, k=k), values[:stop])
    watched(best_of(tmp_path, mode=mode, k=k), values[stop - 1 :], start=stop)  # a step is run again after a break
    sign = 1 if mode == "min" else -1
    ranked = sorted(range(12), key=lambda at: (sign * values[at], at))[:k]
    assert noted(tmp_path) == [(at + 1, float(values[at])) for at in ranked]
    assert kept_in(tmp_path) == sorted(at + 1 for at in ranked)


def test_nothing_is_kept_of_values_that_are_no_numbers(tmp_path):
    watched(best_of(tmp_path), [NAN, NAN])
    assert not list(tmp_path.iterdir())
    with refused(CheckpointError, "missing", tmp_path):
        find_best_state(tmp_path)


def test_a_smaller_k_removes_and_another_monitor_leaves_what_was_kept(tmp_path, capsys):
    watched(best_of(tmp_path, k=3), [1, 5, 3])
    assert kept_in(tmp_path) == [1, 2, 3]
    watched(best_of(tmp_path, k=1), [9], start=4)
    assert kept_in(tmp_path) == [1]
    capsys.readouterr()
    watched(best_of(tmp_path, mode="max"), [2], start=5)
    assert "left as it is: checkpoints/best-0000001.ckpt" in capsys.readouterr().err
    assert kept_in(tmp_path) == [1, 5] and noted(tmp_path) == [(5, 2.0)]


def test_a_state_that_was_deleted_by_hand_is_kept_no_more(tmp_path):
    watched(best_of(tmp_path, k=2), [1, 5, 3])
    (tmp_path / "checkpoints/best-0000001.ckpt").unlink()
    watched(best_of(tmp_path, k=2), [4], start=4)
    assert noted(tmp_path) == [(3, 3.0), (4, 4.0)]


def test_without_validation_each_written_state_is_looked_at(tmp_path):
    result = fit(
        recipe(
            tmp_path,
            "--trainer.limit_val_batches=0",
            "--run.checkpoint.every=2",
            "--run.keep_best.monitor=train/score",
        ),
        *map(float, (1, 5, 2, 4, 3, 6)),
        at="train/score",
    )
    assert noted(result.folder) == [(4, 4.0)]


def test_a_model_s_own_loss_chooses_as_its_log_says(tmp_path):
    result = fit(recipe(tmp_path, "--run.keep_best.k=2", "--run.logger=csv"))
    (log,) = result.folder.glob("csv/*/metrics.csv")
    with log.open() as lines:
        losses = {int(row["step"]) + 1: float(row["val/loss"]) for row in csv.DictReader(lines) if row["val/loss"]}
    assert len(losses) == STEPS
    ranked = sorted(losses, key=lambda step: (losses[step], step))
    assert [step for step, _ in noted(result.folder)] == ranked[:2]
    assert [value for _, value in noted(result.folder)] == pytest.approx([losses[step] for step in ranked[:2]])


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A run whose best state is the third, killed in its fourth step and gone on with."""
    mine = recipe(
        tmp_path_factory.mktemp("broken"),
        "--run.keep_best={monitor: val/score, k: 3}",
        "--run.early_stopping={monitor: val/score, patience: 4}",
        "--run.checkpoint.every=1",
    )
    values = list(map(float, (9, 8, 1, 8, 7, 9)))
    with pytest.raises(KeyError, match="killed"):
        fit(mine, *values, stop=3)
    return mine, values, fit(mine, *values, resume="last")


def test_the_best_are_remembered_when_a_run_goes_on(broken):
    _, _, result = broken
    assert noted(result.folder) == [(3, 1.0), (5, 7.0), (2, 8.0)]
    assert kept_in(result.folder) == [2, 3, 5]
    for step in (2, 3, 5):
        state = torch.load(result.folder / f"checkpoints/best-{step:07d}.ckpt", weights_only=True)
        assert state["global_step"] == step


def test_so_is_what_early_stopping_saw(broken):
    """States are written before the validation of their step, which Lightning does not repeat."""
    _, values, result = broken
    seen = json.loads((result.folder / "early_stopping.json").read_text())["seen"]
    assert seen == [[step, value] for step, value in enumerate(values, 1)]


def test_the_best_state_can_be_gone_on_from(broken, tmp_path):
    """It equals the state of an uninterrupted run at that step: the end is the same."""
    mine, values, result = broken
    ends = []
    for state in (None, result.folder / "checkpoints/best-0000003.ckpt"):
        if state is not None:
            run = tmp_path / "other" / "checkpoints"
            run.mkdir(parents=True)
            state = Path(shutil.copy(state, run))
        ends.append(fit(replace(mine, run={**mine.run, "dir": str(tmp_path)}), *values, resume=state).folder)
    one, other = (torch.load(end / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for end in ends)
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


# ---- refusals ----------------------------------------------------------------------------------


def test_a_monitor_that_nothing_logs_is_refused_before_the_first_step(tmp_path):
    path = "run.keep_best.monitor"
    with refused(RecipeError, "unknown", path, value="val/los", names="did you mean 'val/loss'?"):
        fit(recipe(tmp_path, f"--{path}=val/los"), *[1.0] * STEPS)
    assert not list(tmp_path.glob("*/*/checkpoints/*"))


def test_one_of_the_training_is_refused_at_the_first_validation(tmp_path):
    path = "run.early_stopping.monitor"
    with refused(RecipeError, "unknown", path, value="train/los", names="'train/loss'"):
        fit(recipe(tmp_path, f"--{path}=train/los"))


def test_a_value_of_a_validation_that_is_not_is_refused_at_the_start(tmp_path):
    with refused(RecipeError, "missing", "run.keep_best.monitor", value="val/loss"):
        fit(recipe(tmp_path, "--run.keep_best={}", "--trainer.limit_val_batches=0"))


@pytest.mark.parametrize(
    ("override", "code", "path"),
    [
        ("keep_best.k=0", "range", "run.keep_best.k"),
        ("keep_best.mode=least", "choice", "run.keep_best.mode"),
        ("keep_best.monitor=''", "empty", "run.keep_best.monitor"),
        ("keep_best.metric=x", "unknown", "run.keep_best.metric"),
        ("early_stopping.patience=0", "range", "run.early_stopping.patience"),
        ("early_stopping.min_delta=-1.0", "range", "run.early_stopping.min_delta"),
        ("early_stopping.min_delta=.inf", "range", "run.early_stopping.min_delta"),
    ],
)
def test_wrong_values_are_refused(tmp_path, override, code, path):
    if code == "choice":  # the validator names the group's type
        with pytest.raises(RecipeError) as caught:
            recipe(tmp_path, f"--run.{override}")
        assert caught.value.path == path
        return
    with refused(RecipeError, code, path):
        recipe(tmp_path, f"--run.{override}")


# ---- exports -----------------------------------------------------------------------------------


def test_the_best_state_is_exported(broken, tmp_path, capsys):
    """With its averaged weights."""
    folder = broken[2].folder
    state = torch.load(folder / "checkpoints/best-0000003.ckpt", weights_only=True)
    for where in (folder, folder.parent):  # a run, and a recipe's runs
        capsys.readouterr()
        dest = tmp_path / f"export-{where.name}"
        assert main(["export", str(where), str(dest), "--best"]) == 0
        assert "best: step 3, val/score 1" in capsys.readouterr().out
        weights = load(dest).model.state_dict()
        for name, value in state["state_dict"].items():
            assert torch.equal(value, weights[name])
    assert any(not torch.equal(v, weights[k]) for k, v in state["current_model_state"].items())


def test_an_export_without_a_best_state_is_refused(voice_run, tmp_path, capsys):
    assert main(["export", str(voice_run), str(tmp_path / "export"), "--best"]) == 2
    assert "kept no best state" in capsys.readouterr().err
    assert not (tmp_path / "export").exists()
    last = voice_run / "checkpoints/last.ckpt"
    with refused(CheckpointError, "missing", last):
        find_best_state(last)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"monitor": "x", "mode": "min", "k": 1, "best": [{"step": 1, "value": 1.0, "file": "../../x"}]}', "damaged"),
        ('{"monitor": "x", "mode": "min", "k": 1, "best": [{"step": 1, "value": 1.0, "file": "x.ckpt"}]}', "missing"),
        ('{"monitor": "x", "mode": "min", "k": 1, "best": []}', "empty"),
        ('{"monitor": "x", "mode": "least", "k": 1, "best": []}', "damaged"),
        ("[]", "damaged"),
    ],
)
def test_a_damaged_record_is_refused(tmp_path, text, code):
    run = tmp_path / "runs" / "0001"
    run.mkdir(parents=True)
    (run / "best.json").write_text(text)
    with refused(CheckpointError, code):
        find_best_state(run)


# ---- early stopping ----------------------------------------------------------------------------


def oracle(values, mode, patience, min_delta):
    """The step at which a run ends, by the definition: the first after ``patience`` values without an improvement."""
    sign = 1 if mode == "min" else -1
    best, since = math.inf, 0
    for step, value in enumerate(values, 1):
        better = not math.isnan(value) and best - sign * value > min_delta
        best, since = (sign * value, 0) if better else (best, since + 1)
        if since == patience:
            return step
    return len(values)


@pytest.mark.parametrize(
    ("values", "mode", "patience", "min_delta"),
    [
        ((5, 4, 4, 4, 3, 2), "min", 2, 0.0),
        ((5, 4, 4, 4, 3, 2), "min", 3, 0.0),
        ((1, 2, 2, 1, 5, 9), "max", 2, 0.0),
        ((5, 4.9, 4.8, 4.7, 4.6, 4.5), "min", 3, 0.5),
        ((NAN, NAN, NAN, 1, 1, 1), "min", 3, 0.0),
        ((6, 5, 4, 3, 2, 1), "min", 1, 0.0),
    ],
)
def test_a_run_ends_when_nothing_improves(tmp_path, values, mode, patience, min_delta):
    callback = StopEarly(EarlyStopping("score", mode, patience, min_delta), tmp_path, 1)
    assert watched(callback, values) == oracle(values, mode, patience, min_delta)


def test_it_says_why_and_exits_with_0(tmp_path, capsys):
    own = ["--run.early_stopping={patience: 2, min_delta: 1.0e9}", "--optim.schedule=cosine", "--optim.warmup_steps=1"]
    overrides = ["--run.preview_seconds=0", "--trainer.max_steps=40", "--trainer.val_check_interval=1"]
    assert main(["train", "codec/vocos-tiny", "--no-progress", f"--run.dir={tmp_path}", *overrides, *own]) == 0
    told = capsys.readouterr().err
    assert "early stopping at step 3: val/loss has not been better than" in told
    assert "for 2 validations; optim.schedule=cosine was planned for 40 steps" in told
