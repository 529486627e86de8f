"""What keys and values that are kept gain in drawing picture tokens: several at a time against one at a time.

    python benchmarks/ordered.py                          # 26 M weights, 256 tokens, 12 steps; 1 and 8 rows
    python benchmarks/ordered.py --steps 12 20 64         # other numbers of steps
    python benchmarks/ordered.py --quick                  # shows that everything runs

Each network draws the same 256 tokens in a few steps and in 256, by the same code, with what is known kept in both (the
256 are an autoregressive model with a cache); and in a few steps without keeping anything, all that is known computed
anew. Weights are random, which changes no cost. Contenders take turns in one process; times are of one thread's CPU
clock, the smallest of ``--repeats`` turns, so that a busy machine changes them little.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from unisono.masked import Cached, Canvas, Layout, QueryOnly, arpg, decode
from unisono_image.anyorder.decoding import in_groups
from unisono_image.anyorder.grouped import Grouped, GroupedSizes, GroupedView
from unisono_image.anyorder.groups import groups_of_row
from unisono_image.anyorder.two_pass import TwoPass, TwoPassSizes, View
from unisono_image.models.condition import Condition

CODES = 512


@dataclass(frozen=True)
class NothingKept:
    """All that is known and what is asked for, every time."""

    exact: ClassVar[bool] = True

    def __call__(self, canvas: Canvas, valid: Tensor, note: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return canvas.known | wanted, torch.zeros_like(valid), note


def main() -> None:
    """Measure and print a table, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--steps", type=int, nargs="+", default=[12])
    parser.add_argument("--side", type=int, default=16, help="tokens a side")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=["cpu", "wall"], default="cpu", help="cpu is of one thread")
    parser.add_argument("--quick", action="store_true", help="a small network, 64 tokens, one turn")
    args = parser.parse_args()
    if args.quick:
        args.dim, args.layers, args.side, args.repeats = 64, 2, 8, 1
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    side, n, heads = args.side, args.side**2, max(args.dim // 64, 1)
    nets: dict[str, Any] = {
        "arpg": TwoPass(
            TwoPassSizes(dim=args.dim, num_layers=args.layers, num_heads=heads), CODES, (side, side), args.dim
        ),
        "lpd": Grouped(GroupedSizes(dim=args.dim, num_layers=args.layers, num_heads=heads), CODES, n, args.dim),
    }
    print(f"{n} tokens of {CODES}, {args.threads} threads, {args.clock} time, smallest of {args.repeats} turns\n")
    print("| network | weights, M | rows | steps | kept, s | one at a time, s | gain | nothing kept, s |")
    print("|---|---|---|---|---|---|---|---|")
    for name, net in nets.items():
        net.eval().requires_grad_(False)
        weights = sum(parameter.numel() for parameter in net.parameters()) / 1e6
        for rows in args.rows:
            contenders = {
                (steps, kept): run_of(name, net, side, rows, steps, kept)
                for steps in args.steps
                for kept in (True, False)
            }
            contenders[n, True] = run_of(name, net, side, rows, n, True)
            best = fastest(contenders, args.repeats, args.clock)
            for steps in args.steps:
                few, one, none = best[steps, True], best[n, True], best[steps, False]
                times = f"{few:.3f} | {one:.3f} | {one / few:.1f} | {none:.3f}"
                print(f"| {name} | {weights:.1f} | {rows} | {steps} | {times} |", flush=True)


def run_of(name: str, net: Any, side: int, rows: int, steps: int, kept: bool) -> Callable[[], Tensor]:
    """Return what draws all tokens of some rows."""
    condition = Condition(
        torch.zeros(rows, net.sizes.dim), torch.zeros(rows, 0, net.sizes.dim), torch.ones(rows, 0).bool()
    )
    policy = QueryOnly() if kept else NothingKept()
    made = [groups_of_row(side, side, steps, seed=row)[0] for row in range(rows)] if name == "lpd" else []

    def run() -> Tensor:
        canvas = Canvas.blank(Layout.grid(side, side, CODES), list(range(rows)))
        if name == "arpg":
            return decode(Cached(View(net, net.begin(condition)), policy), canvas, arpg(steps)).tokens
        groups = torch.stack(made)
        return decode(Cached(GroupedView(net, net.begin(condition), groups), policy), canvas, in_groups(groups)).tokens

    return run


def fastest(contenders: dict[Any, Callable[[], Tensor]], repeats: int, clock: str) -> dict[Any, float]:
    """Return the smallest time of each, in turns."""
    now = time.perf_counter if clock == "wall" else time.process_time
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(repeats):
        for key, run in contenders.items():
            start = now()
            run()
            best[key] = min(best[key], now() - start)
    return best


if __name__ == "__main__":
    main()
