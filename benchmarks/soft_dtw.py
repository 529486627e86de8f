"""Soft-DTW of a batch of spectrograms, forward and backward, on both backends.

    python benchmarks/soft_dtw.py [--band 60] [--items 16] [--frames 400] [--repeats 5]

One process, one thread, taken in turns. Times are medians of processor time in ms, the fastest run in brackets.
"""

import argparse
import statistics
import time
from collections import defaultdict

import torch
from rich.console import Console
from rich.table import Table
from unisono.duration import soft_dtw_l1


def run(backend: str, x: torch.Tensor, y: torch.Tensor, band: int) -> tuple[float, float]:
    """Return the processor time of forward and backward, in ms."""
    lengths = [torch.full((len(part),), part.shape[1]) for part in (x, y)]
    start = time.process_time()
    value = soft_dtw_l1(x, y, *lengths, gamma=0.05, warp_penalty=80.0, band=band, backend=backend)
    middle = time.process_time()
    value.sum().backward()
    return 1e3 * (middle - start), 1e3 * (time.process_time() - middle)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("band", 60), ("items", 16), ("frames", 400), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    shape = (options.items, options.frames, 80)
    x = torch.randn(shape, generator=generator).requires_grad_()
    y = torch.randn(shape, generator=generator)
    times = defaultdict(list)
    for repeat in range(options.repeats + 1):
        for backend in ("numba", "torch"):
            both = run(backend, x, y, options.band)
            if repeat:  # the first one compiles
                times[backend].append(both)
    table = Table(title=f"soft-DTW, {shape[0]} × {shape[1]} frames of 80 bins, band {options.band}, ms")
    for column in ("", "forward", "backward"):
        table.add_column(column)
    for backend, rows in times.items():
        cells = [f"{statistics.median(part):.0f} ({min(part):.0f})" for part in zip(*rows, strict=True)]
        table.add_row(backend, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
