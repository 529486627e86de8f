"""Pictures by tokens: a masked network in a few steps against the same one token at a time with a cache.

    python benchmarks/pictures.py                         # 26 M weights, 256 tokens; 8, 12 and 36 steps; 1 and 8 rows
    python benchmarks/pictures.py --guidance              # every evaluation twice
    python benchmarks/pictures.py --only arpg lpd         # some contenders, beside the first
    python benchmarks/pictures.py --quick                 # shows that everything runs

One transformer (`unisono_image.models.token_transformer`) with random weights, which changes no cost. One token at a
time it reads what came before, causally, and keeps keys and values; in a few steps it reads the whole grid each time,
by `unisono.masked.maskgit`, the sampler's own work included. ARPG's and LPD's networks of as many channels and layers
read each token once and keep its keys and values; nothing of a query is kept. Contenders take turns in one process;
times are of the process's CPU clock (``--clock wall`` for one that has the machine to itself), the smallest of
``--repeats`` turns.

A contender is an entry of `ENTRIES`: a name and what makes, for some rows, a function that draws all their tokens.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from unisono.masked import Cached, Canvas, Layout, QueryOnly, arpg, decode, halton, maskgit, with_guidance
from unisono.masked.model import StreamNetwork
from unisono.nn.attention import attend, split_heads
from unisono.nn.condition import Condition
from unisono_image.anyorder.decoding import in_groups
from unisono_image.anyorder.grouped import Grouped, GroupedSizes, GroupedView
from unisono_image.anyorder.groups import groups_of_row
from unisono_image.anyorder.two_pass import TwoPass, TwoPassSizes, View
from unisono_image.models.maskgit_sizes import TokenNetSizes
from unisono_image.models.token_transformer import TokenTransformer


@dataclass(frozen=True)
class Bench:
    """What is drawn: ``side`` × ``side`` tokens of ``codes`` by ``net``, guided or not."""

    net: TokenTransformer
    side: int
    codes: int
    guided: bool

    def condition(self, rows: int) -> Condition:
        """Return no condition at all, for some rows."""
        dim = self.net.dense.in_features
        return Condition(torch.zeros(rows, dim), torch.zeros(rows, 0, dim), torch.ones(rows, 0, dtype=torch.bool))

    def in_steps(self, steps: int, sampler: str, rows: int) -> Callable[[], Tensor]:
        """Return what draws in so many evaluations of the whole grid."""

        def network() -> StreamNetwork:
            def predict(tokens: Tensor, known: Tensor, condition: Condition) -> Tensor:
                return self.net(tokens[..., 0], known[..., 0], condition)[:, :, None]

            return StreamNetwork(predict, 1, self.condition(rows))

        strategy = maskgit(steps) if sampler == "maskgit" else halton(self.side, self.side, steps)
        if self.guided:
            strategy = with_guidance(strategy, 2.0, network())
        layout = Layout.grid(self.side, self.side, self.codes)
        return lambda: decode(network(), Canvas.blank(layout, list(range(rows))), strategy).tokens

    def one_by_one(self, rows: int) -> Callable[[], Tensor]:
        """Return what draws one token after the other, keys and values of all before kept."""
        count = rows * (2 if self.guided else 1)
        n, dim = self.side**2, self.net.dense.in_features

        def run() -> Tensor:
            trunk, made = self.net.trunk, []
            blocks: list[Any] = list(trunk.blocks)
            heads = blocks[0].attend.num_heads
            kept = [torch.zeros(2, count, heads, n, dim // heads) for _ in blocks]
            token = torch.full((count,), self.codes)  # what is not known begins the row
            generator = torch.Generator().manual_seed(0)
            for i in range(n):
                x = (trunk.table(token) + trunk.places[i])[:, None]
                for block, memory in zip(blocks, kept, strict=True):
                    y, own = block.attend_norm(x), block.attend
                    q, k, v = (split_heads(to(y), heads) for to in (own.to_q, own.to_k, own.to_v))
                    memory[0, :, :, i : i + 1], memory[1, :, :, i : i + 1] = k, v
                    x = x + own.to_out(attend(q, memory[0, :, :, : i + 1], memory[1, :, :, : i + 1]))
                    x = x + block.feed_out(F.gelu(block.feed_in(block.feed_norm(x))))
                hidden = self.net.head_norm(F.gelu(self.net.dense(trunk.norm(x[:, 0]))))
                logits = F.linear(hidden, trunk.table.weight[: self.codes], self.net.head_bias)
                if self.guided:
                    conditional, without = logits.chunk(2)
                    logits = conditional + (conditional - without)
                drawn = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
                token = drawn.repeat(2) if self.guided else drawn
                made.append(drawn)
            return torch.stack(made, 1)

        return run

    def in_order(self, model: str, steps: int, rows: int) -> Callable[[], Tensor]:
        """Return what draws by ARPG's or LPD's network, whose keys and values are kept."""
        dim, layers = self.net.dense.in_features, len(self.net.trunk.blocks)
        layout, condition = Layout.grid(self.side, self.side, self.codes), self.condition(rows)
        heads, seeds = max(dim // 64, 1), list(range(rows))
        if model == "arpg":
            sizes = TwoPassSizes(dim=dim, num_layers=layers, num_heads=heads)
            net = TwoPass(sizes, self.codes, (self.side, self.side), dim).eval().requires_grad_(False)

            def view() -> Cached:
                return Cached(View(net, net.begin(condition)), QueryOnly())

            strategy = arpg(steps)
        else:
            grouped = GroupedSizes(dim=dim, num_layers=layers, num_heads=heads)
            other = Grouped(grouped, self.codes, self.side**2, dim).eval().requires_grad_(False)
            groups = torch.stack([groups_of_row(self.side, self.side, steps, seed=seed)[0] for seed in seeds])

            def view() -> Cached:
                return Cached(GroupedView(other, other.begin(condition), groups), QueryOnly())

            strategy = in_groups(groups)
        if self.guided:
            strategy = with_guidance(strategy, 2.0, view())
        return lambda: decode(view(), Canvas.blank(layout, seeds), strategy).tokens


ENTRIES: dict[str, Callable[[Bench, int], Callable[[], Tensor]]] = {
    "one at a time, cached": lambda bench, rows: bench.one_by_one(rows),
    "maskgit, 8 steps": lambda bench, rows: bench.in_steps(8, "maskgit", rows),
    "maskgit, 12 steps": lambda bench, rows: bench.in_steps(12, "maskgit", rows),
    "maskgit, 36 steps": lambda bench, rows: bench.in_steps(36, "maskgit", rows),
    "halton, 32 steps": lambda bench, rows: bench.in_steps(32, "halton", rows),
    "arpg, 12 steps": lambda bench, rows: bench.in_order("arpg", 12, rows),
    "arpg, 64 steps": lambda bench, rows: bench.in_order("arpg", 64, rows),
    "lpd, 12 steps": lambda bench, rows: bench.in_order("lpd", 12, rows),
    "lpd, 20 steps": lambda bench, rows: bench.in_order("lpd", 20, rows),
}
"""The first is what the others are compared with."""


def main() -> None:
    """Measure and print a table, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--side", type=int, default=16, help="tokens a side")
    parser.add_argument("--codes", type=int, default=1024)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--guidance", action="store_true", help="evaluate with and without a condition")
    parser.add_argument("--only", nargs="+", default=[""], help="contenders whose names begin so")
    parser.add_argument("--clock", choices=["cpu", "wall"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="a small network, 64 tokens, one turn")
    args = parser.parse_args()
    if args.quick:
        args.dim, args.layers, args.side, args.repeats = 64, 2, 8, 1
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    sizes = TokenNetSizes(dim=args.dim, num_layers=args.layers, num_heads=max(args.dim // 64, 1), dropout=0.0)
    net = TokenTransformer(args.codes, args.side**2, sizes, args.dim, with_words=False).eval().requires_grad_(False)
    bench = Bench(net, args.side, args.codes, args.guidance)
    weights = sum(parameter.numel() for parameter in net.parameters()) / 1e6
    print(f"{weights:.1f} M weights, {args.side**2} tokens, {args.threads} threads, {args.clock} time, smallest of")
    print(f"{args.repeats} turns\n\n| | rows | s | a picture, s | gain |\n|---|---|---|---|---|")
    first, *others = ENTRIES
    chosen = {name: ENTRIES[name] for name in [first, *(n for n in others if n.startswith(tuple(args.only)))]}
    with torch.no_grad():
        for rows in args.rows:
            made = {name: make(bench, rows) for name, make in chosen.items()}
            best = fastest(made, args.repeats, args.clock)
            for name, seconds in best.items():
                print(
                    f"| {name} | {rows} | {seconds:.3f} | {seconds / rows:.3f} | {best[first] / seconds:.2f} |",
                    flush=True,
                )


def fastest(contenders: dict[str, Callable[[], Tensor]], repeats: int, clock: str) -> dict[str, float]:
    """Return the smallest time of each, in turns."""
    now = time.perf_counter if clock == "wall" else time.process_time
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(repeats):
        for name, run in contenders.items():
            start = now()
            run()
            best[name] = min(best[name], now() - start)
    return best


if __name__ == "__main__":
    main()
