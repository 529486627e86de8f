"""Search: trials of a study, one after another; each is a run, and what it logs is what the next is chosen by.

::

    STUDY/
        study.json        what is searched: the recipe, the ranges, what is monitored
        study.log         Optuna's journal, which several processes may write
        trials/0001/      the run of a trial, as `unisono train` leaves it
        trials.csv, trials.json, best.yaml, study.png

The values of trial n follow from the recipe's seed, n and the trials that were finished before, so that a search that
was stopped goes on as it would have. A trial whose process ended goes on in its own run.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from unisono.data import derive_seed
from unisono.errors import CheckpointError, RecipeError, UnisonoError, did_you_mean, shown
from unisono.export.training_state import has_training_state
from unisono.extras import optional
from unisono.files import writing_to, written_aside
from unisono.recipe import Recipe
from unisono.train.claim import Claim, claim_again
from unisono.train.run import train
from unisono.tune.ranges import Ranges, fitted
from unisono.tune.report import Study, Trial, write_report

ABOUT, JOURNAL, TRIALS, TURNS = "study.json", "study.log", "trials", "turns"
RUN, REASON, STEP, MOVED, GOES_ON = "run", "reason", "step", "moved", "goes_on"


def tune(
    recipe: Recipe,
    ranges: Mapping[str, Any],
    *,
    trials: int = 20,
    monitor: str = "val/loss",
    mode: Literal["min", "max"] = "min",
    folder: str | Path | None = None,
    sampler: Literal["tpe", "random"] = "tpe",
    prune: Literal["median", "none"] = "median",
    progress: bool = True,
) -> Study:
    """Search a recipe's values until the study has so many trials; what there is already counts.

    Args:
        ranges: by key of the recipe: a ``Range``, ``Choices``, a list, or text such as ``1e-4..1e-2:log``.
        monitor: a value that the run logs, as it is at the end of a trial.
        folder: of the study, ``runs/tune/NAME`` where not given; one that exists goes on.
        prune: ``median`` ends a trial that is worse, at a validation, than half of the finished ones were there.

    Raises ``RecipeError`` for ranges that the recipe does not take, for a value that nothing logs, and for a study that
    was begun with others, all before the first trial; ``UnisonoError`` where every trial failed.
    """
    optional("optuna", extra="tune")
    if trials < 1:
        raise RecipeError(f"trials={trials} must be at least 1", code="range", path="trials", value=trials)
    for name, value, known in (("mode", mode, ("min", "max")), ("sampler", sampler, ("tpe", "random")),
                               ("prune", prune, ("median", "none"))):  # fmt: skip
        if value not in known:
            raise RecipeError(
                f"{name}={shown(value)} must be one of {', '.join(known)}", code="value", path=name, value=value
            )
    _refuse_many_processes(recipe)
    checked = fitted(recipe, ranges)
    place = Path(folder) if folder is not None else Path(recipe.run_spec.dir) / "tune" / recipe.name
    search = _Search(recipe, checked, place, monitor, mode, sampler, prune, progress)
    search.begin()
    return search.go(trials)


class _Search:
    """One process's part in a study."""

    def __init__(
        self, recipe: Recipe, ranges: Ranges, folder: Path, monitor: str, mode: str, sampler: str, prune: str,
        progress: bool,
    ):  # fmt: skip
        self.recipe, self.ranges, self.folder = recipe, ranges, folder
        self.monitor, self.mode, self.sampler, self.prune, self.progress = monitor, mode, sampler, prune, progress

    def begin(self) -> None:
        """Open the study, or begin it: its values are compared with those that it was begun with, or rehearsed."""
        about = {
            "monitor": self.monitor,
            "mode": self.mode,
            "ranges": {path: str(given) for path, given in self.ranges.items()},
            "recipe": self.recipe.to_dict(),
        }
        path = self.folder / ABOUT
        if not path.is_file():
            there = {entry.name for entry in self.folder.iterdir()} if self.folder.is_dir() else set()
            if there and TURNS not in there:  # where it is, another process is beginning the study
                raise CheckpointError(
                    f"{str(self.folder)!r:.200} is not empty, and no study: choose another folder",
                    code="exists",
                    path=str(self.folder),
                )
            rehearse(self.recipe, self.monitor)
            with writing_to(self.folder, UnisonoError):
                (self.folder / TURNS).mkdir(parents=True, exist_ok=True)
            with self._turn():  # another process may have begun it meanwhile
                if not path.is_file():
                    with written_aside(path) as aside:
                        aside.write_text(json.dumps(about, indent=1, ensure_ascii=False), encoding="utf-8")
        self._compare(path, about)
        self.study = self._open()

    def go(self, trials: int) -> Study:
        """Take turns until there are enough trials; returns the study as it is then."""
        try:
            while (taken := self._take(trials)) is not None:
                trial, lock = taken
                try:
                    self._try(trial)
                finally:
                    lock.close()
                write_report(self._told())
        finally:
            study = self._told()
            if study.trials:
                write_report(study, figure=True)
        if study.trials and all(trial.state == "failed" for trial in study.trials):
            raise UnisonoError(
                f"all {len(study.trials)} trials failed, the first since: {study.trials[0].reason}; "
                f"the rest is in {str(self.folder / 'trials.csv')!r:.200}",
                code="failed",
                path=str(self.folder),
            )
        return study

    # ---- trials --------------------------------------------------------------------------------

    def _take(self, trials: int) -> tuple[Any, Claim] | None:
        """Take the next trial, with its values chosen, and hold it; None where there are enough."""
        import optuna

        with self._turn():
            self._revive()
            every = self.study.get_trials(deepcopy=False)
            waiting = [t.number for t in every if t.state == optuna.trial.TrialState.WAITING]
            if sum(not t.user_attrs.get(MOVED) for t in every) - len(waiting) >= trials:
                return None
            kind = optuna.samplers.TPESampler if self.sampler == "tpe" else optuna.samplers.RandomSampler
            number = min(waiting, default=len(every))
            self.study.sampler = kind(seed=derive_seed("tune", self.recipe.seed, number) % 2**32)
            trial = self.study.ask()
            place = self.folder / TURNS / f"{trial.number:04d}"
            place.mkdir(exist_ok=True)
            lock = claim_again(place)
            self.values = {path: given.ask(trial, path) for path, given in self.ranges.items()}
            return trial, lock

    def _revive(self) -> None:
        """Put trials of processes that are no more in line again, to go on in their runs."""
        import optuna

        for old in self.study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
            place = self.folder / TURNS / f"{old.number:04d}"
            if place.is_dir():
                try:
                    claim_again(place).close()
                except CheckpointError:
                    continue  # its process is at work
            kept = {GOES_ON: old.user_attrs[RUN]} if RUN in old.user_attrs else {}
            storage, number = self.study._storage, old._trial_id
            storage.set_trial_user_attr(number, MOVED, True)
            storage.set_trial_user_attr(number, REASON, "its process ended; it goes on as another trial")
            self.study.tell(old.number, state=optuna.trial.TrialState.FAIL)
            self.study.enqueue_trial(old.params, user_attrs=kept)

    def _try(self, trial: Any) -> None:
        """Train by one trial's values, and tell the study what came of it."""
        import optuna

        states = optuna.trial.TrialState
        told = ", ".join(f"{path}={shown(value)}" for path, value in self.values.items())
        print(f"trial {trial.number}: {told}", flush=True)
        watch = Watch(trial, self.monitor, self.prune == "median")
        try:
            own = {"run.dir": str(self.folder), "trainer.devices": 1}
            recipe = replace(self.recipe.with_values({**self.values, **own}), name=TRIALS)
            before = trial.user_attrs.get(GOES_ON)
            resume = before if before and has_training_state(Path(before)) else None
            result = train(recipe, resume=resume, progress=self.progress, callbacks=[watch])
            assert result is not None
            value = result.metrics.get(self.monitor)
            if value is None:
                raise RecipeError(f"it logged no {self.monitor}", code="missing", path="monitor", value=self.monitor)
            if value != value or value in (float("inf"), float("-inf")):
                raise UnisonoError(f"its {self.monitor} is {value}", code="value", path="monitor", value=value)
        except Exception as error:  # whatever it is, other values may do without
            reason = " ".join(str(error).split())[:500] or type(error).__name__
            if not isinstance(error, UnisonoError):
                reason = f"{type(error).__name__}: {reason}"
            trial.set_user_attr(REASON, reason)
            self.study.tell(trial, state=states.FAIL)
            print(f"trial {trial.number} failed: {reason}", file=sys.stderr, flush=True)
            return
        if watch.pruned:
            self.study.tell(trial, state=states.PRUNED)
        else:
            self.study.tell(trial, value)
        print(f"trial {trial.number}: {self.monitor}={value:.6g}{' (pruned)' * watch.pruned}", flush=True)

    # ---- the study -----------------------------------------------------------------------------

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One process at a time chooses."""
        with writing_to(self.folder / TURNS, UnisonoError):
            (self.folder / TURNS).mkdir(parents=True, exist_ok=True)
        while True:
            try:
                lock = claim_again(self.folder / TURNS)
                break
            except CheckpointError:
                time.sleep(0.05)
        try:
            yield
        finally:
            lock.close()

    def _compare(self, path: Path, about: dict[str, Any]) -> None:
        try:
            began = json.loads(path.read_text(encoding="utf-8"))
            before, now = _flat(began), _flat(json.loads(json.dumps(about)))
        except (OSError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"{str(path)!r:.200} is damaged ({error}): choose another folder", code="damaged", path=str(path)
            ) from None
        for key in {**before, **now}:
            if before.get(key) != now.get(key):
                raise RecipeError(
                    f"the study in {str(self.folder)!r:.200} was begun with {key}={shown(before.get(key))}, and is now "
                    f"{shown(now.get(key))}: restore it, or give another folder by --study",
                    code="conflict",
                    path=key,
                    value=now.get(key),
                )

    def _open(self) -> Any:
        import optuna
        from optuna.storages import JournalStorage, journal

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        log = str(self.folder / JOURNAL)
        lock: Any = journal.JournalFileOpenLock(log) if os.name == "nt" else None  # links need rights there
        try:
            storage = JournalStorage(journal.JournalFileBackend(log, lock_obj=lock))
            return optuna.create_study(
                storage=storage,
                study_name="unisono",
                direction="minimize" if self.mode == "min" else "maximize",
                pruner=optuna.pruners.MedianPruner() if self.prune == "median" else optuna.pruners.NopPruner(),
                load_if_exists=True,
            )
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise CheckpointError(
                f"{log!r:.200} is no journal of Optuna, or damaged ({type(error).__name__}): choose another folder",
                code="damaged",
                path=log,
            ) from error

    def _told(self) -> Study:
        """Return the study as it is."""
        names = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
        trials = []
        for each in self.study.get_trials(deepcopy=False):
            if each.state.name not in names:
                continue
            values = {
                path: json.loads(value) if isinstance(value, str) else value for path, value in each.params.items()
            }
            last = max(each.intermediate_values, default=None)
            state = "moved" if each.user_attrs.get(MOVED) else names[each.state.name]
            value = each.value if state == "finished" else each.intermediate_values.get(last)
            trials.append(
                Trial(
                    each.number,
                    state,
                    value,
                    values,
                    each.user_attrs.get(STEP, last),
                    each.user_attrs.get(REASON, ""),
                    each.user_attrs.get(RUN),
                )
            )
        return Study(self.folder, self.recipe, self.monitor, self.mode, trials)


class Watch(Callback):
    """Tell a trial where its run is, and how it stands at each validation; end it where others did better."""

    def __init__(self, trial: Any, monitor: str, prune: bool):
        self.trial, self.monitor, self.prune = trial, monitor, prune
        self.pruned = False
        self._told: set[int] = set()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.trial.set_user_attr(RUN, str(trainer.default_root_dir))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        step, value = trainer.global_step, trainer.callback_metrics.get(self.monitor)
        if trainer.sanity_checking or value is None or step in self._told or not bool(value.isfinite()):
            return
        self._told.add(step)
        self.trial.report(float(value), step)
        if self.prune and self.trial.should_prune():
            self.pruned = True
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.trial.set_user_attr(STEP, trainer.global_step)


def rehearse(recipe: Recipe, monitor: str) -> None:
    """Take one step in a folder that is thrown away; raises ``RecipeError`` where nothing logs what is monitored."""
    short = {
        "trainer.max_steps": 1, "trainer.max_epochs": None, "trainer.max_time": None, "trainer.min_steps": None,
        "trainer.min_epochs": None, "trainer.val_check_interval": 1, "trainer.accumulate_grad_batches": 1,
        "trainer.num_sanity_val_steps": 0, "trainer.log_every_n_steps": 1, "trainer.enable_model_summary": False,
        "run.preview_seconds": 0.0, "trainer.devices": 1,
    }  # fmt: skip
    if recipe.trainer.get("limit_val_batches") != 0:
        short["trainer.limit_val_batches"] = 1
    with TemporaryDirectory(prefix="unisono-tune-") as folder:
        result = train(recipe.with_values({**short, "run.dir": folder}), progress=False)
    assert result is not None
    if monitor not in result.metrics:
        raise RecipeError(
            f"monitor={shown(monitor)} is logged by nothing{did_you_mean(monitor, result.metrics)}",
            code="unknown",
            path="monitor",
            value=monitor,
        )


def _refuse_many_processes(recipe: Recipe) -> None:
    devices, nodes = recipe.trainer.get("devices"), recipe.trainer.get("num_nodes")
    world = os.environ.get("WORLD_SIZE", "1")
    if devices not in ("auto", None, 1, "1", [0], "0,") or nodes not in (None, 1) or world not in ("", "1"):
        raise RecipeError(
            f"trainer.devices={devices}, num_nodes={nodes}, {world} processes: a trial is trained by one process; "
            "set trainer.devices=1, and start the same command as often as there are devices",
            code="unsupported",
            path="trainer.devices",
            value=devices,
        )


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{above}{key}.")
        else:
            flat[f"{above}{key}"] = value
    return flat
