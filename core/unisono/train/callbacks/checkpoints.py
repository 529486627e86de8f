"""Resumable states on disk: written every so many steps and at the end, the newest kept."""

import os
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loops.progress import _ProcessedTracker as ProcessedTracker

from unisono.errors import CheckpointError
from unisono.files import writing_to, written_aside


class KeepState(Checkpoint):
    """Write ``<step>.ckpt`` and ``last.ckpt``, one file under two names where the disk can do that.

    Lightning's ``ModelCheckpoint`` leaves the steps after the last multiple of its interval unsaved.

    Attributes:
        last: the newest state on disk, once there is one.
    """

    def __init__(self, folder: Path, every: int):
        self.folder = folder
        self.every = every
        self.last: Path | None = None
        self._saved = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved = trainer.global_step
        if (self.folder / "last.ckpt").is_file():
            self.last = self.folder / "last.ckpt"

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every == 0:
            self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Write the state at the end of a step, unless it is written already."""
        if trainer.global_step == self._saved:
            return
        self._saved = trainer.global_step
        path, last = self.folder / f"{self._saved:07d}.ckpt", self.folder / "last.ckpt"
        with writing_to(self.folder, CheckpointError, "free some space, and go on with --resume"):
            trainer.save_checkpoint(path, weights_only=False)
            if trainer.is_global_zero:
                _keep_as(path, last)
                for older in self.folder.glob("[0-9]*.ckpt"):
                    if older != path:
                        older.unlink(missing_ok=True)
        self.last = last

    def keep(self, trainer: Trainer, name: str) -> Path:
        """Keep the state at the end of this step as ``<name>.ckpt`` too; it is written once.

        A state that had the name before is replaced; one of another name stays until its file is removed. All ranks
        call it.
        """
        self.save(trainer)
        kept = self.folder / f"{name}.ckpt"
        if trainer.is_global_zero:
            with writing_to(self.folder, CheckpointError, "free some space, and go on with --resume"):
                _keep_as(self.folder / f"{trainer.global_step:07d}.ckpt", kept)
        return kept

    def save_before_step(self, trainer: Trainer) -> None:
        """Write the state as it was before the step in progress, whose weights are not updated yet.

        With accumulated gradients that is no boundary between steps, and what was written before stays the newest.
        """
        if trainer.accumulate_grad_batches != 1:
            return
        progress = trainer.fit_loop.epoch_loop.batch_progress
        for counts in (progress.total, progress.current):
            assert isinstance(counts, ProcessedTracker)
            counts.ready = counts.started = counts.completed
        self.save(trainer)


def _keep_as(path: Path, other: Path) -> None:
    """Give a file a second name, or copy it where the disk has no links."""
    with written_aside(other, CheckpointError) as aside:
        try:
            os.link(path, aside)
        except OSError:
            shutil.copyfile(path, aside)
