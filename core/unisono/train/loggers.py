"""Loggers: by name, by class path or as objects, several at once; and what of a preview each can take.

``tensorboard``, ``csv``, ``wandb`` and ``mlflow`` are Lightning's loggers, with the run's folder and names filled in.
The packages of the last two are imported when one is asked for. Rank 0 alone logs.
"""

import hashlib
import inspect
import os
import tempfile
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from unisono.errors import RecipeError, UnisonoError, shown
from unisono.extras import optional
from unisono.recipe import Recipe
from unisono.switches import LOGGERS, check_loggers

CSV_FOLDER = "csv"


def make_loggers(given: Any, folder: Path, recipe: Recipe) -> list[Logger]:
    """Make the loggers of a run: ``given`` is ``run.logger``, or such a list with ``Logger`` objects in it.

    Nothing is written or sent before the first value. Raises ``MissingExtra`` for a package that is not installed, and
    ``RecipeError`` for a name, class or argument that does not exist.
    """
    items = list(given) if isinstance(given, list | tuple) else [given]
    made = {index: item for index, item in enumerate(items) if isinstance(item, Logger)}
    named = [index for index in range(len(items)) if index not in made]
    left = [items[index] for index in named]
    if left and left != ["none"]:
        made |= dict(zip(named, (_make(item, folder, recipe) for item in check_loggers(left)), strict=True))
    return [made[index] for index in sorted(made)]


def _make(item: str | dict[str, Any], folder: Path, recipe: Recipe) -> Logger:
    name, arguments = (item, {}) if isinstance(item, str) else (item["class_path"], dict(item.get("init_args") or {}))
    if name not in LOGGERS:
        kind, defaults = _class_of(name), {}
    else:
        kind, defaults = _named(name, folder, recipe)
    known = inspect.signature(kind).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    for key in arguments:
        if key not in known and not takes_any:
            raise RecipeError(
                f"run.logger: {kind.__name__} takes no {shown(key)}: it has {', '.join(known)}",
                path=f"run.logger.{key}",
                value=arguments[key],
                code="unknown",
            )
    try:
        return cast(Any, kind)(**{**defaults, **arguments})
    except UnisonoError:
        raise
    except Exception as error:  # whatever a stranger's constructor raises
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RecipeError(f"run.logger: {kind.__name__}: {reason:.300}", path="run.logger", code="value") from error


def _named(name: str, folder: Path, recipe: Recipe) -> tuple[type[Logger], dict[str, Any]]:
    """Return the class of a logger's name, and the arguments that the run gives it."""
    if name == "tensorboard":
        return TensorBoardLogger, {"save_dir": str(folder), "name": None, "version": "", "default_hp_metric": False}
    if name == "csv":  # each start of the run has a file of its own: Lightning deletes one that is there
        return CSVLogger, {"save_dir": str(folder), "name": CSV_FOLDER, "flush_logs_every_n_steps": 1}
    optional(name, extra=name)
    title = f"{recipe.name}/{folder.name}"
    if name == "wandb":
        project = os.environ.get("WANDB_PROJECT", "unisono")
        return WandbLogger, {"name": title, "project": project, "save_dir": str(folder), "id": _number(folder)}
    where = os.environ.get("MLFLOW_TRACKING_URI")
    return MLFlowLogger, {
        "experiment_name": recipe.name,
        "run_name": title,
        **({"tracking_uri": where} if where else {"save_dir": str(Path(recipe.run_spec.dir).absolute() / "mlruns")}),
        "tags": {"unisono.run": str(folder)},
    }


def _class_of(path: str) -> type[Logger]:
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise RecipeError(
            f"run.logger: {shown(path)} cannot be imported ({type(error).__name__}: {error!s:.200}): give "
            "package.module.Class, and install its package",
            path="run.logger",
            value=path,
            code="missing",
        ) from None
    if not (isinstance(found, type) and issubclass(found, Logger)):
        raise RecipeError(
            f"run.logger: {shown(path)} is no lightning.pytorch.loggers.Logger: derive it from that",
            path="run.logger",
            value=path,
            code="type",
        )
    return found


def _number(folder: Path) -> str:
    """A run's number at a service: the same when it is resumed in its folder, another for any other folder."""
    inode = folder.stat().st_ino if folder.exists() else 0
    return hashlib.blake2b(f"{folder.absolute()}\n{inode}".encode(), digest_size=8).hexdigest()


class LogRecipe(Callback):
    """Tell loggers the recipe, those that keep such values; TensorBoard has it in ``recipe.yaml`` beside its file."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for logger in trainer.loggers:
            if not isinstance(logger, TensorBoardLogger | CSVLogger):
                logger.log_hyperparams(self.recipe.to_dict())


# ---- pictures, sounds and texts ----------------------------------------------------------------


def boards(loggers: Sequence[Logger]) -> Iterator[Any]:
    """Yield what ``Media.log`` can write to, one for each logger that takes pictures; the others are passed over."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            yield WandbBoard(logger)
        elif isinstance(logger, MLFlowLogger):
            yield MLFlowBoard(logger)
        elif hasattr(experiment := getattr(logger, "experiment", None), "add_figure"):
            yield experiment


class Board:
    """The part of a TensorBoard ``SummaryWriter`` that ``Media.log`` uses; what a board cannot keep it leaves out."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("add_"):
            return lambda *args, **kwargs: None
        raise AttributeError(name)


class WandbBoard(Board):
    """Previews for Weights & Biases."""

    def __init__(self, logger: WandbLogger):
        self.logger = logger

    def add_figure(self, tag: str, figure: Any, step: int) -> None:
        self.logger.log_image(tag, [figure], step=step)

    def add_audio(self, tag: str, waveform: Any, step: int, sample_rate: int) -> None:
        """Add a waveform [1, t] in [-1, 1]."""
        self.logger.log_audio(f"{tag}/sound", [np.asarray(waveform).reshape(-1)], step=step, sample_rate=[sample_rate])

    def add_text(self, tag: str, text: str, step: int) -> None:
        self.logger.log_text(f"{tag}/text", columns=["text"], data=[[text]], step=step)


class MLFlowBoard(Board):
    """Previews for MLflow, as artifacts named by tag and step."""

    def __init__(self, logger: MLFlowLogger):
        self.client: Any = logger.experiment
        self.run_id = logger.run_id

    def add_figure(self, tag: str, figure: Any, step: int) -> None:
        self.client.log_figure(self.run_id, figure, f"{tag}/{step:07d}.png")

    def add_audio(self, tag: str, waveform: Any, step: int, sample_rate: int) -> None:
        """Add a waveform [1, t] in [-1, 1]."""
        from unisono.media import Audio

        with tempfile.TemporaryDirectory() as folder:
            path = Audio(np.asarray(waveform).reshape(1, -1), sample_rate).save(Path(folder) / f"{step:07d}.wav")
            self.client.log_artifact(self.run_id, str(path), tag)

    def add_text(self, tag: str, text: str, step: int) -> None:
        self.client.log_text(self.run_id, text, f"{tag}/{step:07d}.txt")
