"""Signals: a run that is told to stop saves its state first.

SIGTERM and Ctrl-C end the run after the step in progress: the state is written, said, and the exit code is what
schedulers read (143 and 130). ``run.stop_seconds`` is the time that this may take; a second Ctrl-C ends it at once.
In a SLURM job SIGUSR1 (``sbatch --signal``) saves the state and has the job requeued.
"""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from unisono.train.callbacks.checkpoints import KeepState

SAME_PRESS = 0.25
"""Seconds within which a second SIGINT is the same one, handed on by a launcher."""


class Stopped(SystemExit):
    """A run that was told to stop, and did; ``code`` is 128 plus the signal's number, ``state`` what it can go on from.

    Uncaught it ends the process with that code.
    """

    def __init__(self, number: int, state: Path | None = None):
        super().__init__(128 + number)
        self.signal = signal.Signals(number)
        self.state = state

    def __str__(self) -> str:
        told = f"stopped by {self.signal.name}"
        if self.state is None:
            return f"{told}: no step was finished, so that nothing was saved"
        return f"{told}: the state is in {self.state}; go on with --resume"


class Signals:
    """What this process was told, and how it answers; ``handled()`` puts it in charge."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.training = False
        self.received: int | None = None
        self.began: Path | None = None  # the state that the run goes on from
        self.keep: KeepState | None = None
        self._process = os.getpid()
        self._first = 0.0
        self._before: dict[int, Any] = {}
        self._end: threading.Timer | None = None

    @property
    def last(self) -> Path | None:
        """The newest state on disk."""
        return (self.keep.last if self.keep is not None else None) or self.began

    @contextmanager
    def handled(self) -> Iterator["Signals"]:
        """Answer the signals until the end of the block; elsewhere than in the main thread nothing is changed."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        self._before = {number: signal.getsignal(number) for number in _numbers()}
        try:
            self.take()
            yield self
        finally:
            if self._end is not None:
                self._end.cancel()
            for number, handler in self._before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
            self._before = {}

    def take(self) -> None:
        """Take the signals (again: Lightning sets handlers of its own, which would save in the middle of a step)."""
        for number in self._before:
            signal.signal(number, self._told)

    def resume(self) -> None:
        """Forget what was told: training goes on."""
        if self._end is not None:
            self._end.cancel()
        self.received, self.training = None, True

    def _told(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker: its parent decides, but may end it
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        if not self.training:
            raise Stopped(number, self.last)
        if self.received is None:
            self.received, self._first = number, time.monotonic()
            self._end = threading.Timer(self.seconds, self._give_up)
            self._end.daemon = True
            self._end.start()
            again = "; again to stop at once" if number == signal.SIGINT else ""
            _say(f"{signal.Signals(number).name}: the state is saved after this step{again}")
        elif number == signal.SIGINT and time.monotonic() - self._first > SAME_PRESS:
            self._exit("stopped at once")

    def _give_up(self) -> None:
        self._exit(f"this step took longer than run.stop_seconds={self.seconds:g}")

    def _exit(self, why: str) -> None:
        from_here = "nothing was saved" if self.last is None else f"the newest state is {self.last}"
        _say(f"{why}; {from_here}")
        os._exit(128 + (self.received or signal.SIGTERM))


class StopOnSignal(Checkpoint):
    """Save the state and end the run at the end of the step in which a signal came; ranks decide together.

    It is a ``Checkpoint``, so that it comes after ``KeepState`` and whatever else ends a step.
    """

    def __init__(self, signals: Signals, keep: KeepState):
        self.signals = signals
        self.keep = signals.keep = keep

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.take()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.take()
        self.signals.training = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        number, failed = self._told(trainer, pl_module, self.keep.failed)
        if failed:
            self.keep.settle(trainer)
        if number:
            self._stop(trainer, number)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        # all ranks have the same batches, and end at the same one
        if not trainer.sanity_checking and self._told(trainer, pl_module)[0]:
            raise StopIteration  # ends this validation; the next step saves

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.training = False  # the state is saved

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.signals.training = False
        if self.signals.received is None or isinstance(exception, Stopped) or trainer.world_size > 1:
            return
        counts = trainer.fit_loop.epoch_loop.batch_progress.total
        if counts.ready == counts.completed:  # between two steps: a worker that loads data was ended, say
            self.keep.save(trainer, wait=True)

    def _told(self, trainer: Trainer, module: LightningModule, failed: bool = False) -> tuple[int, bool]:
        """The signal that any rank has received, 0 for none, and whether the write of a state has failed on any."""
        mine = (self.signals.received or 0, int(failed))
        if trainer.world_size > 1:
            told = torch.tensor(mine, device=module.device)
            torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
            number, wrong = told.tolist()
            return number, bool(wrong)
        return mine[0], failed

    def _stop(self, trainer: Trainer, number: int) -> None:
        self.keep.save(trainer, wait=True)
        self.signals.training = False
        if number == _requeue_signal():
            requeued = trainer.strategy.broadcast(_requeue() if trainer.is_global_zero else False)
            if not requeued:  # use the time that the job has left
                self.signals.resume()
                return
        raise Stopped(number, self.keep.last)


def _numbers() -> list[int]:
    numbers: list[int] = [signal.SIGTERM, signal.SIGINT]
    if (requeue := _requeue_signal()) is not None:
        numbers.append(requeue)
    return numbers


def _requeue_signal() -> int | None:
    """The signal that has this job requeued; None outside of a SLURM job."""
    if "SLURM_JOB_ID" not in os.environ or not hasattr(signal, "SIGUSR1"):
        return None
    return signal.SIGUSR1


def _requeue() -> bool:
    """Have this SLURM job started again; whether that worked."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]
    command = shutil.which("scontrol")
    if command is None:
        _say(f"the job {job} cannot be requeued: there is no scontrol here; training goes on")
        return False
    done = subprocess.run([command, "requeue", job], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        _say(f"the job {job} was not requeued ({done.stderr.strip() or done.returncode}); training goes on")
        return False
    _say(f"the job {job} is requeued, and goes on in this folder")
    return True


def _say(sentence: str) -> None:
    """Write a line past Python's buffers, in which a handler may have interrupted another writer."""
    os.write(2, f"unisono: {sentence}\n".encode("utf-8", "replace"))
