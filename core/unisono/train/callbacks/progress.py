"""Progress: a bar, or lines without a terminal, with throughput in the task's own units (frames/s, tokens/s)."""

import sys
import time
from datetime import timedelta
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from unisono.model import Model
from unisono.train.strategies.sharded import data_ranks


class Throughput(Callback):
    """Log ``units(batch)`` per second, smoothed, for all ranks together."""

    def __init__(self, smoothing: float = 0.9):
        self.smoothing = smoothing
        self.rates: dict[str, float] = {}
        self._last: float | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._last is None:
            self._last = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        elapsed = now - (self._last or now)
        self._last = now
        if elapsed <= 0:
            return
        for unit, count in cast(Model, pl_module).units(batch).items():
            rate = count * data_ranks(trainer)[1] / elapsed
            previous = self.rates.setdefault(unit, rate)
            self.rates[unit] = self.smoothing * previous + (1 - self.smoothing) * rate
            pl_module.log(f"{unit}/s", self.rates[unit], prog_bar=True, rank_zero_only=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last = None


class ProgressLines(Callback):
    """Print step, loss and throughput to standard error: after the first step, every so often, and at the end."""

    def __init__(self, throughput: Throughput, seconds: float = 30.0):
        self.throughput = throughput
        self.seconds = seconds
        self._begun = self._printed = 0.0
        self._first = 0
        self._told = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begun, self._printed = time.perf_counter(), 0.0
        self._first = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        if trainer.global_step > self._first and (not self._printed or now - self._printed >= self.seconds):
            self._printed = now
            self._print(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step != self._told and trainer.global_step > self._first:
            self._print(trainer, pl_module)

    def _print(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._told = trainer.global_step
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, Model)
        total = pl_module.known_steps
        parts = [f"step {trainer.global_step}" + (f"/{total}" if total else "")]
        if (loss := pl_module.step_losses.get("loss")) is not None:
            parts.append(f"loss {float(loss):.4g}")
        parts += [f"{rate:,.0f} {unit}/s" for unit, rate in self.throughput.rates.items()]
        parts.append(f"{timedelta(seconds=round(time.perf_counter() - self._begun))} since the start")
        print("  ".join(parts), file=sys.stderr, flush=True)


class StepProgressBar(RichProgressBar):
    """Lightning's bar; a run bounded by steps has no last epoch to show (Lightning shows -2)."""

    def __init__(self):
        super().__init__(leave=False)

    def _get_train_description(self, current_epoch: int) -> str:
        if self.trainer.max_steps > 0:
            return f"Epoch {current_epoch}"
        return super()._get_train_description(current_epoch)
