"""One training run: recipe in, run folder out.

::

    runs/<recipe>/<number>/
        recipe.yaml            the resolved recipe
        init.json              with run.init_from: which weights were taken over, and which not
        audit.json             what was kept and dropped, with reasons
        checkpoints/           last.ckpt and the newest steps, for --resume and unisono export
        previews/              what the model made at each validation
        events.out.tfevents…   TensorBoard
"""

import json
import logging
import os
import platform
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import TensorBoardLogger

from unisono.assemble import attach_components
from unisono.data import to_plain
from unisono.errors import CheckpointError, RecipeError, UnisonoError, writing
from unisono.export import find_training_state, read_training_state
from unisono.recipe import Recipe
from unisono.train.callbacks.checkpoints import KeepState
from unisono.train.callbacks.ema import WeightEMA
from unisono.train.callbacks.preview import Previews
from unisono.train.callbacks.progress import StepProgressBar, Throughput
from unisono.train.callbacks.repeatable import SamePlugins, StepSeed
from unisono.train.warm_start import warm_start

RUN_DIR = "UNISONO_RUN_DIR"
"""The variable by which the processes of one run share its folder."""


@dataclass(frozen=True)
class RunResult:
    """What a run leaves: its folder, the trained model, Lightning's metrics and the data audit."""

    folder: Path
    model: Any
    metrics: dict[str, float]
    audit: Any


def train(
    recipe: Recipe,
    *,
    resume: str | Path | None = None,
    dry_run: bool = False,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> RunResult | None:
    """Run a recipe; ``resume`` is ``"last"`` (newest run of this recipe) or a run folder or ``.ckpt``.

    ``dry_run`` prepares the data, builds the model and prints both, and trains nothing. ``callbacks`` are
    Lightning's, beside the run's own.
    """
    state = _resume_state(recipe, resume) if resume is not None else None
    folder = _run_folder(recipe, state)
    try:
        return _train(recipe, folder, state, dry_run, progress, callbacks)
    finally:
        os.environ.pop(RUN_DIR, None)


def _train(
    recipe: Recipe, folder: Path, state: Path | None, dry_run: bool, progress: bool, callbacks: Sequence[Callback]
) -> RunResult | None:
    spec = recipe.run_spec
    trainer = _trainer(recipe, folder, progress, callbacks)  # first: its complaints should not wait for the data
    if trainer.strategy.root_device.type == "cpu" and (slow := slow_precision(str(trainer.precision))):
        rank_zero_only(print)(slow, file=sys.stderr)
    data = recipe.build_data()
    audit = data.prepare(progress=progress)
    facts = data.describe()
    to_plain(facts, "facts")  # what no export could hold is refused before the first step
    model = recipe.build_model(facts)
    attach_components(model, recipe.components)
    started = warm_start(model, spec.init_from) if spec.init_from is not None and state is None else None
    if started is not None:
        rank_zero_only(print)(started)
    data.trainer = trainer  # what would refuse the first batch does so now, in a dry run too
    if dry_run:
        data.train_dataloader()
        _describe(recipe, audit, model)
        return None

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _nothing_left(folder):
            data.train_dataloader()
        if started is not None:
            (folder / "init.json").write_text(json.dumps(started.to_dict(), indent=1), encoding="utf-8")
        (folder / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
        (folder / "audit.json").write_text(json.dumps(audit.to_dict(), indent=1, ensure_ascii=False), encoding="utf-8")
    with warnings.catch_warnings(), _misconfigured(recipe):
        for known in _KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", message=known)
        trainer.fit(model, datamodule=data, ckpt_path=str(state) if state else None, weights_only=True)
    metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
    return RunResult(folder, model.eval(), metrics, audit)


@contextmanager
def _nothing_left(folder: Path) -> Iterator[None]:
    """Remove the empty folder of a run that is refused."""
    try:
        yield
    except UnisonoError:
        with suppress(OSError):
            folder.rmdir()
            folder.parent.rmdir()
        raise


def _trainer(recipe: Recipe, folder: Path, progress: bool, callbacks: Sequence[Callback]) -> Trainer:
    """Make Lightning's Trainer with the run's own callbacks; nothing is written yet."""
    spec = recipe.run_spec
    arguments = {key: value for key, value in recipe.trainer.items() if value is not None}
    if arguments.pop("callbacks", None) or arguments.pop("logger", None) not in (None, True):
        raise RecipeError("trainer.callbacks and trainer.logger are the run's own: unisono.train.train takes callbacks")
    own: list[Callback] = [
        StepSeed(recipe.seed),
        SamePlugins(),
        Throughput(),
        LearningRateMonitor("step"),
        KeepState(folder / "checkpoints", spec.checkpoint_every),
    ]
    if spec.preview_seconds > 0:
        own.append(Previews(folder / "previews", spec.preview_seconds))
    if spec.ema_decay > 0:
        own.append(WeightEMA(spec.ema_decay))
    if arguments.get("enable_progress_bar", True) and progress:
        own.append(StepProgressBar())
    else:
        arguments["enable_progress_bar"] = False
    if isinstance(arguments.get("val_check_interval"), int):
        arguments["check_val_every_n_epoch"] = None  # the interval counts steps of the run, not of an epoch
    arguments["use_distributed_sampler"] = False  # the data module shards the global batch itself
    with _misconfigured(recipe, ValueError), _without_greeting():
        return Trainer(
            **arguments,
            logger=TensorBoardLogger(str(folder), name=None, version="", default_hp_metric=False),
            callbacks=[*own, *callbacks],
            default_root_dir=str(folder),
        )


def slow_precision(precision: str) -> str | None:
    """Say that this processor multiplies bfloat16 in software, if it does and ``precision`` asks for it; else None."""
    if "bf16" not in precision or platform.machine().lower() not in ("x86_64", "amd64"):
        return None
    if torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return None
    return (
        f"trainer.precision={precision}: this processor has no bfloat16 arithmetic, and takes tens of times as long as "
        "with float32; stop (Ctrl-C) and add --trainer.precision=32-true"
    )


@contextmanager
def _misconfigured(recipe: Recipe, *more: type[Exception]) -> Iterator[None]:
    """Hand on Lightning's complaints about the ``trainer:`` section as the user's to mend."""
    try:
        yield
    except (MisconfigurationException, *more) as error:
        raise RecipeError(f"{recipe.name}: trainer: {' '.join(str(error).split())}") from error


@contextmanager
def _without_greeting() -> Iterator[None]:
    """Hold back Lightning's list of absent devices, and its advice to use a service that needs an account."""
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


_KNOWN_WARNINGS = (
    r".*does not have many workers.*",  # small corpora are held in memory; workers would copy them
    r".*You're using the WeightAveraging callback with a model that overrides.*",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
    r".*The number of training batches .* is smaller than the logging interval.*",
)


def _run_folder(recipe: Recipe, state: Path | None) -> Path:
    """Return the folder of this run; all ranks of one run share it through the environment."""
    if RUN_DIR in os.environ:
        return Path(os.environ[RUN_DIR])
    if state is not None and state.parent.name == "checkpoints":
        folder = state.parent.parent
    else:
        parent = Path(recipe.run_spec.dir) / recipe.name
        numbers = [int(p.name) for p in parent.glob("*") if p.name.isdigit()]
        folder = parent / f"{max(numbers, default=0) + 1:04d}"
    os.environ[RUN_DIR] = str(folder.absolute())
    return folder


def _resume_state(recipe: Recipe, resume: str | Path) -> Path:
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
