"""Resume: what a run goes on with, compared with what it began with.

Facts must be the same, by name: weights mean something else with other symbols or statistics. Values of the
recipe may differ where the weights still fit: they are applied, printed, and noted in ``changes.json``. All of this is
settled before anything in the run's folder is written; the notes are written when the state is restored.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.core.optimizer import _init_optimizers_and_lr_schedulers

from unisono.data import DataModule, facts_of, to_plain
from unisono.errors import CheckpointError, UnisonoError, shown
from unisono.files import written_aside
from unisono.model import Model
from unisono.recipe import Recipe

CHANGES = "changes.json"
FIXED = ("seed", "model.name", "data.name", "data.batch_size", "optim.optimizer")
"""What a run cannot change: its batches, its weights or what its optimiser remembers would be others."""
TOLERANCE = 1e-6
"""Relative difference of numbers in facts that another machine's arithmetic explains."""


@dataclass
class Origin:
    """The state that a run goes on from."""

    path: Path
    state: dict[str, Any]
    began: Recipe = field(init=False)

    def __post_init__(self):
        try:
            self.began = Recipe.from_dict(self.state["unisono"]["recipe"], name="recipe")
        except UnisonoError as error:
            raise CheckpointError(
                f"{self.path}: the run to resume has a recipe that does not fit: {error}",
                code=error.code,
                path=error.path,
            ) from error

    @property
    def step(self) -> int:
        """Steps that are done."""
        return int(self.state.get("global_step", 0))

    def changes(self, recipe: Recipe) -> dict[str, list[Any]]:
        """Return the fields that differ, ``{"optim.lr": [before, now]}``; raises for those that cannot change."""
        before, now = (_flat(each.to_dict()) for each in (self.began, recipe))
        changed = {key: [before.get(key), now.get(key)] for key in {**before, **now} if before.get(key) != now.get(key)}
        for key in FIXED:
            if key in changed:
                raise self._refused(key, f"{key}={shown(before.get(key))}", shown(now.get(key)))
        return changed

    def with_its_source(self, recipe: Recipe) -> Recipe:
        """Return a recipe that says where the weights came from once; a resumed run takes none over again."""
        return replace(recipe, run={**recipe.run, "init_from": self.began.run.get("init_from")})

    def check(self, model: Model, data: DataModule, changed: Mapping[str, Any]) -> None:
        """Raise ``CheckpointError`` where facts differ or weights do not fit, and ``DataError`` for other batches."""
        before = to_plain(facts_of(self.state["unisono"]["facts"], type(model).Facts), "facts")
        now = to_plain(model.facts, "facts")
        for name in sorted({**before, **now}):
            if not _same(before.get(name), now.get(name)):
                raise self._refused(name, f"the fact {name}={shown(before.get(name))}", shown(now.get(name)))
        model.configure_model()  # the state holds what only training needs, too
        own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        kept = {name: tuple(value.shape) for name, value in self.state["state_dict"].items()}
        wrong = [name for name in {**own, **kept} if own.get(name) != kept.get(name)]
        if wrong:
            fields = ", ".join(f"{key}={shown(old)} (now {shown(new)})" for key, (old, new) in changed.items())
            raise CheckpointError(
                f"{self.path}: {len(wrong)} of its weights, such as {wrong[0]}, do not fit this model; the run had "
                f"{fields or 'other code'}: restore that, or start a new run with --run.init_from",
                code="shape",
                path=wrong[0],
            )
        try:
            loaders = self.state["loops"]["fit_loop"]["state_dict"].get("combined_loader") or []
        except (KeyError, TypeError, AttributeError):
            raise CheckpointError(
                f"{self.path} is damaged: it does not say how far the run was", code="damaged", path=self.path
            ) from None
        loader = data.train_dataloader()
        for saved in loaders:
            loader.load_state_dict(saved)

    def _refused(self, what: str, had: str, now: str) -> CheckpointError:
        return CheckpointError(
            f"the run to resume had {had}, this one has {now}: restore it, or start a new run "
            "(--run.init_from takes over the weights)",
            code="conflict",
            path=what,
            value=now,
        )


class GoOn(Callback):
    """Apply what changed to the restored optimisers, and note it in the run's folder."""

    def __init__(self, origin: Origin, changed: dict[str, list[Any]], folder: Path):
        self.path, self.step = str(origin.path), origin.step
        self.changed = changed
        self.folder = folder
        self.records: dict[str, str | None] = {}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        before, now = self.changed.get("run.ema_decay", [None, None])
        if before and now == 0 and "current_model_state" in checkpoint:
            # the state's weights are the average, and there is none from now on
            trainer.strategy.load_model_state_dict({"state_dict": checkpoint["current_model_state"]})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if any(key.startswith(("optim.", "adapters.", "trainer.", "model.")) for key in self.changed):
            _renew_optimizers(trainer, pl_module)
        if not trainer.is_global_zero:
            return
        told = "".join(f"\n  {key}: {shown(old)} → {shown(new)}" for key, (old, new) in self.changed.items())
        print(f"resumed at step {self.step} from {self.path}{told and f', with other values:{told}'}")
        records = dict(self.records)
        if self.changed:
            noted = [*_noted(self.folder / CHANGES), {"step": self.step, "changes": self.changed}]
            records[CHANGES] = json.dumps(noted, indent=1, ensure_ascii=False, default=str)
        write_records(self.folder, records)


def write_records(folder: Path, records: Mapping[str, str | None]) -> None:
    """Write a run's records, each whole or not at all."""
    for name, text in records.items():
        if text is not None:
            with written_aside(folder / name) as aside:
                aside.write_text(text, encoding="utf-8")


def _renew_optimizers(trainer: Trainer, module: LightningModule) -> None:
    """Give restored optimisers the settings that fresh ones have, and schedules the rate of this step."""
    fresh, schedules = _init_optimizers_and_lr_schedulers(module)
    for mine, other in zip(trainer.optimizers, fresh, strict=True):
        for group, new in zip(mine.param_groups, other.param_groups, strict=True):
            group.update({key: value for key, value in new.items() if key != "params"})
    for mine, other in zip(trainer.lr_scheduler_configs, schedules, strict=True):
        schedule = mine.scheduler
        if not isinstance(schedule, torch.optim.lr_scheduler.LambdaLR):
            continue
        schedule.base_lrs = other.scheduler.base_lrs
        rates = [
            base * factor(schedule.last_epoch)
            for base, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
        ]
        for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        schedule._last_lr = rates


def _noted(path: Path) -> list[Any]:
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    return noted if isinstance(noted, list) else []


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return nested values by dotted path, as JSON has them; what is None is left out."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{above}{key}"
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{path}.")
        elif value is not None:
            flat[path] = json.loads(json.dumps(value, default=str))
    return flat


def _same(before: Any, now: Any) -> bool:
    """Whether two facts are equal, numbers up to rounding."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return before.keys() == now.keys() and all(_same(before[key], now[key]) for key in before)
    if isinstance(before, list) and isinstance(now, list):
        return len(before) == len(now) and all(map(_same, before, now))
    if isinstance(before, float) and isinstance(now, float):
        return math.isclose(before, now, rel_tol=TOLERANCE)
    return before == now
