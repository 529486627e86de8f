"""Resumable states on disk: written every so many steps and at the end, the newest kept."""

import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer import call

from unisono.errors import CheckpointError
from unisono.export.state_folder import encode
from unisono.export.training_state import LAST_FILE, LAST_FOLDER, newest_state
from unisono.files import writing_to
from unisono.recipe import CheckpointSpec
from unisono.train.states.attach import attach, is_attachable
from unisono.train.states.saver import REMEDY, Saver, as_checkpoint_error


class KeepState(Checkpoint):
    """Keep states of a run in ``folder``, as ``run.checkpoint`` says.

    Lightning's ``ModelCheckpoint`` leaves the steps after the last multiple of its interval unsaved. A write goes on
    beside training where that saves time; the next one waits for it, and so does the end of the run, whatever ends it.
    """

    def __init__(self, folder: Path, spec: CheckpointSpec):
        self.folder = folder
        self.spec = spec
        self.saver = Saver(folder, spec)
        self._saved = 0

    @property
    def last(self) -> Path | None:
        """The newest whole state on disk, once there is one."""
        return newest_state(self.folder.parent)

    @property
    def failed(self) -> bool:
        """Whether a write beside training has ended badly."""
        return self.saver.writer.failed

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        attach(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved = trainer.global_step
        encode(call._call_callbacks_state_dict(trainer), {}, ("callbacks",))  # what could not be read back is said now
        if trainer.is_global_zero:
            self.saver.shelf.clean()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.spec.every == 0:
            self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save(trainer, wait=True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        error = self.saver.writer.wait()  # what is being written becomes whole
        if error is not None and trainer.is_global_zero:
            print(f"unisono: {as_checkpoint_error(error, self.folder)}", file=sys.stderr, flush=True)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.saver.close()

    def save(self, trainer: Trainer, *, wait: bool = False) -> None:
        """Take the state at the end of a step, unless it is taken already; all ranks call it.

        ``wait``: return when it is whole on the disk. Raises ``CheckpointError`` where this write, or one before that
        went on beside training, fails.
        """
        if trainer.global_step != self._saved:
            self._take(trainer)
        if wait:
            self.settle(trainer)

    def keep(self, trainer: Trainer, name: str) -> Path:
        """Keep the state at the end of this step as ``<name>.ckpt``, or the folder ``<name>``, too; written once.

        A state that had the name before is replaced; one of another name stays until it is removed. Where the write
        goes on beside training the path is there when it has ended. All ranks call it.
        """
        reserved = not name or name.isdecimal() or name.startswith(".") or Path(name).name != name
        if reserved or name in (LAST_FOLDER, LAST_FILE.partition(".")[0]):
            raise CheckpointError(
                f"a state cannot be kept as {name!r:.80}: give a plain name that is no number and not 'last'",
                code="value",
                path="name",
                value=name,
            )
        if self.saver.step != trainer.global_step:  # saved by the process that this one resumes, perhaps
            self._take(trainer)
        return self.saver.name(trainer, name)

    def settle(self, trainer: Trainer) -> None:
        """Wait for the write that goes on; raises ``CheckpointError`` on all ranks where it failed on one."""
        error = self.saver.writer.wait()
        failed = error is not None
        if trainer.world_size > 1:
            told = torch.tensor(int(failed), device=trainer.lightning_module.device)
            torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
            failed = bool(told)
        if error is not None:
            self._saved = -1
            raise as_checkpoint_error(error, self.folder) from error
        if failed:
            raise CheckpointError(
                f"another process could not write the state: see what it printed; {REMEDY}",
                code="write",
                path=self.folder,
            )

    def save_before_step(self, trainer: Trainer) -> None:
        """Write the state of the last boundary between steps, to which loops and buffers were put back."""
        self.save(trainer, wait=True)

    def _take(self, trainer: Trainer) -> None:
        self.settle(trainer)
        self._saved = trainer.global_step
        if is_attachable(trainer.strategy):
            if not self.saver.save(trainer):
                self.settle(trainer)
            return
        with writing_to(self.folder, CheckpointError, REMEDY):
            self.saver.save_by_strategy(trainer)
