"""The loop of `unisono.verify` by itself: what propose, verify and commit cost where nothing is proposed.

    python benchmarks/verify_loop.py                                  # 26 M weights, 256 tokens, 1 and 8 rows
    python benchmarks/verify_loop.py --rows 1 --dim 256 --layers 4    # smaller evaluations: the loop weighs more
    python benchmarks/verify_loop.py --ragged                         # prompts of different lengths

The other side is the plainest loop there is on the same weights: buffers of the final length, no masks, one argmax.
Both go token by token in turns within one process, so that whatever else the machine does falls on both; by default in
CPU time of one thread, which a busy machine changes less. A step's time is the median of ``--repeats`` runs, the ratio
is of the sums over steps. Tokens that differ end the run.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from unisono.nn.rotary import rotation
from unisono.verify import KVCache, autoregressive, rounds
from unisono_text.lossless import CausalNetwork
from unisono_text.models.sizes import TransformerSizes
from unisono_text.models.transformer import TextTransformer

VOCABULARY = 256


def main() -> None:
    """Measure and print a table, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, default=256, help="to make")
    parser.add_argument("--prompt", type=int, default=32, help="tokens of a prompt")
    parser.add_argument("--ragged", action="store_true", help="give each row's prompt another length")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=["cpu", "wall"], default="cpu", help="cpu is of one thread")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    sizes = TransformerSizes(dim=args.dim, num_layers=args.layers, num_heads=args.dim // 64, dropout=0.0)
    net = TextTransformer(VOCABULARY, VOCABULARY, sizes, "causal").eval().requires_grad_(False)
    for parameter in net.parameters():  # as drawn, the likeliest token hangs by a thread
        parameter.mul_(3 if parameter.dim() > 1 else 1)
    weights = sum(parameter.numel() for parameter in net.parameters())
    print(f"{weights / 1e6:.1f} M weights, {args.tokens} tokens, {args.threads} threads, {args.clock} time\n")
    print("| rows | plain, ms per token | `unisono.verify`, ms per round | ratio |")
    print("|---|---|---|---|")
    for rows in args.rows:
        plain, loop = empty_proposals(net, rows, args)
        print(f"| {rows} | {1000 * plain:.2f} | {1000 * loop:.2f} | {loop / plain:.3f} |", flush=True)


def empty_proposals(net: Any, rows: int, args: argparse.Namespace) -> tuple[float, float]:
    """Return the seconds of a token of the plain loop and of a round of `rounds`."""
    prompt = torch.randint(0, VOCABULARY, (rows, args.prompt))
    lengths = torch.full((rows,), args.prompt)
    if args.ragged:
        lengths = (lengths - torch.arange(rows)).clamp_min(1)
    limit = args.prompt + args.tokens
    steps: list[list[tuple[float, float]]] = []
    now = time.perf_counter if args.clock == "wall" else time.process_time
    network: Any = CausalNetwork(net)
    for _ in range(args.repeats):
        plain = plain_loop(net, prompt, limit)
        loop = rounds(network, prompt, autoregressive(), limit, lengths=lengths, cache=KVCache)
        times = []
        for _ in range(args.tokens):
            start = now()
            tokens = next(plain)
            middle = now()
            prefix = next(loop)
            times.append((middle - start, now() - middle))
            if not args.ragged and not torch.equal(tokens, prefix.tokens):
                raise SystemExit("the loops made different tokens")
        steps.append(times)
    # The first step of each reads the prompt.
    sums = [sum(statistics.median(run[i][side] for run in steps) for i in range(1, args.tokens)) for side in (0, 1)]
    return sums[0] / (args.tokens - 1), sums[1] / (args.tokens - 1)


@torch.no_grad()
def plain_loop(net: Any, prompt: Tensor, limit: int) -> Iterator[Tensor]:
    """Decode greedily, rows of one length; yields all tokens after each one."""
    rows, n = prompt.shape
    tokens = torch.zeros(rows, limit, dtype=torch.int64)
    tokens[:, :n] = prompt
    kept: Any = Buffers(net, rows, limit)
    fresh = prompt
    for at in range(n, limit):
        places = rotation(torch.arange(kept.used, at), net.head_dim, net.rope_base)
        x = net.embedding(fresh)
        for number, layer in enumerate(net.layers):
            x = layer(x, places, None, fresh.shape[1] > 1, kept, number)
        kept.used = at
        fresh = net.head(net.norm(x[:, -1:])).argmax(-1)
        tokens[:, at : at + 1] = fresh
        yield tokens


class Buffers:
    """Keys and values in memory of the final size."""

    def __init__(self, net: Any, rows: int, limit: int):
        layers, two, heads, channels = net.kept_shape
        self.memory = torch.zeros(layers, two, rows, heads, limit, channels)
        self.used = 0

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = self.memory[layer]
        end = self.used + key.shape[2]
        keys[:, :, self.used : end] = key
        values[:, :, self.used : end] = value
        return keys[:, :, :end], values[:, :, :end]


if __name__ == "__main__":
    main()
