"""Tune: ranges as they are written, a search that goes on as it would have, and refusals before any training."""

import csv
import json
import multiprocessing
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from refused import refused
from unisono.cli import main
from unisono.cli.tune import split_ranges
from unisono.errors import CheckpointError, MissingExtra, RecipeError, UnisonoError
from unisono.recipe import Recipe
from unisono.train.signals import Stopped
from unisono.tune import Choices, Range, read_range, read_ranges, search, tune

SHORT = [
    "--trainer.max_steps=4", "--trainer.val_check_interval=2", "--run.preview_seconds=0",
    "--trainer.enable_model_summary=false", "--trainer.num_sanity_val_steps=0",
]  # fmt: skip
LR = {"optim.lr": "1e-4..1e-2:log"}


def recipe(*more):
    return Recipe.read("text/ar-tiny", [*SHORT, *more])


class FakeRun:
    """In the place of `train`: a run whose value follows from its recipe, and which makes a folder and validates."""

    def __init__(self, value=lambda recipe: recipe.optim["lr"], watched=None):
        self.value, self.watched = value, watched or (lambda recipe, value: [value])
        self.recipes, self.resumed = [], []

    def __call__(self, recipe, *, resume=None, progress=True, callbacks=()):
        self.recipes.append(recipe)
        self.resumed.append(resume)
        made = len(list(Path(recipe.run_spec.dir).glob("trials/*"))) + 1
        folder = Path(resume) if resume else Path(recipe.run_spec.dir) / recipe.name / f"{made:04d}"
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        trainer = SimpleNamespace(default_root_dir=str(folder), global_step=0, sanity_checking=False, should_stop=False)
        for callback in callbacks:
            callback.on_train_start(trainer, None)
        value = self.value(recipe)
        for step, seen in enumerate(self.watched(recipe, value), 1):
            trainer.global_step, trainer.callback_metrics = step, {"val/loss": torch.tensor(seen)}
            for callback in callbacks:
                callback.on_validation_end(trainer, None)
            if trainer.should_stop:
                break
        for callback in callbacks:
            callback.on_train_end(trainer, None)
        return SimpleNamespace(folder=folder, metrics={"val/loss": value, "train/loss": 1.0})


@pytest.fixture
def fake(monkeypatch):
    def put(**given):
        run = FakeRun(**given)
        monkeypatch.setattr(search, "train", run)
        return run

    return put


# ---- ranges ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("1e-4..1e-2:log", Range(1e-4, 1e-2, log=True)),
        ("0..0.5:step=0.1", Range(0.0, 0.5, step=0.1)),
        ("-1.5..2", Range(-1.5, 2.0)),
        (".5..1.", Range(0.5, 1.0)),
        ("cosine|linear", Choices(("cosine", "linear"))),
        ("1 | 2.5 | null", Choices((1, 2.5, None))),
        ("[0.9, 0.98]|[0.9, 0.95]", Choices(([0.9, 0.98], [0.9, 0.95]))),
        (["cosine", "linear"], Choices(("cosine", "linear"))),
        ({"low": 1, "high": 8}, Range(1, 8)),
        ({"low": 1e-4, "high": 1.0, "log": True}, Range(1e-4, 1.0, log=True)),
    ],
)
def test_a_range_is_read_as_it_is_written(given, read):
    assert read_range("optim.lr", given) == read


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("1e-2..1e-4", "range"),
        ("3..3", "range"),
        ("0..1:log", "range"),
        ("-1..1:log", "range"),
        ("1..2:step=0", "range"),
        ("1..2:step=5", "range"),
        ("1..2:log:step=1", "conflict"),
        ("1..2:lgo", "unknown"),
        ("1..", "format"),
        ("1..2..3", "format"),
        ("1e-4", "format"),
        ("a||b", "empty"),
        ("a|a", "empty"),
        (["a"], "empty"),
        ([], "empty"),
        ({"low": 1}, "unknown"),
        ({"low": 1, "high": 2, "steps": 3}, "unknown"),
        ({"low": "1", "high": 2}, "type"),
        ({"low": 1, "high": float("inf")}, "range"),
    ],
)
def test_a_wrong_range_is_refused_with_its_key(given, code):
    with refused(RecipeError, code, "optim.lr", names="optim.lr"):
        read_range("optim.lr", given)


def test_ranges_are_told_from_other_values_on_the_command_line():
    ranges, others = split_ranges(
        [
            "--optim.lr=1e-4..1e-2:log",
            "--data.root=../corpus",
            "--a",
            "..",
            "--optim.schedule",
            "cosine|linear",
            "--x=1",
        ]
    )
    assert ranges == {"optim.lr": Range(1e-4, 1e-2, log=True), "optim.schedule": Choices(("cosine", "linear"))}
    assert others == ["--data.root=../corpus", "--a=..", "--x=1"]
    with refused(RecipeError, "range", "optim.lr"):
        split_ranges(["--optim.lr=1e-2..1e-4"])


def test_ranges_are_read_from_a_file(tmp_path):
    path = tmp_path / "ranges.yaml"
    path.write_text("optim.lr: 1e-4..1e-2:log\nmodel.network.num_layers: [1, 2]\n")
    assert read_ranges(path) == {"optim.lr": Range(1e-4, 1e-2, log=True), "model.network.num_layers": Choices((1, 2))}
    for text, code in (("", "empty"), ("- 1\n", "type"), ("{}\n", "empty")):
        path.write_text(text)
        with refused(RecipeError, code, "ranges.yaml"):
            read_ranges(path)
    with pytest.raises(RecipeError, match=r"none\.yaml"):
        read_ranges(tmp_path / "none.yaml")


# ---- what is refused before any training -------------------------------------------------------


@pytest.mark.parametrize(
    ("ranges", "code", "path"),
    [
        ({}, "empty", "ranges"),
        ({"optim.rl": "1e-4..1e-2"}, "unknown", "optim.rl"),
        ({"lr": "1e-4..1e-2"}, "unknown", "lr"),
        ({"optim.lr": "0..1"}, "range", "optim.lr"),  # its lower end is refused by the recipe
        ({"optim.schedule": "cosine|cosin"}, "unknown", "optim.schedule"),
        ({"model.network.num_layers": "1..2.5"}, "type", "model.network.num_layers"),
        ({"model.network.num_layers": "one|two"}, "type", "model.network.num_layers"),
        ({"run.dir": "a|b"}, "unsupported", "run.dir"),
    ],
)
def test_wrong_ranges_are_refused_before_any_training(ranges, code, path, fake, tmp_path):
    run = fake()
    with refused(RecipeError, code, path):
        tune(recipe(), ranges, folder=tmp_path / "study")
    assert not run.recipes and not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("given", "path"), [({"trials": 0}, "trials"), ({"mode": "low"}, "mode"), ({"sampler": "x"}, "sampler")]
)
def test_wrong_arguments_are_refused(given, path, fake, tmp_path):
    run = fake()
    with pytest.raises(RecipeError) as caught:
        tune(recipe(), LR, folder=tmp_path / "study", **given)
    assert caught.value.path == path and not run.recipes


def test_a_value_that_nothing_logs_is_refused_after_a_rehearsal_of_one_step(fake, tmp_path):
    run = fake()
    with refused(RecipeError, "unknown", "monitor", value="val/los", names="val/loss"):
        tune(recipe(), LR, monitor="val/los", folder=tmp_path / "study")
    (rehearsed,) = run.recipes
    assert rehearsed.trainer["max_steps"] == 1 and not (tmp_path / "study").exists()


def test_many_devices_are_refused(fake, tmp_path, monkeypatch):
    run = fake()
    with refused(RecipeError, "unsupported", "trainer.devices", value=2):
        tune(recipe("--trainer.devices=2"), LR, folder=tmp_path / "study")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with refused(RecipeError, "unsupported", "trainer.devices", names="4"):
        tune(recipe(), LR, folder=tmp_path / "study")
    assert not run.recipes


def test_a_missing_package_is_named(monkeypatch):
    def missing(package, extra):
        raise MissingExtra(package, extra)

    monkeypatch.setattr(search, "optional", missing)
    with refused(MissingExtra, "dependency", "optuna", names="unisono[tune]"):
        tune(recipe(), LR)


def test_a_folder_of_something_else_is_refused(fake, tmp_path):
    run = fake()
    (tmp_path / "notes.txt").write_text("mine")
    with refused(CheckpointError, "exists", tmp_path.name):
        tune(recipe(), LR, folder=tmp_path)
    assert not run.recipes


# ---- the search --------------------------------------------------------------------------------


def test_the_best_of_all_trials_is_found_and_written(fake, tmp_path):
    run = fake()
    ranges = {**LR, "optim.betas": [[0.9, 0.98], [0.9, 0.95]], "model.network.num_layers": "1..3"}
    study = tune(recipe(), ranges, trials=6, folder=tmp_path / "study")
    trials = run.recipes[1:]  # the first is the rehearsal
    assert len(trials) == len(study.trials) == 6
    rates = [each.optim["lr"] for each in trials]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates) and len(set(rates)) == 6
    assert {type(each.model["network"]["num_layers"]) for each in trials} == {int}
    assert {tuple(each.optim["betas"]) for each in trials} <= {(0.9, 0.98), (0.9, 0.95)}
    assert study.best.value == min(rates)
    best = Recipe.read(tmp_path / "study/best.yaml")
    assert best.optim["lr"] == min(rates) and best.run["dir"] == "runs" and best.trainer["devices"] == "auto"
    assert {key: value for key, value in best.trainer.items()} == recipe().trainer
    rows = list(csv.DictReader((tmp_path / "study/trials.csv").read_text().splitlines()))
    assert [float(row["optim.lr"]) for row in rows] == rates
    assert [float(row["val/loss"]) for row in rows] == pytest.approx(rates, rel=1e-6)  # a pruned one's is a float32
    told = json.loads((tmp_path / "study/trials.json").read_text())
    assert told["best"] == study.best.number and len(told["trials"]) == 6
    assert (tmp_path / "study/study.png").stat().st_size > 10_000
    assert [Path(trial.run).name for trial in study.trials] == [f"{n:04d}" for n in range(1, 7)]
    table = study.table()
    assert table.row_count == 6 and "optim.lr" in [column.header for column in table.columns]


def test_the_highest_is_best_where_it_should_be_high(fake, tmp_path):
    run = fake()
    study = tune(recipe(), LR, trials=4, mode="max", folder=tmp_path / "study")
    assert study.best.value == max(each.optim["lr"] for each in run.recipes[1:])


def test_a_search_goes_on_as_it_would_have(fake, tmp_path):
    whole = fake()
    tune(recipe(), LR, trials=14, folder=tmp_path / "whole")
    parts = fake()
    for trials in (3, 3, 12, 14):
        tune(recipe(), LR, trials=trials, folder=tmp_path / "parts")
    assert [r.optim["lr"] for r in parts.recipes] == [r.optim["lr"] for r in whole.recipes]  # one rehearsal each
    assert len(parts.recipes) == 15


def test_failed_trials_are_listed_and_the_others_go_on(fake, tmp_path, capsys):
    def value(recipe):
        if recipe.optim["lr"] > 1e-3:
            raise RuntimeError("out of memory\nhere")
        return float("nan") if recipe.optim["lr"] < 2e-4 else recipe.optim["lr"]

    fake(value=lambda recipe: 1.0)
    tune(recipe(), LR, trials=1, folder=tmp_path / "study")
    run = fake(value=value)
    study = tune(recipe(), LR, trials=14, folder=tmp_path / "study")
    states = {trial.state for trial in study.trials}
    assert states == {"finished", "failed"} and len(study.trials) == 14 and len(run.recipes) == 13
    reasons = {trial.reason for trial in study.trials if trial.state == "failed"}
    assert reasons == {"RuntimeError: out of memory here", "its val/loss is nan"}
    assert "out of memory" in capsys.readouterr().err


def test_a_study_of_nothing_but_failures_is_a_failure(fake, tmp_path):
    run = fake(value=lambda recipe: 1.0 if recipe.trainer["max_steps"] == 1 else 1 / 0)
    with refused(UnisonoError, "failed", "study", names=["3 trials", "ZeroDivisionError"]):
        tune(recipe(), LR, trials=3, folder=tmp_path / "study")
    assert len(run.recipes) == 4 and "ZeroDivisionError" in (tmp_path / "study/trials.csv").read_text()


def test_trials_that_are_worse_than_half_of_the_others_end_early(fake, tmp_path):
    def watched(recipe, value):
        return [value] * 5

    fake(watched=watched)
    study = tune(recipe(), LR, trials=14, folder=tmp_path / "study")
    pruned = [trial for trial in study.trials if trial.state == "pruned"]
    finished = [trial for trial in study.trials if trial.state == "finished"]
    assert pruned and all(trial.steps == 1 for trial in pruned) and all(trial.steps == 5 for trial in finished)
    assert study.best.value == min(trial.value for trial in study.trials)
    fake(watched=watched)
    study = tune(recipe(), LR, trials=14, prune="none", folder=tmp_path / "unpruned")
    assert {trial.state for trial in study.trials} == {"finished"}


def test_a_trial_that_was_stopped_goes_on_in_its_own_run(fake, tmp_path):
    def value(recipe):
        if recipe.trainer["max_steps"] > 1:
            (folder,) = (tmp_path / "study/trials").glob("*")
            (folder / "checkpoints/last.ckpt").write_bytes(b"state")
            raise Stopped(15, None)
        return 1.0

    stopped = fake(value=value)
    with pytest.raises(Stopped):
        tune(recipe(), LR, trials=2, folder=tmp_path / "study")
    run = fake()
    study = tune(recipe(), LR, trials=2, folder=tmp_path / "study")
    assert [trial.state for trial in study.trials] == ["moved", "finished", "finished"]
    assert run.recipes[0].optim["lr"] == stopped.recipes[1].optim["lr"]
    assert run.resumed == [str(tmp_path / "study/trials/0001"), None]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (dict(monitor="train/loss"), "monitor"),
        (dict(mode="max"), "mode"),
        (dict(ranges={"optim.lr": "1e-4..1e-3:log"}), "ranges.optim.lr"),
        (dict(ranges={**LR, "optim.eps": "1e-9..1e-8"}), "ranges.optim.eps"),
        (dict(recipe=lambda: recipe("--optim.warmup_steps=7")), "recipe.optim.warmup_steps"),
    ],
)
def test_a_study_that_was_begun_with_others_is_refused(change, path, fake, tmp_path):
    fake()
    tune(recipe(), LR, trials=1, folder=tmp_path / "study")
    run = fake()
    made = change.pop("recipe", recipe)()
    with refused(RecipeError, "conflict", path):
        tune(made, change.pop("ranges", LR), trials=2, folder=tmp_path / "study", **change)
    assert not run.recipes


@pytest.mark.parametrize("name", ["study.json", "study.log"])
def test_a_damaged_study_is_refused(name, fake, tmp_path):
    fake()
    tune(recipe(), LR, trials=1, folder=tmp_path / "study")
    text = (tmp_path / "study" / name).read_text()
    (tmp_path / "study" / name).write_text("{]\n" + text[:10])
    with refused(CheckpointError, "damaged", name):
        tune(recipe(), LR, trials=2, folder=tmp_path / "study")


def work(folder):
    search.train = FakeRun()
    tune(recipe(), LR, trials=8, folder=folder, progress=False)


def test_two_processes_share_a_study(tmp_path):
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=work, args=(tmp_path / "study",)) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert [each.exitcode for each in both] == [0, 0]
    told = json.loads((tmp_path / "study/trials.json").read_text())["trials"]
    assert len(told) == 8 and len({trial["values"]["optim.lr"] for trial in told}) == 8


def test_the_verb_searches_real_runs_and_its_best_recipe_trains(tmp_path, capsys):
    given = [*SHORT, "--optim.lr=1e-3..1e-2:log", "--trials=2", f"--study={tmp_path}/study", "--no-progress"]
    assert main(["tune", "text/ar-tiny", *given]) == 0
    said = capsys.readouterr()
    assert "best" in said.out and "best.yaml" in said.out
    told = json.loads((tmp_path / "study/trials.json").read_text())["trials"]
    assert [trial["state"] for trial in told] == ["finished"] * 2 and [trial["steps"] for trial in told] == [4, 4]
    own = Recipe.read(tmp_path / "study/trials/0001/recipe.yaml")
    assert own.optim["lr"] == told[0]["values"]["optim.lr"]
    assert main(["train", str(tmp_path / "study/best.yaml"), "--dry-run", f"--run.dir={tmp_path}"]) == 0
    assert main(["tune", "text/ar-tiny", *SHORT, "--optim.lr=1e-2..1e-3"]) == 2
    assert "optim.lr" in capsys.readouterr().err
