"""Monotonic alignment search, side by side with the package that Glow-TTS and coqui users install.

    python benchmarks/alignment_search.py [--repeats 5] [--threads N]

Needs `monotonic-alignment-search` (dependency group `dev`). Same scores for all, one process,
taken in turns so that a busy moment of the machine hits everyone. The peer gets its own layout
(tokens x frames, contiguous, with a mask) prepared outside of the clock, and returns a path; ours
includes all checks and returns durations. Times are medians in ms, the fastest run in brackets.
"""

import argparse
import statistics
import time

import monotonic_alignment_search as peer
import torch
from rich.console import Console
from rich.table import Table
from unisono.duration import search

BLOCK_SECONDS = 0.4
SIZES = [(16, 512, 128), (16, 800, 200), (16, 2048, 512)]


def contenders(scores: torch.Tensor) -> dict:
    b, t, s = scores.shape
    src, tgt = torch.full((b,), s), torch.full((b,), t)
    turned = scores.transpose(1, 2).contiguous()
    mask = torch.ones_like(turned)
    runs = {
        "PyPI (Cython)": lambda: peer.maximum_path(turned, mask),
        "unisono, numba": lambda: search(scores, src, tgt, backend="numba"),
        "unisono, torch": lambda: search(scores, src, tgt, backend="torch"),
    }
    if torch.cuda.is_available():
        on_gpu = scores.cuda(), src.cuda(), tgt.cuda()
        runs["unisono, Triton"] = lambda: search(*on_gpu, backend="triton")
        runs["unisono, torch on GPU"] = lambda: search(*on_gpu, backend="torch")
    return runs


def measure(runs: dict, repeats: int) -> dict[str, list[float]]:
    """Time the runs in turn, in blocks of calls of equal duration: a training loop calls one of them again and again,
    not all in turn, and a processor that has just been idle is slow at first.

    Before a block is a pause, in which the threads of the block before stop spinning, and an untimed call."""
    times = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            time.sleep(0.3)
            run()
            end = time.perf_counter() + BLOCK_SECONDS
            while time.perf_counter() < end:
                start = time.perf_counter()
                run()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, help="CPU threads (default: what torch takes)")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)

    table = Table(title=f"alignment search, {torch.get_num_threads()} CPU threads, ms")
    table.add_column("batch x frames x tokens")
    generator = torch.Generator().manual_seed(0)
    for size in SIZES:
        runs = contenders(torch.randn(size, generator=generator))
        paths = {name: run() for name, run in runs.items()}
        expected = paths["PyPI (Cython)"].sum(2).long()
        if len(table.columns) == 1:
            for name in runs:
                table.add_column(name, justify="right")
            table.add_column("ratio to PyPI", justify="right")
        times = measure(runs, options.repeats)
        cells = [f"{statistics.median(t):.2f} ({min(t):.2f})" for t in times.values()]
        ours, theirs = times["unisono, numba"], times["PyPI (Cython)"]
        ratio = statistics.median(theirs) / statistics.median(ours)
        cells.append(f"{ratio:.0f} ({min(theirs) / min(ours):.0f})")
        table.add_row(" x ".join(map(str, size)), *cells)
        for name, path in paths.items():
            if name != "PyPI (Cython)" and not torch.equal(path.cpu(), expected):
                print(f"{name} found another path than the peer on {size}: scores that nearly tie")
    Console().print(table)


if __name__ == "__main__":
    main()
