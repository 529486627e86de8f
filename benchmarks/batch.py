"""Batches: the verb against the API in a loop, two workers against one, and what a million hours would take.

    python benchmarks/batch.py --count 10000     # loop, 1 and 2 workers, interleaved; one thread each
    python benchmarks/batch.py --table --rows-per-second 5.6 --seconds-per-row 4.4      # arithmetic from such rates

Rates are of rows after the first one, so that loading is told by itself. Each figure is of a process of its own, and
processor time per row is told beside wall time, since the former hardly depends on what else the machine does.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

WORDS = "the morning train was late because snow had covered every road between both towns and nobody came to work"


def lines_of(count: int) -> list[str]:
    """Return sentences of many lengths, all different."""
    words = WORDS.split()
    return [
        f"Number {row}: {' '.join(words[(row + k) % len(words)] for k in range(4 + row * 7 % 15))}."
        for row in range(count)
    ]


def processor_seconds() -> float:
    """Return what this process and those that it has waited for used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in used)


def measure_loop(model: str, count: int, folder: Path, suffix: str) -> dict[str, float]:
    """Call the API for each line in turn and write the file, without asking the disk to have it."""
    import torch
    import unisono

    torch.set_num_threads(1)
    begun = time.perf_counter()
    voice = unisono.load(model)
    voice(lines_of(1)[0])  # first calls prepare what others use
    loaded, used, amount = time.perf_counter(), processor_seconds(), 0.0
    for row, line in enumerate(lines_of(count)):
        made = voice(line)
        (folder / f"{row:06d}{suffix}").write_bytes(made.encoded(suffix))
        amount += made.amount[0]
    now = time.perf_counter()
    return {
        "load": loaded - begun,
        "rows_per_second": count / (now - loaded),
        "processor_ms_per_row": 1e3 * (processor_seconds() - used) / count,
        "amount_per_row": amount / count,
        "peak_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measure_batch(
    model: str, count: int, folder: Path, suffix: str, workers: int, engine: str, shard_size: int
) -> dict[str, float]:
    """Make the same lines in a batch."""
    import unisono
    from unisono.batch import Options, run_batch

    source = folder / "lines.txt"
    source.write_text("".join(f"{line}\n" for line in lines_of(count)), encoding="utf-8")
    begun = time.perf_counter()
    seen: list[tuple[float, float, int]] = []

    def on_made(rows: int) -> None:
        if rows:
            seen.append((time.perf_counter(), processor_seconds(), rows))

    options = Options(suffix=suffix, workers=workers, engine=engine, shard_size=shard_size)
    outcome = run_batch(partial(unisono.load, model), str(source), folder / "out", options, on_made=on_made)
    assert outcome.made == count, outcome
    now, used = time.perf_counter(), processor_seconds()
    first, before, rows = seen[0]
    here = engine == "local" and workers == 1
    return {
        "load": first - begun,
        "rows_per_second": (count - rows) / (now - first),
        # that of other processes is told when they have ended, with their start
        "processor_ms_per_row": 1e3 * (used - before if here else used) / (count - rows if here else count),
        "shards_MiB": sum(path.stat().st_size for path in (folder / "out").glob("*.tar")) / 2**20,
        "peak_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def table(args: argparse.Namespace) -> None:
    """Carry measured rates to a corpus of many hours."""
    rows = args.hours * 3600 / args.seconds_per_row
    speed = args.rows_per_second * args.seconds_per_row * args.cores * args.scaling
    shards = rows / args.shard_size
    lost = args.shard_size / args.rows_per_second * args.cores / 2
    print(f"assumed: {args.hours:,.0f} hours in rows of {args.seconds_per_row} s ({rows:,.0f} rows);")
    print(f"  {args.rows_per_second} rows a second on one core; machines of {args.cores} cores, a worker on each, of")
    print(f"  which {args.scaling:.0%} of the rate remains (memory bandwidth): {speed:,.0f} × real time a machine;")
    print(
        f"  {args.kilobits} kbit/s as stored; a machine fails every {args.hours_between_failures:,.0f} hours, and then"
    )
    print(f"  loses half of {args.cores} shards of {args.shard_size} rows ({lost:,.0f} core seconds) and a restart;")
    print("  machines share one file system and divide the input; nothing else slows them down")
    print(f"storage: {args.hours * 3600 * args.kilobits * 125 / 1e12:,.1f} TB in {shards:,.0f} shards")
    print(f"manifests: {rows * 430 / 1e9:,.0f} GB; indexes while it runs: {rows * 150 / 1e9:,.0f} GB on disk")
    print(f"{'machines':>9} {'days':>9} {'machine hours':>14} {'failures':>9} {'work repeated':>14}")
    for machines in (1, 10, 100, 1000):
        hours = args.hours / speed
        failures = hours / args.hours_between_failures
        repeated = failures * (lost / args.cores / 3600 + args.restart_minutes / 60) / hours
        print(f"{machines:>9} {hours / machines / 24:>9,.1f} {hours:>14,.0f} {failures:>9,.1f} {repeated:>14.4%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="checkpoints/tts-en")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--suffix", default=".flac")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--shard-size", type=int, default=256)
    parser.add_argument("--ray", action="store_true", help="measure Ray with as many actors, too")
    parser.add_argument("--table", action="store_true", help="print the arithmetic only")
    parser.add_argument("--hours", type=float, default=1e6)
    parser.add_argument("--rows-per-second", type=float, default=5.6)
    parser.add_argument("--seconds-per-row", type=float, default=4.4)
    parser.add_argument("--cores", type=int, default=32)
    parser.add_argument("--scaling", type=float, default=0.8)
    parser.add_argument("--kilobits", type=float, default=230.0)
    parser.add_argument("--hours-between-failures", type=float, default=2000.0)
    parser.add_argument("--restart-minutes", type=float, default=5.0)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.table:
        table(args)
        return
    if args.measure:
        engine, workers = args.measure.split(":")
        with tempfile.TemporaryDirectory() as place:
            given = (args.model, args.count, Path(place), args.suffix)
            if engine == "loop":
                found = measure_loop(*given)
            else:
                found = measure_batch(*given, int(workers), engine, args.shard_size)
        print(json.dumps(found))
        return
    engines = ["loop:1", *(f"local:{n}" for n in args.workers), *(f"ray:{n}" for n in args.workers if args.ray)]
    print(f"{args.count} rows of {args.model}; load averages {os.getloadavg()}, {os.cpu_count()} cores")
    for number in range(args.rounds):
        for engine in engines if number % 2 == 0 else engines[::-1]:
            command = [sys.executable, __file__, *sys.argv[1:], "--measure", engine]
            environ = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, capture_output=True, text=True, env=environ)
            if done.returncode:
                raise SystemExit(done.stderr)
            found = json.loads(done.stdout.splitlines()[-1])
            print(f"{engine:>8}  " + "  ".join(f"{name} {value:,.2f}" for name, value in found.items()), flush=True)


if __name__ == "__main__":
    main()
