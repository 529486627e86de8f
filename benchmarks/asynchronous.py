"""Asynchronous drafting (PEARL) against serial speculation, with stand-ins that sleep: what two processes can gain.

    python benchmarks/asynchronous.py [--count] [--target 20] [--draft 4] [--tokens 128] [--agrees 0.8 0.9 0.95 0.98 1]

An evaluation of the target takes `--target` milliseconds whatever its width, one of the draft `--draft`; they sleep, so
that one core is enough. The draft says what the target says with a given probability, at places that are fixed.
Serial is the same draft in the target's process, with 4 tokens a draft (the default there) and with the number that is
best. Tokens are compared.

`--count` lets no time pass: evaluations are counted, PEARL's by its clock, and cost what they are said to; that is what
a machine with two idle cores would measure, less the milliseconds of this library's own work.
"""

import argparse
import statistics
import time

import torch
from torch import Tensor

VOCAB, PERIOD = 32, 997


class Sleeper:
    """A network whose next token is a function of the last one and its position, some milliseconds later."""

    def __init__(self, milliseconds: float, agrees: float = 1.0):
        generator = torch.Generator().manual_seed(0)
        right = torch.randint(VOCAB, (PERIOD, VOCAB), generator=generator)
        wrong = torch.rand(PERIOD, 1, generator=generator) >= agrees
        self.said = torch.where(wrong, (right + 1) % VOCAB, right)
        self.seconds = milliseconds / 1000

    def __call__(self, tokens: Tensor, positions: Tensor, visible: Tensor, cache: object) -> Tensor:
        time.sleep(self.seconds)
        return 9.0 * torch.nn.functional.one_hot(self.said[positions % PERIOD, tokens], VOCAB)


def main() -> None:
    """Measure, and print a table as Markdown."""
    from unisono.verify import Method, autoregressive, coupled_speculative, decode
    from unisono_text.lossless import DraftProcess, pearl

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=float, default=20.0, help="milliseconds of an evaluation")
    parser.add_argument("--draft", type=float, default=4.0)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--agrees", type=float, nargs="*", default=[0.8, 0.9, 0.95, 0.98, 1.0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--count", action="store_true", help="count evaluations, do not sleep")
    parser.add_argument("--num-draft", type=int, nargs="*", default=[3, 5, 6, 8], help="of serial, beside 4")
    args = parser.parse_args()
    lengths = sorted({4, *args.num_draft})
    torch.set_num_threads(1)
    target, prompt = Sleeper(0 if args.count else args.target), torch.ones(1, 1, dtype=torch.int64)
    limit = 1 + args.tokens
    clock = max(1, int(args.target / args.draft)) if args.count else None

    def seconds(method: Method) -> tuple[float, Tensor]:
        start = time.perf_counter()
        out = decode(target, prompt, method, limit)
        took = time.perf_counter() - start
        if args.count:  # side by side, or one after the other
            drafted = 0 if method.name == "PEARL" else out.draft_nfe * args.draft
            took = (out.nfe * max(args.target, args.draft) + drafted) / 1000
        return took, out.tokens

    heads = ("draft agrees", "plain, s", "serial, 4, s", "serial, best, s", "PEARL, s")
    print("| " + " | ".join((*heads, "over plain", "over serial, 4", "over serial, best")) + " |")
    print("|---" * 8 + "|")
    for agrees in args.agrees:
        draft = Sleeper(0 if args.count else args.draft, agrees)
        process = DraftProcess(lambda draft=draft: draft)
        process.give_back(process.lend(60.0))  # its start
        methods = {"plain": autoregressive(), "PEARL": pearl(process, 8, clock=clock)}
        methods |= {n: coupled_speculative(draft, n) for n in lengths}
        spent: dict[object, list[float]] = {name: [] for name in methods}
        truth = None
        for _ in range(1 if args.count else args.repeats):
            for name, method in methods.items():
                took, tokens = seconds(method)
                truth = tokens if truth is None else truth
                if not torch.equal(tokens, truth):
                    raise SystemExit(f"{name}: other tokens than plain decoding's")
                spent[name].append(took)
        median = {name: statistics.median(took) for name, took in spent.items()}
        best = min(lengths, key=lambda n: median[n])
        plain, usual, serial, ours = median["plain"], median[4], median[best], median["PEARL"]
        cells = (f"{agrees:.0%}", f"{plain:.2f}", f"{usual:.2f}", f"{serial:.2f} ({best})", f"{ours:.2f}")
        print("| " + " | ".join((*cells, f"{plain / ours:.2f}", f"{usual / ours:.2f}", f"{serial / ours:.2f}")) + " |")


if __name__ == "__main__":
    from asynchronous import main as run  # as a module, which the draft's process can import

    run()
