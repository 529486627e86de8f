"""Overhead: what a run's loop takes beside a bare loop of torch, step by step in one process.

    python benchmarks/train.py [--rounds 15] [--steps 4] [--sizes tiny middle] [--threads 1] [--clock wall|cpu]

Both loops train the same model on batches of the same loader: forward, backward, clipping, AdamW, schedule. The run has
its checks for NaN, its seeds, throughput, FLOPs, a logger and lines of progress besides; averages and previews are off,
as the bare loop has none. The loops take turns of ``--steps`` steps, so that a busy moment of the machine hits both.
Printed are the medians of a step in milliseconds, and the medians over turns of the difference and of the ratio. With
``--clock cpu`` the processor's time of this process is taken, which other processes on a busy machine do not lengthen.
"""

import argparse
import copy
import statistics
import tempfile
import time
from typing import Any

import torch
from lightning.pytorch import Callback
from unisono.recipe import Recipe
from unisono.train import train

SIZES = {
    "tiny": [],
    "middle": [
        *("--model.network.dim=256", "--model.network.num_layers=6", "--model.network.num_heads=4"),
        *("--data.num_items=128", "--data.context=128", "--data.batch_size=16"),
    ],
}
"""A model whose steps take a few milliseconds, and one of the size and the batches of the recipes for small corpora."""


class Turns(Callback):
    """After so many steps of the run, take as many with a twin in a bare loop; both are timed."""

    def __init__(self, steps: int, warm: int, clock: str):
        self.steps, self.warm = steps, warm
        self.clock = time.process_time if clock == "cpu" else time.perf_counter
        self.run: list[float] = []
        self.bare: list[float] = []
        self._begun = 0.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        trainer_of = pl_module._trainer
        pl_module._trainer = None  # the twin knows no trainer
        self.twin = copy.deepcopy(pl_module)
        pl_module._trainer = trainer_of
        self.optimizer = self.twin.optim.make(self.twin)
        self.schedule = self.twin.optim.scheduler(self.optimizer, trainer.max_steps)
        self.loader = copy.copy(trainer.train_dataloader)
        self.batches = iter(self.loader)
        self._begun = self.clock()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if trainer.global_step % self.steps:
            return
        middle = self.clock()
        for _ in range(self.steps):
            self._bare_step()
        end = self.clock()
        if trainer.global_step > self.warm:
            self.run.append((middle - self._begun) / self.steps)
            self.bare.append((end - middle) / self.steps)
        self._begun = self.clock()

    def _bare_step(self) -> None:
        batch = next(self.batches, None)
        if batch is None:
            self.batches = iter(self.loader)
            batch = next(self.batches)
        loss = self.twin.losses(batch)["loss"]
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.twin.parameters(), self.twin.optim.clip_norm)
        self.optimizer.step()
        self.schedule.step()


def measure(overrides: list[str], rounds: int, steps: int, clock: str) -> Turns:
    """Train with turns of both loops; the first few, in which FLOPs are counted, are left out."""
    warm = 4 * steps
    turns = Turns(steps, warm, clock)
    with tempfile.TemporaryDirectory() as folder:
        own = [
            f"--run.dir={folder}",
            "--run.ema_decay=0",
            "--run.preview_seconds=0",
            "--run.checkpoint.every=1000000",
            "--trainer.limit_val_batches=0",
            "--trainer.enable_model_summary=false",
            f"--trainer.max_steps={warm + rounds * steps}",
        ]
        train(Recipe.read("text/mdlm-tiny", [*own, *overrides]), progress=False, callbacks=[turns])
    return turns


def main() -> None:
    """Print a row for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", default="wall", choices=("wall", "cpu"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    turns_of = f"{args.rounds} turns of {args.steps} steps, {args.clock} time"
    print(f"torch {torch.__version__}, {args.threads} thread(s), {turns_of}")
    print("| size | a step of the run, ms | of the bare loop, ms | difference, ms | ratio |\n|---|---|---|---|---|")
    for size in args.sizes:
        turns = measure(SIZES[size], args.rounds, args.steps, args.clock)
        pairs = list(zip(turns.run, turns.bare, strict=True))
        ratio = statistics.median(run / bare for run, bare in pairs)
        more = 1e3 * statistics.median(run - bare for run, bare in pairs)
        run, bare = (1e3 * statistics.median(values) for values in (turns.run, turns.bare))
        print(f"| {size} | {run:.2f} | {bare:.2f} | {more:.2f} | {ratio:.3f} |", flush=True)


if __name__ == "__main__":
    main()
