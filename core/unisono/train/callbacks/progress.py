"""Progress: the bar, with throughput in the task's own units (frames/s, tokens/s)."""

import time
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from unisono.model import Model


class Throughput(Callback):
    """Log ``units(batch)`` per second, smoothed, for all ranks together."""

    def __init__(self, smoothing: float = 0.9):
        self.smoothing = smoothing
        self._rates: dict[str, float] = {}
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
            rate = count * trainer.world_size / elapsed
            previous = self._rates.setdefault(unit, rate)
            self._rates[unit] = self.smoothing * previous + (1 - self.smoothing) * rate
            pl_module.log(f"{unit}/s", self._rates[unit], prog_bar=True, rank_zero_only=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last = None


class StepProgressBar(RichProgressBar):
    """Lightning's bar; a run bounded by steps has no last epoch to show (Lightning shows -2)."""

    def __init__(self):
        super().__init__(leave=False)

    def _get_train_description(self, current_epoch: int) -> str:
        if self.trainer.max_steps > 0:
            return f"Epoch {current_epoch}"
        return super()._get_train_description(current_epoch)
