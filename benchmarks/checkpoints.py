"""Checkpoints: what keeping states costs a training, by blocking and by asynchronous writes.

    python benchmarks/checkpoints.py --parameters 50 --steps 6

One process trains a stack of linear layers by AdamW, with an average of the weights: a state is four times the
parameters in float32. The ways of keeping states take turns: none, blocking and asynchronous, as a file and as shards;
each keeps one state, and takes a few steps. Printed are medians: a step with no write going on and with one, the stall
(how long training waits for the call that keeps a state), the time until the state is whole or the steps are done, the
bytes on the disk and those of the copy in memory. The slowdown of a step matters where training is on the same
processors; on a graphics card only the copy does.
"""

import argparse
import copy
import json
import shutil
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from unisono.recipe import CheckpointSpec
from unisono.train.states.names import by_name, parameter_names
from unisono.train.states.saver import Saver


class Training:
    """A model, its optimiser and its average, and what a saver asks a trainer for."""

    def __init__(self, millions: float, device: str):
        width = 1024
        torch.manual_seed(0)
        layers = [nn.Linear(width, width) for _ in range(max(round(millions * 1e6 / width**2), 1))]
        self.model = nn.Sequential(*[part for layer in layers for part in (layer, nn.GELU())]).to(device)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self.batch = torch.randn(64, width, device=device)
        self.trainer: Any = SimpleNamespace(
            global_step=0,
            lightning_module=self.model,
            is_global_zero=True,
            world_size=1,
            global_rank=0,
            _checkpoint_connector=SimpleNamespace(dump_checkpoint=self.state),
        )

    def state(self, weights_only: bool) -> dict[str, Any]:
        """What Lightning's checkpoint holds of tensors."""
        optimizer = by_name(self.optimizer.state_dict(), parameter_names(self.model, self.optimizer))
        return {
            "unisono": {"recipe": {}, "facts": {}},
            "state_dict": self.average.state_dict(),
            "current_model_state": self.model.state_dict(),
            "optimizer_states": [optimizer],
        }

    def step(self) -> None:
        """One step of training."""
        self.model(self.batch).square().mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            for mean, new in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(new, 0.01)
        if self.batch.is_cuda:
            torch.cuda.synchronize()
        self.trainer.global_step += 1


def rounds(training: Training, folder: Path, steps: int, repeats: int) -> list[dict[str, Any]]:
    """Let each way of keeping states take its turn, ``repeats`` times."""
    ways = {"none": None} | {
        f"{'asynchronous' if beside else 'blocking'}, {layout}": CheckpointSpec(asynchronous=beside, layout=layout)
        for layout in ("file", "sharded")
        for beside in (False, True)
    }
    keys = ("alone", "beside", "stall", "whole", "copy", "bytes")
    found: dict[str, dict[str, list[float]]] = {way: {key: [] for key in keys} for way in ways}
    for number in range(repeats + 1):  # the first is a warm-up
        for way, spec in ways.items():
            row = {key: [] for key in keys}
            saver = Saver(folder / way / str(number), spec) if spec else None
            begun = time.perf_counter()
            if saver:
                saver.save(training.trainer)
                row["stall"].append(time.perf_counter() - begun)
                row["copy"].append(saver.copies.nbytes)
            for _ in range(steps):
                busy, started = saver is not None and saver.writer.busy, time.perf_counter()
                training.step()
                row["beside" if busy else "alone"].append(time.perf_counter() - started)
            if saver:
                error = saver.writer.wait()
                row["whole"].append(time.perf_counter() - begun)
                if error is not None:
                    raise error
                row["bytes"].append(sum(f.stat().st_size for f in (folder / way).rglob("*0*") if f.is_file()))
                saver.close()
                shutil.rmtree(folder / way)
            if number:
                for key, values in row.items():
                    found[way][key] += values

    def middle(values: list[float]) -> float | None:
        return statistics.median(values) if values else None

    return [{"way": way, **{key: middle(values) for key, values in kept.items()}} for way, kept in found.items()]


def main() -> None:
    """Print a table, and the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=float, default=50, help="millions")
    parser.add_argument("--steps", type=int, default=6, help="between two states")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, help="where to write; else a temporary folder")
    given = parser.parse_args()
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")
    training = Training(given.parameters, given.device)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        table = rounds(training, Path(folder), given.steps, given.repeats)
    print("| states | step s | step s, writing | stall s | whole by s | MB | copy MB |\n|---|---|---|---|---|---|---|")
    for row in table:
        seconds = ["" if row[key] is None else f"{row[key]:.3f}" for key in ("alone", "beside", "stall", "whole")]
        sizes = ["" if row[key] is None else f"{row[key] / 1e6:.0f}" for key in ("bytes", "copy")]
        print(f"| {row['way']} | {' | '.join([*seconds, *sizes])} |")
    print(json.dumps(table))


if __name__ == "__main__":
    main()
