"""Training in processes of its own, as a shell or a scheduler starts it."""

import os
import subprocess
import sys
import time
from pathlib import Path

SLOW = """
import os, sys, time
from lightning.pytorch import Callback
import unisono.train.run as run
from unisono import cli

class Slow(Callback):
    def on_train_batch_start(self, *args):
        time.sleep(0.05 if args[0].global_step < 2 else float(os.environ.get("STEP", "0.05")))

    def on_validation_batch_end(self, trainer, *args):
        if not trainer.sanity_checking and "VALIDATION_STEP" in os.environ:
            print("validating", file=sys.stderr, flush=True)
            time.sleep(float(os.environ["VALIDATION_STEP"]))

made = run._trainer
run._trainer = lambda *args: made(*args[:5], [Slow(), *args[5]], *args[6:])
sys.exit(cli.main(sys.argv[1:]))
"""


def arguments(folder: Path, *more: str) -> list[str]:
    """A command that trains the smallest vocoder for a long time."""
    return [
        "train",
        "codec/vocos-tiny",
        f"--run.dir={folder}",
        "--trainer.max_steps=100000",
        "--trainer.enable_model_summary=false",
        "--run.preview_seconds=0",
        "--no-progress",
        *more,
    ]


def start(command: list[str], environ: dict[str, str] | None = None) -> subprocess.Popen:
    """Start ``unisono``; a step sleeps for a while, from the third on for STEP seconds."""
    return subprocess.Popen(
        [sys.executable, "-c", SLOW, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environ or {})},
    )


def wait_for_steps(process: subprocess.Popen) -> None:
    """Wait until a step is done, which the first line about progress says."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step "):
            return
    raise AssertionError(f"ended early: {process.wait()}")


def stop(process: subprocess.Popen, number: int) -> tuple[int, str, float]:
    """Send a signal; return the exit code, what was said, and the seconds that it took."""
    begun = time.monotonic()
    process.send_signal(number)
    out, error = process.communicate(timeout=60)
    return process.returncode, out + error, time.monotonic() - begun
