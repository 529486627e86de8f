"""Training on one GPU: tokens per second, MFU and peak memory of each switch, in about ten minutes on an H200.

    python benchmarks/gpu_train.py [--recipe text/mdlm-base] [--batch 64] [--steps 60] [--only NAME …]
    python benchmarks/gpu_train.py --smoke            two steps of everything at tiny size, on any machine

The network has the recipe's published size; its texts are drawn at random and its tokens are bytes, which changes the
first and last layer alone. Every row is a run by itself: bf16 alone; with ``run.compile``; with
``run.activation_checkpointing``; with both; with both on ``fsdp2`` of one rank; and with both and twice the batch. A
row that fails says why and the others go on. Rates are those of the run's own log at its end; memory is what torch's
allocator had at most. ``data_wait`` is the share of time that data were waited for.
"""

import argparse
import gc
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers.logger import DummyLogger
from unisono.recipe import Recipe
from unisono.train import train

COMPILE, AGAIN = "--run.compile=true", "--run.activation_checkpointing=true"
ROWS = {
    "bf16": [],
    "compile": [COMPILE],
    "checkpointing": [AGAIN],
    "both": [COMPILE, AGAIN],
    "both, fsdp2": [COMPILE, AGAIN, "--trainer.strategy=fsdp2"],
    "both, twice the batch": [COMPILE, AGAIN],
}
SHOWN = ("tokens/s", "tflops", "mfu", "data_wait")


class Keep(DummyLogger):
    """Keeps the newest value of each name."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, float] = {}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.values.update(metrics)


def write_texts(folder: Path, context: int, rows: int) -> None:
    """Write documents of random letters, each longer than a row."""
    draw = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz     "
    for index in range(rows):
        text = "".join(draw.choices(letters, k=2 * context))
        (folder / f"{index:04d}.txt").write_text(text, encoding="utf-8")


def measure(name: str, own: list[str], args: argparse.Namespace, texts: Path, device: str) -> dict[str, Any]:
    """Train a few steps; returns the rates, the seconds of a step, the peak memory, or the reason of a failure."""
    gc.collect()
    batch = args.batch * (2 if "twice" in name else 1)
    kept = Keep()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as runs:
        overrides = [
            f"--data.root={texts}",
            "--data.corpus.tokenizer=bytes",
            f"--data.context={args.context}",
            f"--data.batch_size={batch}",
            "--data.num_workers=0",
            f"--run.dir={runs}",
            "--run.preview_seconds=0",
            "--run.checkpoint.every=1000000",
            "--trainer.devices=1",
            "--trainer.strategy=auto",
            f"--trainer.accelerator={'gpu' if device == 'cuda' else 'cpu'}",
            f"--trainer.precision={'bf16-mixed' if device == 'cuda' else '32-true'}",
            f"--trainer.max_steps={args.steps}",
            "--trainer.limit_val_batches=0",
            "--trainer.enable_model_summary=false",
            f"--trainer.log_every_n_steps={max(args.steps // 10, 1)}",
            *own,
        ]
        begun = time.perf_counter()
        try:
            train(Recipe.read(args.recipe, overrides), progress=False, loggers=[kept])
        except Exception as error:  # a row that fails is a row of the table
            return {"row": name, "failed": f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"}
    row: dict[str, Any] = {"row": name, "batch": batch, "seconds": time.perf_counter() - begun}
    row |= {key: kept.values[key] for key in SHOWN if key in kept.values}
    if device == "cuda":
        row["peak GiB"] = torch.cuda.max_memory_allocated() / 2**30
    return row


def main() -> None:
    """Print a row of Markdown for each switch, and all of it as JSON with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="text/mdlm-base")
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--only", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.smoke:
        args.context, args.batch, args.steps = 64, 4, 2
        small = ["--model.network.dim=32", "--model.network.num_layers=2", "--model.network.num_heads=2"]
        small += ["--model.network.filter_dim=64"]
    else:
        small = []
        if device == "cpu":
            sys.exit("no CUDA device is here: --smoke tries the script without one")
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    print(f"{name}, torch {torch.__version__}, {args.recipe}, context {args.context}, {args.steps} steps\n")
    columns = ["row", "batch", *SHOWN, "peak GiB", "seconds"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    rows = []
    with tempfile.TemporaryDirectory() as texts:
        write_texts(Path(texts), args.context, 4 * args.batch)
        for label in args.only:
            row = measure(label, [*small, *ROWS[label]], args, Path(texts), device)
            rows.append(row)
            if "failed" in row:
                print(f"| {label} | {row['failed']} |", flush=True)
                continue
            cells = [
                f"{row[key]:.4g}" if isinstance(row.get(key), float) else str(row.get(key, "—")) for key in columns
            ]
            print(f"| {' | '.join(cells)} |", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"device": name, "rows": rows}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
