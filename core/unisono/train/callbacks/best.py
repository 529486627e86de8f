"""Best: the best states by a logged value are kept, and a run ends when the value improves no more.

Both look at each validation, or, where there is none, at each written state (``run.checkpoint.every``). Ranks decide
together, on the mean of their values. What was seen is remembered in the run's folder, so that a resumed run goes on
with it.
"""

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from unisono.errors import CheckpointError, RecipeError, UnisonoError, did_you_mean
from unisono.export.best import BEST, Kept, Record, read_record
from unisono.files import read_json, written_aside
from unisono.model import Model
from unisono.switches import EarlyStopping, KeepBest
from unisono.train.callbacks.checkpoints import KeepState

STOPPING = "early_stopping.json"


class _Watch(Checkpoint):
    """Asks for a logged value at each validation. A ``Checkpoint`` comes after the callbacks that log and average."""

    def __init__(self, monitor: str, mode: Literal["min", "max"], every: int, path: str):
        self.monitor = monitor
        self.mode: Literal["min", "max"] = mode
        self.every = every
        self.path = path

    def see(self, trainer: Trainer, pl_module: LightningModule, value: float) -> None:
        """Take the value of this step; NaN never counts as good."""
        raise NotImplementedError

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.monitor.startswith("val/") and not _validates(trainer):
            raise RecipeError(
                f"{self.path}={self.monitor!r} is a value of the validation, and this run has none: hold items out "
                "(data.hold_out and the like), or name a value of the training, such as train/loss",
                path=self.path,
                value=self.monitor,
                code="missing",
            )

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        if not _validates(trainer) and trainer.global_step % self.every == 0 and trainer.global_step:
            self._look(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:  # tells what will be logged before the first step
            if self.monitor.startswith("val/"):
                self._value(trainer)
        elif trainer.state.fn == "fit":
            self._look(trainer, pl_module)

    def _look(self, trainer: Trainer, pl_module: LightningModule) -> None:
        value = self._value(trainer)
        if trainer.world_size > 1:  # values of the training are each rank's own
            value = float(trainer.strategy.reduce(torch.tensor(value, device=pl_module.device), reduce_op="mean"))
        self.see(trainer, pl_module, value)

    def _value(self, trainer: Trainer) -> float:
        known = trainer.callback_metrics
        if self.monitor not in known:
            raise RecipeError(
                f"{self.path}={self.monitor!r} is never logged{did_you_mean(self.monitor, known)}",
                path=self.path,
                value=self.monitor,
                code="unknown",
            )
        return float(known[self.monitor])


class KeepBestStates(_Watch):
    """Keep the ``k`` best states as ``checkpoints/best-<step>.ckpt`` and say which in ``best.json``.

    Of equal values the earlier one is better. A step that is run again replaces what it was.
    """

    def __init__(self, spec: KeepBest, keep: KeepState, folder: Path, every: int):
        super().__init__(spec.monitor, spec.mode, every, "run.keep_best.monitor")
        self.k = spec.k
        self.keep = keep
        self.folder = folder
        self.kept: list[Kept] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.kept = trainer.strategy.broadcast(self._remembered() if trainer.is_global_zero else [])

    def see(self, trainer: Trainer, pl_module: LightningModule, value: float) -> None:
        step = trainer.global_step
        if math.isnan(value):
            return
        others = [kept for kept in self.kept if kept.step != step]
        ranked = sorted([*others, Kept(step, value, "")], key=self._rank)
        if all(kept.step != step for kept in ranked[: self.k]):
            return
        path = self.keep.keep(trainer, f"best-{step:07d}")
        new = Kept(step, value, path.relative_to(self.folder).as_posix())
        self.kept = [new if kept.step == step else kept for kept in ranked[: self.k]]
        if trainer.is_global_zero:
            with written_aside(self.folder / BEST, CheckpointError) as aside:
                record = Record(self.monitor, self.mode, self.k, tuple(self.kept))
                aside.write_text(json.dumps(record.to_dict(), indent=1), encoding="utf-8")
            for gone in ranked[self.k :]:
                _remove(self.folder / gone.file)

    def _rank(self, kept: Kept) -> tuple[float, int]:
        return (kept.value if self.mode == "min" else -kept.value, kept.step)

    def _remembered(self) -> list[Kept]:
        """What the run kept before, as far as it is still there."""
        if not (self.folder / BEST).is_file():
            return []
        try:
            record = read_record(self.folder)
        except UnisonoError as error:
            print(f"{error}; what was kept before is left as it is", file=sys.stderr)
            return []
        there = [kept for kept in record.best if (self.folder / kept.file).exists()]
        if (record.monitor, record.mode) != (self.monitor, self.mode):
            names = ", ".join(kept.file for kept in there)
            print(
                f"run.keep_best watched {record.monitor} ({record.mode}) before and {self.monitor} ({self.mode}) now; "
                f"what it kept is left as it is: {names or 'nothing'}",
                file=sys.stderr,
            )
            return []
        there.sort(key=self._rank)
        for gone in there[self.k :]:
            _remove(self.folder / gone.file)
        return there[: self.k]


class StopEarly(_Watch):
    """End the run, as its last step would, after ``patience`` validations in a row without an improvement."""

    def __init__(self, spec: EarlyStopping, folder: Path, every: int):
        super().__init__(spec.monitor, spec.mode, every, "run.early_stopping.monitor")
        self.spec = spec
        self.folder = folder
        self.seen: dict[int, float] = {}

    @property
    def best(self) -> float | None:
        """The best value so far; None where there is none."""
        return self._stand()[0]

    @property
    def waited(self) -> int:
        """Validations since the last improvement."""
        return self._stand()[1]

    def state_dict(self) -> dict[str, Any]:
        return {"monitor": self.monitor, "mode": self.mode, "seen": list(self.seen.items())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if (state_dict["monitor"], state_dict["mode"]) == (self.monitor, self.mode):
            self.seen = {int(step): float(value) for step, value in state_dict["seen"]}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        # a state that was written just before its validation does not know it, and Lightning does not repeat it
        noted = self._noted() if trainer.is_global_zero else None
        for step, value in (trainer.strategy.broadcast(noted) or {}).items():
            if step <= trainer.global_step:
                self.seen.setdefault(step, value)

    def see(self, trainer: Trainer, pl_module: LightningModule, value: float) -> None:
        self.seen = {step: seen for step, seen in self.seen.items() if step < trainer.global_step}
        self.seen[trainer.global_step] = value
        if trainer.is_global_zero:
            with written_aside(self.folder / STOPPING, CheckpointError) as aside:
                aside.write_text(json.dumps(self.state_dict(), indent=1), encoding="utf-8")
        best, waited = self._stand()
        if waited < self.spec.patience:
            return
        trainer.should_stop = True
        if trainer.is_global_zero:
            what = "was never a number" if best is None else f"has not been better than {best:.6g}"
            print(
                f"early stopping at step {trainer.global_step}: {self.monitor} {what} for {waited} validations"
                f"{_schedule_note(trainer, pl_module)}",
                file=sys.stderr,
                flush=True,
            )

    def _stand(self) -> tuple[float | None, int]:
        best, waited = None, 0
        sign = 1.0 if self.mode == "min" else -1.0
        for step in sorted(self.seen):
            value = self.seen[step]
            if not math.isnan(value) and (best is None or sign * (best - value) > self.spec.min_delta):
                best, waited = value, 0
            else:
                waited += 1
        return best, waited

    def _noted(self) -> dict[int, float]:
        try:
            noted = read_json(self.folder / STOPPING)
            if (noted["monitor"], noted["mode"]) != (self.monitor, self.mode):
                return {}
            return {int(step): float(value) for step, value in noted["seen"]}
        except (UnisonoError, KeyError, TypeError, ValueError):
            return {}


def _schedule_note(trainer: Trainer, pl_module: LightningModule) -> str:
    """Say how far the schedule was, where it falls to the end of a run that has not come."""
    if not isinstance(pl_module, Model) or pl_module.optim.schedule not in ("cosine", "linear"):
        return ""
    total = pl_module.total_steps
    share = pl_module.optim.factor(trainer.global_step, total)
    return (
        f"; optim.schedule={pl_module.optim.schedule} was planned for {total} steps, and the learning rate is still at "
        f"{share:.0%}: a run of trainer.max_steps={trainer.global_step} would end lower"
    )


def _validates(trainer: Trainer) -> bool:
    return trainer.enable_validation and bool(trainer.val_dataloaders) and sum(trainer.num_val_batches) > 0


def _remove(state: Path) -> None:
    if state.is_dir():
        shutil.rmtree(state, ignore_errors=True)
    else:
        state.unlink(missing_ok=True)
