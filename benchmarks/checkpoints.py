"""Checkpoints: what keeping states costs a training, by blocking and by asynchronous writes.

    python benchmarks/checkpoints.py --parameters 50 --steps 6

One process trains a stack of linear layers by AdamW, with an average of the weights: a state is four times the
parameters in float32. The ways of keeping states take turns: none, blocking and asynchronous, as a file and as shards;
each keeps one state after the first of its steps. Printed are the median step without a state, the stall of the step
that keeps one (its time beyond the median), the time until the state is whole, the slowdown of the steps meanwhile, the
bytes, and the memory that was held at most beyond training's own.
"""

import argparse
import copy
import json
import resource
import shutil
import statistics
import tempfile
import threading
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


class Memory:
    """The most memory that this process held while it was watched, in bytes; looked at every 5 ms."""

    def __enter__(self) -> "Memory":
        self.most, self._ends = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _watch(self) -> None:
        page = resource.getpagesize()
        while not self._ends.wait(0.005):
            self.most = max(self.most, int(Path("/proc/self/statm").read_text().split()[1]) * page)


def rounds(training: Training, folder: Path, steps: int, repeats: int) -> list[dict[str, Any]]:
    """Let each way of keeping states take its turn, ``repeats`` times."""
    ways = {"none": None} | {
        f"{'asynchronous' if beside else 'blocking'}, {layout}": CheckpointSpec(asynchronous=beside, layout=layout)
        for layout in ("file", "sharded")
        for beside in (False, True)
    }
    found: dict[str, dict[str, list[float]]] = {
        way: {key: [] for key in ("first", "others", "whole", "memory", "bytes")} for way in ways
    }
    for number in range(repeats + 1):  # the first is a warm-up
        for way, spec in ways.items():
            saver = Saver(folder / way / str(number), spec) if spec else None
            with Memory() as memory:
                times: list[float] = []
                whole = 0.0
                for step in range(steps):
                    begun = time.perf_counter()
                    training.step()
                    if step == 0 and saver:
                        started = time.perf_counter()
                        saver.save(training.trainer)
                    times.append(time.perf_counter() - begun)
                    if saver and not whole and not saver.writer.busy:
                        whole = time.perf_counter() - started
                if saver:
                    error = saver.writer.wait()
                    whole = whole or time.perf_counter() - started
                    if error is not None:
                        raise error
            if number:
                kept = found[way]
                kept["first"].append(times[0])
                kept["others"] += times[1:]
                kept["whole"].append(whole)
                kept["memory"].append(memory.most)
                kept["bytes"].append(sum(f.stat().st_size for f in (folder / way).rglob("*0*") if f.is_file()))
            if saver:
                saver.close()
                shutil.rmtree(folder / way)
    plain = statistics.median(found["none"]["first"] + found["none"]["others"])
    base = statistics.median(found["none"]["memory"])
    return [
        {
            "way": way,
            "step_s": statistics.median(kept["others"]),
            "stall_s": statistics.median(kept["first"]) - plain,
            "whole_after_s": statistics.median(kept["whole"]),
            "megabytes": statistics.median(kept["bytes"]) / 1e6,
            "more_memory_megabytes": (statistics.median(kept["memory"]) - base) / 1e6,
        }
        for way, kept in found.items()
    ]


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
    print("| states | step s | stall s | whole after s | MB | more memory MB |\n|---|---|---|---|---|---|")
    for row in table:
        numbers = " | ".join(f"{row[key]:.3f}" for key in ("step_s", "stall_s", "whole_after_s"))
        print(f"| {row['way']} | {numbers} | {row['megabytes']:.0f} | {row['more_memory_megabytes']:.0f} |")
    print(json.dumps(table))


if __name__ == "__main__":
    main()
