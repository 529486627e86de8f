"""Loggers: by name, class path and as objects; what each is told, and what is refused."""

import csv
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger, Logger, rank_zero_experiment
from refused import refused
from unisono import Audio, Text
from unisono.errors import MissingExtra, RecipeError
from unisono.export import portable
from unisono.recipe import Recipe
from unisono.switches import check_loggers
from unisono.train import train
from unisono.train.callbacks.preview import Previews
from unisono.train.curves import read_curves
from unisono.train.loggers import LogRecipe, boards, make_loggers


def recipe(folder, *overrides):
    own = ("--run.preview_seconds=0", "--trainer.max_steps=3", "--trainer.log_every_n_steps=1")
    return Recipe.read("codec/vocos-tiny", [f"--run.dir={folder}", *own, *overrides])


class Own(Logger):
    """A logger of a user's own, which keeps what it is told; it knows no pictures."""

    def __init__(self, label: str = "own"):
        super().__init__()
        self.label, self.told, self.recipe, self.ends = label, [], None, []

    name = "own"
    version = "1"

    @property
    @rank_zero_experiment
    def experiment(self):
        return SimpleNamespace(label=self.label)

    def log_metrics(self, metrics, step=None):
        self.told.append((step, metrics))

    def log_hyperparams(self, params):
        self.recipe = params

    def finalize(self, status):
        self.ends.append(status)


@pytest.fixture
def own(monkeypatch):
    """The module in which a recipe finds ``Own``."""
    module = ModuleType("a_package_of_loggers")
    module.Own, module.NotOne = Own, dict
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module.__name__


# ---- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        ("tensorboard", [TensorBoardLogger]),
        (["csv", "tensorboard"], [CSVLogger, TensorBoardLogger]),
        ("none", []),
        ([], []),
        ({"class_path": "csv", "init_args": {"prefix": "a"}}, [CSVLogger]),
        ([DummyLogger(), "csv"], [DummyLogger, CSVLogger]),
    ],
)
def test_loggers_are_made_in_their_order(tmp_path, given, kinds):
    assert [type(logger) for logger in make_loggers(given, tmp_path, recipe(tmp_path))] == kinds
    assert not list(tmp_path.iterdir())  # nothing is written before the first value


def test_a_class_path_names_any_logger(tmp_path, own):
    given = {"class_path": f"{own}.Own", "init_args": {"label": "mine"}}
    mine = recipe(tmp_path, f"--run.logger={given}")
    (made,) = make_loggers(mine.run_spec.logger, tmp_path, mine)
    assert isinstance(made, Own) and made.label == "mine"


@pytest.mark.parametrize(
    ("given", "code", "name"),
    [
        ("tensorbord", "unknown", "did you mean 'tensorboard'?"),
        ("lightning.pytorch.loggers.CSVLogger", "unknown", "class_path"),
        (["csv", "csv"], "conflict", "csv twice"),
        (["none", "csv"], "conflict", "none"),
        ([3], "type", "3"),
        ({"name": "csv"}, "type", "class_path"),
        ({"class_path": "csv", "init_args": [1]}, "type", "init_args"),
    ],
)
def test_what_is_no_logger_is_refused_when_the_recipe_is_read(tmp_path, given, code, name):
    with refused(RecipeError, code, "run.logger", names=name):
        check_loggers(given)
    with pytest.raises(RecipeError) as caught:
        Recipe.from_dict({**recipe(tmp_path).to_dict(), "run": {"logger": given}})
    assert (caught.value.code, caught.value.path) == (code, "run.logger")


@pytest.mark.parametrize(
    ("given", "code", "path"),
    [
        ({"class_path": "no_such_package.Logger"}, "missing", "run.logger"),
        ({"class_path": "{own}.Other"}, "missing", "run.logger"),
        ({"class_path": "{own}.NotOne"}, "type", "run.logger"),
        ({"class_path": "csv", "init_args": {"folder": "x"}}, "unknown", "run.logger.folder"),
        ({"class_path": "tensorboard", "init_args": {"sub_dir": 3}}, "value", "run.logger"),
    ],
)
def test_what_cannot_be_made_is_refused_before_the_data(tmp_path, own, given, code, path):
    given = {**given, "class_path": given["class_path"].replace("{own}", own)}
    mine = recipe(tmp_path, f"--run.logger={given}")
    with refused(RecipeError, code, path):
        train(mine, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_package_that_is_missing_is_told_before_the_data(tmp_path, name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with refused(MissingExtra, "dependency", name, names=f'pip install "unisono[{name}]"'):
        train(recipe(tmp_path, f"--run.logger=[csv, {name}]"), progress=False)
    assert not list(tmp_path.iterdir())


# ---- runs --------------------------------------------------------------------------------------


def test_several_loggers_are_told_the_same(tmp_path, own):
    mine = Own()
    result = train(recipe(tmp_path), progress=False, loggers=["csv", mine, "tensorboard"])
    told = {step: metrics["train/loss"] for step, metrics in mine.told if "train/loss" in metrics}
    (file,) = result.folder.glob("csv/version_0/metrics.csv")
    with file.open() as lines:
        rows = {int(row["step"]): float(row["train/loss"]) for row in csv.DictReader(lines) if row["train/loss"]}
    drawn = read_curves(result.folder)["train/loss"]
    assert told == pytest.approx(rows)
    assert dict(zip(drawn.steps, drawn.values, strict=True)) == pytest.approx(rows)
    assert sorted(rows) == [0, 1, 2]
    assert mine.recipe["model"]["name"] == "codec/vocos" and mine.ends == ["success"]
    assert {"data_wait", "tflops"} <= {name for _, metrics in mine.told for name in metrics}


def test_curves_are_read_from_a_table_too(tmp_path):
    """Also those of a run that went on: nothing of the first start is lost."""
    mine = recipe(tmp_path, "--run.logger=csv")
    train(recipe(tmp_path, "--run.logger=csv", "--trainer.max_steps=2"), progress=False)
    result = train(mine, progress=False, resume="last")
    assert not list(result.folder.glob("events*"))
    assert sorted(path.parent.name for path in result.folder.glob("csv/*/metrics.csv")) == ["version_0", "version_1"]
    assert read_curves(result.folder)["train/loss"].steps == [0, 1, 2]


def test_without_a_logger_a_run_ends_well(tmp_path):
    result = train(recipe(tmp_path, "--run.logger=none"), progress=False)
    assert result.metrics["train/loss"] > 0
    assert {path.name for path in result.folder.iterdir()} <= {"recipe.yaml", "audit.json", "checkpoints", ".lock"}


def test_an_export_does_not_say_where_a_run_was_logged():
    given = {"class_path": "mlflow", "init_args": {"tracking_uri": "https://user:secret@host"}}
    kept = portable({"model": {}, "run": {"logger": [given]}})
    assert kept["run"]["logger"] == "tensorboard" and "secret" not in str(kept)


# ---- services, by stand-ins --------------------------------------------------------------------


@pytest.fixture
def services(monkeypatch):
    """Stand-ins of wandb and mlflow, as far as Lightning and the boards use them; returns what they were told."""
    told = []

    class Run:
        id, name = "a-run", "a name"
        summary = SimpleNamespace(update=lambda values: None)

        def __init__(self, **arguments):
            self.arguments = arguments
            self.config = SimpleNamespace(update=lambda values, **kwargs: told.append(("config", values)))

        def log(self, values, **kwargs):
            told.append(("log", {**values, **kwargs}))

        def define_metric(self, *args, **kwargs):
            pass

    wandb = ModuleType("wandb")
    runs = []
    wandb.run = None
    wandb.init = lambda **arguments: runs.append(Run(**arguments)) or runs[-1]
    wandb.Image = lambda picture, **kwargs: ("image", picture)
    wandb.Audio = lambda sound, **kwargs: ("audio", sound, kwargs)
    wandb.Table = lambda columns, data, dataframe=None: ("table", columns, data)
    lib, run = ModuleType("wandb.sdk.lib"), ModuleType("wandb.wandb_run")
    lib.RunDisabled, run.Run = type("RunDisabled", (), {}), Run
    for name, module in {
        "wandb": wandb,
        "wandb.sdk": ModuleType("wandb.sdk"),
        lib.__name__: lib,
        run.__name__: run,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", True)

    class Client:
        def __init__(self, uri):
            told.append(("uri", uri))

        def get_experiment_by_name(self, name):
            return None

        def create_experiment(self, name, artifact_location):
            told.append(("experiment", name))
            return "7"

        def create_run(self, experiment_id, tags):
            told.append(("tags", tags))
            return SimpleNamespace(info=SimpleNamespace(run_id="42"))

        def log_batch(self, run_id, metrics=(), params=(), **kwargs):
            told.append(("batch", list(metrics), list(params)))

        def log_figure(self, run_id, figure, file):
            told.append(("figure", run_id, file))

        def log_text(self, run_id, text, file):
            told.append(("text", text, file))

        def log_artifact(self, run_id, path, folder):
            told.append(("artifact", Path(path).name, folder, Path(path).read_bytes()[:4]))

        def set_terminated(self, run_id, status):
            told.append(("end", status))

        def get_run(self, run_id):
            return SimpleNamespace(info=SimpleNamespace(status="RUNNING"))

    mlflow = ModuleType("mlflow")
    mlflow.set_tracking_uri = lambda uri: None
    mlflow.tracking = ModuleType("mlflow.tracking")
    mlflow.entities = ModuleType("mlflow.entities")
    mlflow.tracking.MlflowClient = Client
    mlflow.entities.Metric = lambda **given: given
    mlflow.entities.Param = lambda **given: given
    tags = ModuleType("mlflow.utils.mlflow_tags")
    tags.MLFLOW_RUN_NAME = "mlflow.runName"
    utils = ModuleType("mlflow.utils")
    for module in (mlflow, mlflow.tracking, mlflow.entities, utils, tags):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("lightning.pytorch.loggers.mlflow._MLFLOW_AVAILABLE", True)
    monkeypatch.setattr("lightning.pytorch.loggers.mlflow._MLFLOW_SYNCHRONOUS_AVAILABLE", False)
    monkeypatch.setattr("lightning.pytorch.loggers.mlflow._get_resolve_tags", lambda: lambda tags: tags, raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return SimpleNamespace(told=told, runs=runs)


class Sounding(Text):
    """A text that can be heard."""

    def sound(self):
        return Audio(np.linspace(-1, 1, 80, dtype=np.float32)[None], 8000)


def preview(folder, loggers):
    trainer = SimpleNamespace(global_step=3, loggers=loggers, is_global_zero=True)
    Previews(folder, 1.0)._keep(trainer, 0, Sounding("abc", (1,), ("abc",), (0,)))


def test_wandb_is_told_values_recipe_pictures_and_sounds(tmp_path, services):
    folder = tmp_path / "0001"
    folder.mkdir()
    mine = recipe(tmp_path, "--run.logger=wandb")
    (logger,) = make_loggers(mine.run_spec.logger, folder, mine)
    assert isinstance(logger, WandbLogger) and not services.runs  # begun with the first value
    logger.log_metrics({"train/loss": 1.5}, step=2)
    LogRecipe(mine).on_train_start(SimpleNamespace(loggers=[logger]), None)
    preview(tmp_path, [logger])
    (run,) = services.runs
    assert run.arguments["project"] == "unisono" and run.arguments["name"] == "codec-vocos-tiny/0001"
    logged = [values for kind, values in services.told if kind == "log"]
    assert {"train/loss": 1.5, "trainer/global_step": 2} in logged
    shown = {key: value for values in logged for key, value in values.items() if key.startswith("preview/")}
    assert set(shown) == {"preview/0", "preview/0/sound", "preview/0/text"}
    assert all(values["trainer/global_step"] == 3 for values in logged if any(k.startswith("preview/") for k in values))
    (kind, waveform, facts) = shown["preview/0/sound"][0]
    assert kind == "audio" and waveform.shape == (80,) and facts["sample_rate"] == 8000
    again = make_loggers("wandb", folder, mine)[0]  # a resumed run has the number that it had
    other = make_loggers("wandb", tmp_path, mine)[0]
    assert again._id == logger._id != other._id


def test_mlflow_is_told_values_recipe_pictures_and_sounds(tmp_path, services):
    mine = recipe(tmp_path, "--run.logger=mlflow")
    (logger,) = make_loggers(mine.run_spec.logger, tmp_path / "0001", mine)
    assert isinstance(logger, MLFlowLogger)
    logger.log_metrics({"train/loss": 1.5}, step=2)
    LogRecipe(mine).on_train_start(SimpleNamespace(loggers=[logger]), None)
    preview(tmp_path, [logger])
    kinds = {told[0]: told[1:] for told in services.told}
    assert kinds["experiment"] == ("codec-vocos-tiny",)
    assert kinds["uri"] == (f"file:{tmp_path}/mlruns",)
    batches = [told for told in services.told if told[0] == "batch"]
    assert any(metric["key"] == "train/loss" and metric["step"] == 2 for _, metrics, _ in batches for metric in metrics)
    assert any(param["key"] == "model/name" for _, _, params in batches for param in params)
    assert kinds["figure"] == ("42", "preview/0/0000003.png")
    assert kinds["text"] == ("    abc", "preview/0/0000003.txt")
    assert kinds["artifact"] == ("0000003.wav", "preview/0", b"RIFF")


def test_a_logger_that_takes_no_pictures_is_passed_over(tmp_path, services):
    mine = recipe(tmp_path)
    loggers = [Own(), *make_loggers(["csv", "wandb", "tensorboard"], tmp_path, mine)]
    assert [type(board).__name__ for board in boards(loggers)] == ["WandbBoard", "SummaryWriter"]
    (board,) = boards(loggers[2:3])
    board.add_mesh("a kind of preview", 1, 2)  # which this board does not know
    with pytest.raises(AttributeError):
        _ = board.flush_everything
    preview(tmp_path, loggers)


# ---- which steps -------------------------------------------------------------------------------


class Losses(Callback):
    """Keep each step's loss and what callbacks can read of it; stop the run after one of the steps."""

    def __init__(self, stop: int | None = None, monitor: str | None = None):
        self.stop, self.losses, self.read = stop, {}, {}
        if monitor:
            self.monitor = monitor

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        step = trainer.global_step
        self.losses[step] = float(pl_module.step_losses["loss"])
        self.read[step] = float(trainer.callback_metrics.get("train/loss", float("nan")))
        trainer.should_stop |= step == self.stop


def text_run(folder, losses, *overrides):
    own = Own()
    quiet = ("--run.preview_seconds=0", "--trainer.log_every_n_steps=4", "--trainer.max_steps=14")
    recipe = Recipe.read("text/mdlm-tiny", [f"--run.dir={folder}", *quiet, *overrides])
    train(recipe, progress=False, callbacks=[losses], loggers=[own])
    return {step + 1: told["train/loss"] for step, told in own.told if "train/loss" in told}


def test_a_logged_loss_is_that_of_its_step(tmp_path):
    told = text_run(tmp_path, losses := Losses())
    assert set(told) == {4, 8, 12}
    assert told == {step: losses.losses[step] for step in told}
    assert len(set(losses.losses.values())) == 14  # another one at each step: none could stand for another


def test_the_step_that_ends_a_run_is_logged_as_it_was(tmp_path):
    told = text_run(tmp_path, losses := Losses(stop=6))
    assert told == {4: losses.losses[4], 6: losses.losses[6]}


def test_a_monitored_loss_is_there_at_each_step(tmp_path):
    text_run(tmp_path / "with", losses := Losses(monitor="train/loss"))
    assert losses.read == losses.losses
    text_run(tmp_path / "without", losses := Losses())
    assert losses.read != losses.losses
