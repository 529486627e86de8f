"""Progress: a bar, or lines without a terminal, with throughput in the task's own units (frames/s, tokens/s), the share
of time that data were waited for, and operations per second."""

import sys
import time
from datetime import timedelta
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from unisono.model import Model
from unisono.train.callbacks.flops import Flops
from unisono.train.strategies.sharded import data_ranks


class Throughput(Callback):
    """Log ``units(batch)`` per second for all ranks together, ``data_wait``, ``tflops`` and ``mfu``; all smoothed.

    ``data_wait`` is the share of a step's time, in [0, 1], that the loader was waited for. ``tflops`` are 10¹²
    operations per second of one device; ``mfu`` is their share of the device's peak, where that is known.
    """

    def __init__(self, flops: Flops | None = None, smoothing: float = 0.9):
        self.flops = flops
        self.smoothing = smoothing
        self.rates: dict[str, float] = {}
        self.shares: dict[str, float] = {}
        self._last: float | None = None
        self._waited = 0.0
        self._means: dict[str, float] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._last is None:
            self._last = time.perf_counter()
            self._waited = _waited(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now, waited = time.perf_counter(), _waited(trainer)
        elapsed, waiting = now - (self._last or now), waited - self._waited
        self._last, self._waited = now, waited
        if elapsed <= 0:
            return
        for unit, count in cast(Model, pl_module).units(batch).items():
            rate = count * data_ranks(trainer)[1] / elapsed
            previous = self.rates.setdefault(unit, rate)
            self.rates[unit] = self.smoothing * previous + (1 - self.smoothing) * rate
        if self.flops is not None and self.flops.counting:  # such a step takes longer
            self._log(pl_module)
            return
        means = {"step": elapsed, "wait": min(waiting, elapsed)}
        flops = self.flops.of(batch) if self.flops is not None else None
        if flops is not None:
            means["flops"] = flops
        for name, value in means.items():
            self._means[name] = self.smoothing * self._means.get(name, value) + (1 - self.smoothing) * value
        seconds = self._means["step"]
        self.shares = {"data_wait": self._means["wait"] / seconds}
        if "flops" in self._means:
            self.shares["tflops"] = self._means["flops"] / seconds / 1e12
            if self.flops is not None and self.flops.peak:
                self.shares["mfu"] = self._means["flops"] / seconds / self.flops.peak
        self._log(pl_module)

    def _log(self, pl_module: LightningModule) -> None:
        if not cast(Model, pl_module).logs_now:
            return
        for name, value in {**{f"{unit}/s": rate for unit, rate in self.rates.items()}, **self.shares}.items():
            pl_module.log(name, value, prog_bar=name != "tflops", rank_zero_only=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last = None


def _waited(trainer: Trainer) -> float:
    loader: Any = trainer.train_dataloader
    return float(getattr(loader, "waited", 0.0))


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
        shares = self.throughput.shares
        if "tflops" in shares:
            parts.append(f"{shares['tflops']:.3g} TFLOP/s")
        if "mfu" in shares:
            parts.append(f"MFU {shares['mfu']:.1%}")
        if "data_wait" in shares:
            parts.append(f"data wait {shares['data_wait']:.0%}")
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
