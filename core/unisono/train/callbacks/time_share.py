"""Time share: how much of ``trainer.max_time`` is over, so that schedules end with it."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer

from unisono.model import Model


class TimeShare(Callback):
    """Tell the model before each step; all ranks hear what rank 0 measured. A resumed run counts the time before."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if isinstance(pl_module, Model):
            pl_module.time_share = 0.0 if _timers(trainer) else None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if not isinstance(pl_module, Model) or pl_module.time_share is None:
            return
        share = max(_share(timer) for timer in _timers(trainer))
        pl_module.time_share = trainer.strategy.broadcast(share) if trainer.world_size > 1 else share


def _timers(trainer: Trainer) -> list[Timer]:
    holder: Any = trainer  # Lightning puts the callbacks there without declaring them
    return [callback for callback in holder.callbacks if isinstance(callback, Timer)]


def _share(timer: Timer) -> float:
    left = timer.time_remaining()
    elapsed = timer.time_elapsed()
    return 0.0 if left is None else elapsed / max(elapsed + left, 1e-9)
