"""One training run: recipe in, run folder out.

::

    runs/<recipe>/<number>/
        recipe.yaml            the resolved recipe
        audit.json             what was kept and dropped, with reasons
        checkpoints/           last.ckpt and the newest steps, for --resume and unisono export
        previews/              what the model made at each validation
        events.out.tfevents…   TensorBoard
"""

import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unisono.errors import CheckpointError, RecipeError
from unisono.recipe import Recipe

_RUN_DIR = "UNISONO_RUN_DIR"


@dataclass(frozen=True)
class RunResult:
    """What a run leaves: its folder, the trained model, Lightning's metrics and the data audit."""

    folder: Path
    model: Any
    metrics: dict[str, float]
    audit: Any


def train(
    recipe: Recipe, *, resume: str | Path | None = None, dry_run: bool = False, progress: bool = True
) -> RunResult | None:
    """Run a recipe; ``resume`` is ``"last"`` (newest run of this recipe) or a run folder or ``.ckpt``.

    ``dry_run`` prepares the data, builds the model and prints both, and trains nothing.
    """
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
    from lightning.pytorch.loggers import TensorBoardLogger

    from unisono.checkpoint import load_component
    from unisono.train.ema import WeightEMA
    from unisono.train.preview import Previews
    from unisono.train.progress import Throughput, progress_bar
    from unisono.train.steps import SamePlugins, StepSeed

    spec = recipe.run_spec
    state = _resume_state(recipe, resume) if resume is not None else None
    data = recipe.build_data()
    audit = data.prepare(progress=progress)
    model = recipe.build_model(data.describe())
    for role, where in recipe.components.items():
        model.attach(role, load_component(type(model), role, where, model.facts))
    if dry_run:
        _describe(recipe, audit, model)
        return None

    folder = _run_folder(recipe, state)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    (folder / "audit.json").write_text(json.dumps(audit.to_dict(), indent=1, ensure_ascii=False), encoding="utf-8")

    arguments = {key: value for key, value in recipe.trainer.items() if value is not None}
    if arguments.pop("callbacks", None) or arguments.pop("logger", None) not in (None, True):
        raise RecipeError("trainer.callbacks and trainer.logger are the run's own: use the Python API to add more")
    callbacks: list[Any] = [
        StepSeed(recipe.seed),
        SamePlugins(),
        Throughput(),
        LearningRateMonitor("step"),
        ModelCheckpoint(
            folder / "checkpoints",
            filename="{step:07d}",
            every_n_train_steps=spec.checkpoint_every,
            save_top_k=1,
            monitor="step",
            mode="max",
            save_last=True,
            auto_insert_metric_name=False,
        ),
    ]
    if spec.preview_seconds > 0:
        callbacks.append(Previews(folder / "previews", spec.preview_seconds))
    if spec.ema_decay > 0:
        callbacks.append(WeightEMA(spec.ema_decay))
    if arguments.get("enable_progress_bar", True) and progress:
        callbacks.append(progress_bar())
    else:
        arguments["enable_progress_bar"] = False
    if isinstance(arguments.get("val_check_interval"), int):
        arguments["check_val_every_n_epoch"] = None  # the interval counts steps of the run, not of an epoch
    arguments["use_distributed_sampler"] = False  # the data module shards the global batch itself
    trainer = Trainer(
        **arguments,
        logger=TensorBoardLogger(str(folder), name=None, version="", default_hp_metric=False),
        callbacks=callbacks,
        default_root_dir=str(folder),
    )
    with warnings.catch_warnings():
        for known in _KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", message=known)
        trainer.fit(model, datamodule=data, ckpt_path=str(state) if state else None, weights_only=True)
    os.environ.pop(_RUN_DIR, None)
    metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
    return RunResult(folder, model.eval(), metrics, audit)


_KNOWN_WARNINGS = (
    r".*does not have many workers.*",  # small corpora are held in memory; workers would copy them
    r".*You're using the WeightAveraging callback with a model that overrides.*",
    r".*Checkpoint directory .* exists and is not empty.*",  # resuming
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
    r".*Using ModelCheckpoint with manual optimization.*",  # a batch counts as one step there too
    r".*The number of training batches .* is smaller than the logging interval.*",
)


def _run_folder(recipe: Recipe, state: Path | None) -> Path:
    """Return the folder of this run; all ranks of one run share it through the environment."""
    if _RUN_DIR in os.environ:
        return Path(os.environ[_RUN_DIR])
    if state is not None and state.parent.name == "checkpoints":
        folder = state.parent.parent
    else:
        parent = Path(recipe.run_spec.dir) / recipe.name
        numbers = [int(p.name) for p in parent.glob("*") if p.name.isdigit()]
        folder = parent / f"{max(numbers, default=0) + 1:04d}"
    os.environ[_RUN_DIR] = str(folder.absolute())
    return folder


def _resume_state(recipe: Recipe, resume: str | Path) -> Path:
    from unisono.checkpoint import find_training_state, read_training_state

    if str(resume) == "last":
        parent = Path(recipe.run_spec.dir) / recipe.name
        runs = sorted(p for p in parent.glob("*") if p.name.isdigit() and list(p.glob("checkpoints/*.ckpt")))
        if not runs:
            raise CheckpointError(f"nothing to resume: no run with a checkpoint under {str(parent)!r}")
        resume = runs[-1]
    path = find_training_state(resume)
    read_training_state(path)
    return path


def _describe(recipe: Recipe, audit: Any, model: Any) -> None:
    from rich.console import Console

    console = Console()
    console.print(recipe.to_yaml(), highlight=False, markup=False)
    console.print(audit.table())
    total = sum(p.numel() for p in model.parameters())
    console.print(f"{recipe.model['name']}: {total / 1e6:.2f} M parameters; dry run, nothing was trained")
