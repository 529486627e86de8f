"""Streams of many rows: the pass over the shards, a second start, memory and disk per row, and planning an epoch.

    python benchmarks/stream.py --rows 100000 1000000

Rows are short texts in tar shards of 10,000, written first. Each figure is of a process of its own.
"""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

PER_SHARD = 10_000


def write_shards(folder: Path, rows: int) -> None:
    """Write shards of short texts."""
    for shard in range(-(-rows // PER_SHARD)):
        with tarfile.open(folder / f"{shard:04d}.tar", "w") as archive:
            for row in range(shard * PER_SHARD, min(rows, (shard + 1) * PER_SHARD)):
                data = f"Row {row} says {row * 7919 % 10007} and {'again ' * (row % 9)}.".encode()
                member = tarfile.TarInfo(f"{row:08d}.txt")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def measure(root: str, batches: int) -> dict[str, float]:
    """Prepare a stream in this process, plan an epoch and read batches."""
    from unisono_text.corpus.stream import TextStream

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun, cpu = time.perf_counter(), time.process_time()
    data = TextStream(root, context=32, tokenizer="bytes", batch_size=64)
    data.prepare(progress=False)
    prepared, used = time.perf_counter() - begun, time.process_time() - cpu
    loader = data.train_dataloader()
    begun = time.perf_counter()
    plan = loader.plan.batches(1)
    planned = time.perf_counter() - begun
    begun = time.perf_counter()
    for _, batch in zip(range(batches), loader, strict=False):
        assert len(batch["tokens"])
    read = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "rows": len(data.train_set) + len(data.val_set),
        "prepare_seconds": prepared,
        "prepare_cpu_seconds_here": used,
        "plan_seconds": planned,
        "batches": len(plan),
        "rows_read_per_second": 64 * batches / read,
        "more_memory_MiB": (after - before) / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000])
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.batches)))
        return
    for rows in args.rows:
        with tempfile.TemporaryDirectory() as place:
            shards, cache = Path(place) / "shards", Path(place) / "cache"
            shards.mkdir()
            write_shards(shards, rows)
            environ = {**os.environ, "UNISONO_CACHE": str(cache)}
            command = [sys.executable, __file__, "--measure", str(shards), "--batches", str(args.batches)]
            for start in ("first", "second"):
                found = json.loads(subprocess.run(command, env=environ, check=True, capture_output=True).stdout)
                disk = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
                print(f"{start} start:", {k: round(v, 2) for k, v in found.items()}, f"index {disk / rows:.0f} B a row")


if __name__ == "__main__":
    main()
