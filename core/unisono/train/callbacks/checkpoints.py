"""Resumable states on disk: written every so many steps and at the end, the newest kept."""

import os
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint


class KeepState(Checkpoint):
    """Write ``<step>.ckpt`` and ``last.ckpt``, one file under two names where the disk can do that.

    Lightning's ``ModelCheckpoint`` leaves the steps after the last multiple of its interval unsaved.
    """

    def __init__(self, folder: Path, every: int):
        self.folder = folder
        self.every = every
        self._saved = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every == 0:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if trainer.global_step == self._saved:
            return
        self._saved = trainer.global_step
        path = self.folder / f"{self._saved:07d}.ckpt"
        trainer.save_checkpoint(path, weights_only=False)
        if trainer.is_global_zero:
            last, aside = self.folder / "last.ckpt", self.folder / "last.part"
            aside.unlink(missing_ok=True)
            try:
                os.link(path, aside)
            except OSError:
                shutil.copyfile(path, aside)
            aside.replace(last)
            for older in self.folder.glob("[0-9]*.ckpt"):
                if older != path:
                    older.unlink()
