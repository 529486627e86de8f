"""One training run: recipe in, run folder out.

::

    runs/<recipe>/<number>/
        recipe.yaml            the resolved recipe
        changes.json           with --resume and other values: which, and from which step on
        init.json              with run.init_from: which weights were taken over, and which not
        audit.json             what was kept and dropped, with reasons
        checkpoints/           the newest states, files or folders of shards, for --resume and unisono export
        best.json              with run.keep_best: which states were the best, checkpoints/best-<step>.ckpt
        early_stopping.json    with run.early_stopping: the values that it saw
        previews/              what the model made at each validation
        events.out.tfevents…   TensorBoard; csv/ and what else run.logger names
"""

import json
import logging
import os
import platform
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import Logger
from rich.console import Console

from unisono import plugin as plugins
from unisono.assemble import attach_components
from unisono.data import Audit, DataModule, to_plain
from unisono.errors import CheckpointError, RecipeError
from unisono.export import find_training_state, read_training_state
from unisono.export.training_state import has_training_state, run_of_state
from unisono.optim import groups_table
from unisono.recipe import Recipe
from unisono.train.callbacks.best import KeepBestStates, StopEarly
from unisono.train.callbacks.checkpoints import KeepState
from unisono.train.callbacks.ema import WeightEMA
from unisono.train.callbacks.flops import Flops
from unisono.train.callbacks.preview import Previews
from unisono.train.callbacks.progress import ProgressLines, StepProgressBar, Throughput
from unisono.train.callbacks.repeatable import SamePlugins, StepSeed
from unisono.train.callbacks.time_share import TimeShare
from unisono.train.claim import Claim, claim_again, claim_new, current_job, find_job, numbers_in
from unisono.train.finite import Finite
from unisono.train.loggers import LogRecipe, make_loggers
from unisono.train.ranks import RUN_DIR, RUN_STATE, Ranks, fitting_devices, join_ranks
from unisono.train.resume import GoOn, Origin, write_records
from unisono.train.signals import Signals, StopOnSignal, Stopped
from unisono.train.speed import slow_down, speed_up
from unisono.train.strategies.choose import make
from unisono.train.strategies.sharded import Sharded, check_fit
from unisono.train.warm_start import warm_start


@dataclass(frozen=True)
class RunResult:
    """What a run leaves: its folder, the trained model, Lightning's metrics and the data audit.

    ``skipped`` counts the steps that ``run.skip_nonfinite`` left out.
    """

    folder: Path
    model: Any
    metrics: dict[str, float]
    audit: Any
    skipped: int = 0


def train(
    recipe: Recipe,
    *,
    resume: str | Path | None = None,
    dry_run: bool = False,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    strategy: Any = None,
    profiler: Any = None,
    loggers: Sequence[Logger | str | dict[str, Any]] | None = None,
) -> RunResult | None:
    """Run a recipe; ``resume`` is ``"last"`` (newest run of this recipe) or a run folder or a state.

    ``dry_run`` prepares the data, builds the model and prints both, and trains nothing. ``callbacks`` are
    Lightning's, beside the run's own; ``loggers`` are Lightning's, or names as in ``run.logger``, which they replace;
    ``strategy`` and ``profiler`` are objects of Lightning in place of what the recipe names. ``progress`` shows bars;
    without, or without a terminal, lines are printed.
    SIGTERM and Ctrl-C save the state and raise ``unisono.train.signals.Stopped``, a ``SystemExit``.
    """
    name = recipe.model["name"]
    if not plugins.resolve(name, "models").learns:
        raise RecipeError(
            f"{name} learns nothing: make an export of it with  unisono assemble RECIPE DEST",
            code="unsupported",
            path="model.name",
            value=name,
        )
    ranks = join_ranks(recipe.trainer.get("num_nodes") or 1)
    signals = Signals(recipe.run_spec.stop_seconds)
    try:
        with signals.handled():
            objects = {
                key: value for key, value in (("strategy", strategy), ("profiler", profiler)) if value is not None
            }
            return _Run(recipe, ranks, signals, progress, tuple(callbacks), objects, loggers).go(resume, dry_run)
    except Stopped as stopped:
        rank_zero_only(print)(f"unisono: {stopped}", file=sys.stderr, flush=True)
        raise
    finally:
        for name in (RUN_DIR, RUN_STATE):
            os.environ.pop(name, None)


@dataclass
class _Run:
    """One run on its way: each method is one stage."""

    recipe: Recipe
    ranks: Ranks
    signals: Signals
    progress: bool
    callbacks: tuple[Callback, ...]
    objects: Mapping[str, Any]
    loggers: Sequence[Logger | str | dict[str, Any]] | None

    def go(self, resume: str | Path | None, dry_run: bool) -> RunResult | None:
        """Choose the folder, prepare, compare, train."""
        claim, state = self._choose(resume, dry_run)
        try:
            return self._prepare_and_fit(claim, state, dry_run)
        finally:
            claim.close()

    def _choose(self, resume: str | Path | None, dry_run: bool) -> tuple[Claim, Path | None]:
        """Return the run's folder and the state to go on from, as the first of all processes chose them."""
        if RUN_DIR in os.environ:  # started by Lightning
            return Claim(Path(os.environ[RUN_DIR])), Path(chosen) if (chosen := os.environ.get(RUN_STATE)) else None
        claims: list[Claim] = []

        def choose() -> list[str]:
            claim, state = self._choose_first(resume, dry_run)
            claims.append(claim)
            return [str(claim.folder.absolute()), str(state.absolute()) if state else ""]

        folder, state = self.ranks.share("run", choose)
        os.environ[RUN_DIR], os.environ[RUN_STATE] = folder, state
        return claims[0] if claims else Claim(Path(folder)), Path(state) if state else None

    def _choose_first(self, resume: str | Path | None, dry_run: bool) -> tuple[Claim, Path | None]:
        parent = Path(self.recipe.run_spec.dir) / self.recipe.name
        job, again = current_job(self.recipe.to_dict())
        if resume is None and job is not None and again and (folder := find_job(parent, job)) is not None:
            # the scheduler started this job again: its run goes on
            state = find_training_state(folder) if has_training_state(folder) else None
            return (Claim(folder) if dry_run else claim_again(folder)), state
        state = _resume_state(self.recipe, resume) if resume is not None else None
        own = state and run_of_state(state)
        if own:
            return (Claim(own) if dry_run else claim_again(own)), state
        if dry_run:
            return Claim(parent / f"{max(numbers_in(parent), default=0) + 1:04d}"), state
        return claim_new(parent, job), state

    def _prepare_and_fit(self, claim: Claim, state: Path | None, dry_run: bool) -> RunResult | None:
        self.signals.began = state
        try:
            origin = Origin(state, read_training_state(state, meta=True)) if state is not None else None
            recipe, folder = self.recipe, claim.folder
            if origin is not None:
                recipe = origin.with_its_source(recipe)
            changed = origin.changes(recipe) if origin is not None else {}
            keep = KeepState(folder / "checkpoints", recipe.run_spec.checkpoint)
            finite = Finite(recipe.run_spec.skip_nonfinite, keep)
            going_on = [GoOn(origin, changed, folder)] if origin is not None else []
            spec = recipe.run_spec
            watches: list[Callback] = []
            if spec.early_stopping is not None:
                watches.append(StopEarly(spec.early_stopping, folder, spec.checkpoint.every))
            if spec.keep_best is not None:
                watches.append(KeepBestStates(spec.keep_best, keep, folder, spec.checkpoint.every))
            loggers = make_loggers(spec.logger if self.loggers is None else self.loggers, folder, recipe)
            own = [finite, *going_on, *watches, keep, StopOnSignal(self.signals, keep)]
            # before the data: its complaints should not wait for them
            callbacks = [*own, *self.callbacks]
            trainer = _trainer(
                recipe, self.ranks, self.signals, folder, self.progress, callbacks, self.objects, loggers
            )
            check_fit(trainer.strategy, trainer.strategy.root_device.type, trainer.world_size, trainer.num_nodes)
            first = trainer.is_global_zero
            if (
                first
                and trainer.strategy.root_device.type == "cpu"
                and (slow := slow_precision(str(trainer.precision)))
            ):
                print(slow, file=sys.stderr)
            data = recipe.build_data()
            flags: Any = trainer  # Lightning puts `overfit_batches` there without declaring it
            data.one_epoch = bool(flags.overfit_batches)
            audit = self._prepare(data)
            facts = data.describe()
            to_plain(facts, "facts")  # what no export could hold is refused before the first step
            model = recipe.build_model(facts)
            attach_components(model, recipe.components)
            if str(trainer.precision) == "64-true":
                model.double()  # Lightning does so after it has restored a state, whose weights float32 would round
            device = trainer.strategy.root_device.type
            faster = speed_up(model, spec.compile, spec.activation_checkpointing, device)
            if faster is not None and first:
                print(faster)
            source = recipe.run_spec.init_from
            started = warm_start(model, source) if source is not None and origin is None else None
            if started is not None and first:
                print(started)
            if model.adapted and source is None:
                raise RecipeError(
                    "adapters are trained beside frozen weights: give those by run.init_from (a run or an export)",
                    code="missing",
                    path="run.init_from",
                )
            if model.optim.groups:
                model.configure_model()  # patterns may name what only training needs
            model.optim.settle(model)
            data.trainer = trainer  # what would refuse the first batch does so now, in a dry run too
            if origin is not None:
                origin.check(model, data, changed)
                origin.state.clear()
            else:
                data.train_dataloader()
            if dry_run:
                if first:
                    _describe(recipe, audit, model)
                return None
            if first:
                records = {
                    "init.json": started and json.dumps(started.to_dict(), indent=1),
                    "recipe.yaml": recipe.to_yaml(),
                    "audit.json": json.dumps(audit.to_dict(), indent=1, ensure_ascii=False),
                }
                for callback in going_on:  # a resumed run writes when its state is restored
                    callback.records = records
                if not going_on:
                    write_records(folder, records)
        except BaseException:
            claim.release()
            raise
        with warnings.catch_warnings(), _misconfigured(recipe):
            for known in _KNOWN_WARNINGS:
                warnings.filterwarnings("ignore", message=known)
            try:
                trainer.fit(model, datamodule=data, ckpt_path=str(state) if state else None, weights_only=True)
            except Exception as error:
                if self.signals.received is None:
                    raise
                raise Stopped(self.signals.received, keep.last) from error  # such as a worker that was stopped too
        if self.signals.received is not None:
            raise Stopped(self.signals.received, keep.last)
        slow_down(model)
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        if finite.skipped and first:
            print(f"{finite.skipped} steps were skipped: their loss or gradient was not finite", file=sys.stderr)
        return RunResult(folder, model.eval(), metrics, audit, finite.skipped)

    def _prepare(self, data: DataModule) -> Audit:
        """Prepare the data: rank 0 first, so that the others find what it made."""
        done: list[Audit] = []

        def prepare() -> bool:
            done.append(data.prepare(progress=self.progress))
            return True

        self.ranks.share("data", prepare)
        return done[0] if done else data.prepare(progress=False)


def _trainer(
    recipe: Recipe,
    ranks: Ranks,
    signals: Signals,
    folder: Path,
    progress: bool,
    callbacks: Sequence[Callback],
    objects: Mapping[str, Any],
    loggers: Sequence[Logger],
) -> Trainer:
    """Make Lightning's Trainer with the run's own callbacks; nothing is written yet."""
    spec = recipe.run_spec
    arguments = {key: value for key, value in recipe.trainer.items() if value is not None}
    if arguments.pop("callbacks", None) or arguments.pop("logger", None) not in (None, True):
        raise RecipeError(
            "trainer.callbacks and trainer.logger are the run's own: unisono.train.train takes callbacks and loggers, "
            "and run.logger names loggers",
            path="trainer",
            code="conflict",
        )
    arguments |= fitting_devices(arguments, ranks, recipe.name)
    for kind in ("strategy", "profiler"):
        if kind in arguments or kind in objects:
            arguments[kind] = objects.get(kind) or make(kind, arguments[kind], recipe.name)
    if isinstance(arguments.get("strategy"), Sharded):
        arguments["inference_mode"] = False  # what is gathered in inference mode could not be trained on
    if ranks.world_size > 1 and not arguments.get("plugins"):
        arguments["plugins"] = [ranks.environment]
    flops = Flops()
    throughput = Throughput(flops)
    own: list[Callback] = [
        flops,
        StepSeed(recipe.seed),
        SamePlugins(),
        TimeShare(),
        throughput,
    ]
    if loggers:
        own += [LearningRateMonitor("step"), LogRecipe(recipe)]
    if spec.preview_seconds > 0:
        own.append(Previews(folder / "previews", spec.preview_seconds, lambda: signals.received is not None))
    if spec.ema_decay > 0:
        own.append(WeightEMA(spec.ema_decay))
    if arguments.get("enable_progress_bar", True) and progress and _shows_bars():
        own.append(StepProgressBar())
    else:
        arguments["enable_progress_bar"] = False
        own.append(ProgressLines(throughput))
    interval = arguments.get("val_check_interval")
    if isinstance(interval, int) and not isinstance(interval, bool):
        # Lightning counts batches of an epoch; here it is steps of the run
        arguments["val_check_interval"] = interval * (arguments.get("accumulate_grad_batches") or 1)
        arguments["check_val_every_n_epoch"] = None
    arguments["use_distributed_sampler"] = False  # the data module shards the global batch itself
    with _misconfigured(recipe, ValueError), _without_greeting():
        return Trainer(
            **arguments,
            logger=list(loggers) or False,
            callbacks=[*own, *callbacks],
            default_root_dir=str(folder),
        )


def _shows_bars() -> bool:
    """Whether bars can be drawn where the output goes."""
    console = Console()
    return console.is_terminal or console.is_jupyter


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
        raise RecipeError(
            f"{recipe.name}: trainer: {' '.join(str(error).split())}", path="trainer", code="value"
        ) from error


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
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
    r".*callbacks used to create the checkpoint need to be provided.*",  # run.ema_decay=0 from now on
    r"torch.distributed is disabled, unavailable or uninitialized.*",  # run.checkpoint.layout=sharded, one process
    r".*The number of training batches .* is smaller than the logging interval.*",
)


def _resume_state(recipe: Recipe, resume: str | Path) -> Path:
    if str(resume) == "last":
        parent = Path(recipe.run_spec.dir) / recipe.name
        runs = [folder for n in numbers_in(parent) if has_training_state(folder := parent / f"{n:04d}")]
        if not runs:
            raise CheckpointError(
                f"nothing to resume: no run with a checkpoint under {str(parent)!r}", code="missing", path=parent
            )
        resume = max(runs, key=lambda folder: int(folder.name))
    return find_training_state(resume)


def _describe(recipe: Recipe, audit: Any, model: Any) -> None:
    console = Console()
    console.print(recipe.to_yaml(), highlight=False, markup=False)
    console.print(audit.table())
    model.configure_model()
    console.print(groups_table(model))
    total = sum(p.numel() for p in model.parameters())
    console.print(f"{recipe.model['name']}: {total / 1e6:.2f} M parameters; dry run, nothing was trained")
