"""Claim: the numbered folder of a run, taken so that no two runs have the same.

A new number is taken by making its folder, which one process alone can do. While a run goes on it holds a lock on its
folder, so that it cannot be resumed twice. A job that its scheduler starts again (SLURM's requeue, torchrun's restart)
finds the folder that it began with.
"""

import json
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unisono.errors import CheckpointError, UnisonoError
from unisono.files import LOCK, lock_folder, writing_to, written_aside

JOB = "job.json"


@dataclass
class Claim:
    """A run's folder, held until ``close``; ``made`` are the folders that did not exist before."""

    folder: Path
    made: tuple[Path, ...] = ()
    _lock: int | None = None

    def close(self) -> None:
        """Let another process resume the run."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def release(self) -> None:
        """Remove the folder of a run that never began, and the folders above it that were made for it."""
        self.close()
        if self.made:
            for name in (LOCK, JOB):
                with suppress(OSError):
                    (self.folder / name).unlink()
        for folder in self.made:
            try:
                folder.rmdir()
            except OSError:
                return


def claim_new(parent: Path, job: dict[str, Any] | None = None) -> Claim:
    """Take the number after the highest in ``parent``; ``job`` is noted there, for ``find_job``."""
    with writing_to(parent, UnisonoError):
        missing = [folder for folder in (parent, *parent.parents) if not folder.exists()]
        while True:
            parent.mkdir(parents=True, exist_ok=True)
            folder = parent / f"{max(numbers_in(parent), default=0) + 1:04d}"
            try:
                folder.mkdir()
            except FileExistsError:  # another run took this number just now
                continue
            except FileNotFoundError:  # another run, refused, removed the parent just now
                continue
            break
        claim = Claim(folder, (folder, *missing))
        claim._lock = _locked(folder)
        if job is not None:
            with written_aside(folder / JOB) as aside:
                aside.write_text(json.dumps(job, indent=1), encoding="utf-8")
    return claim


def claim_again(folder: Path) -> Claim:
    """Take the folder of a run that is resumed; raises ``CheckpointError`` while another process trains in it."""
    with writing_to(folder, CheckpointError):
        return Claim(folder, _lock=_locked(folder))


def numbers_in(parent: Path) -> list[int]:
    """Return the numbers of a recipe's runs."""
    return [int(path.name) for path in parent.glob("*") if path.name.isdecimal() and path.name.isascii()]


def current_job(recipe: dict[str, Any]) -> tuple[dict[str, Any] | None, bool]:
    """Return what tells this job from others, None outside of one; and whether its scheduler started it again."""
    environ = os.environ
    if number := environ.get("SLURM_JOB_ID"):
        array = environ.get("SLURM_ARRAY_JOB_ID")
        name = f"slurm {array}_{environ.get('SLURM_ARRAY_TASK_ID')}" if array else f"slurm {number}"
        restarts = environ.get("SLURM_RESTART_COUNT", "0")
    elif number := environ.get("TORCHELASTIC_RUN_ID"):
        # without --rdzv-id all jobs are called "none"; the agent that starts again is one process
        name = f"torchrun {number if number != 'none' else f'{socket.gethostname()} {os.getppid()}'}"
        restarts = environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    else:
        return None, False
    return {"job": name, "recipe": recipe}, restarts.isdecimal() and int(restarts) > 0


def find_job(parent: Path, job: dict[str, Any]) -> Path | None:
    """Return the newest run in ``parent`` that this job began with the same recipe."""
    wanted = json.loads(json.dumps(job))
    for number in sorted(numbers_in(parent), reverse=True):
        folder = parent / f"{number:04d}"
        with suppress(OSError, ValueError, RecursionError):
            if json.loads((folder / JOB).read_text(encoding="utf-8")) == wanted:
                return folder
    return None


def _locked(folder: Path) -> int | None:
    return lock_folder(folder, "trains in", "start a new run", CheckpointError)
