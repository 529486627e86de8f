"""Decoding of diffusion language models: what each sampler and cache costs, and what it is worth.

    python benchmarks/text.py [--quick] [--sections 1 2 3] [--models FOLDER …] [--judge FOLDER] [--data FILE]
                              [--texts 16] [--length N] [--repeats 3] [--threads N] [--device cuda]

1  samplers: evaluations, positions computed per token, and time, beside perplexity under the judge, entropy and
   self-BLEU; autoregressive models among `--models` are decoded one token at a time, with keys and values kept
2  caches on and off, with their drift from no cache
3  batches: texts per second for batches of 1 and more

`--models` are exports of this plugin; `--judge` is a `text/ar` of the same tokenizer, best one that is not measured;
`--data` is text that none of them was trained on, for prompts and for what real text measures. Without models the
tiny recipes are measured, untrained: costs mean something then, qualities nothing.

A row is *beaten* by another one of the table that is at least as good in all measures and costs fewer positions and
less time; where that is the autoregressive model, diffusion loses. Rows of equal evaluations and rows of equal
positions can be compared directly. Contenders take turns in one process, so that a busy moment of the machine hits
all; times are the fastest of all turns, medians in brackets.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import unisono
from rich.console import Console
from rich.table import Table
from unisono import Synthesizer, Text
from unisono.recipe import Recipe
from unisono_text.measure import variety

TINY = ("text/mdlm-tiny", "text/block-tiny", "text/anchored-tiny", "text/ar-tiny")
WORSE = 1e-9


@dataclass
class Cost:
    """What a setting's texts took, over all turns."""

    made: list[Text] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    evaluations: int = 0
    rounds: int = 0
    positions: int = 0


Contenders = dict[str, tuple[Synthesizer, list[dict[str, Any]]]]


def measure(contenders: Contenders, repeats: int, device: str) -> dict[str, Cost]:
    """Have every contender make its texts, in turns; counts are those of the last turn."""
    found = {name: Cost() for name in contenders}
    for turn in range(repeats):
        for name, (synth, asked) in contenders.items():
            model, cost = synth.model, found[name]
            before = model.evaluations, model.rounds, model.token_forwards
            start = _now(device)
            cost.made = synth(asked)
            if turn or repeats == 1:  # the first one warms up
                cost.seconds.append(_now(device) - start)
            after = model.evaluations, model.rounds, model.token_forwards
            cost.evaluations, cost.rounds, cost.positions = (b - a for a, b in zip(before, after, strict=True))
    return found


class Quality:
    """What a judge and the texts themselves say: perplexity, entropy and self-BLEU, never one of them alone."""

    names = ("perplexity", "entropy", "self-BLEU")
    better = (-1, 1, -1)

    def __init__(self, tokenizer: Any, judge: Any | None):
        self.tokenizer, self.judge = tokenizer, judge

    def measure(self, texts: Sequence[str], prompts: Sequence[str]) -> tuple[float, ...]:
        """Return the three of some texts without their prompts; NaN where there is nothing to measure."""
        rest = [text.removeprefix(prompt) for text, prompt in zip(texts, prompts, strict=True)]
        kept = [(text, prompt) for text, prompt in zip(rest, prompts, strict=True) if text.split()]
        ids = [self.tokenizer.encode(text) for text, _ in kept]
        entropy = statistics.fmean(map(variety.unigram_entropy, ids)) if ids else float("nan")
        bleu = variety.self_bleu([text.split() for text, _ in kept]) if len(kept) > 1 else float("nan")
        if self.judge is None or not kept:
            return float("nan"), entropy, bleu
        nats = self.judge.score([text for text, _ in kept], [prompt for _, prompt in kept])
        count = sum(len(self.judge.tokenizer.encode(text)) for text, _ in kept)
        return float((nats.sum() / count).exp()), entropy, bleu


def samplers(model: Any, length: int) -> dict[str, dict[str, Any]]:
    """Settings to compare: equal evaluations first, then those that decide themselves."""
    if is_causal(model):
        return {"one token at a time": {"decoding": "plain", "temperature": 1.0}}
    block = model.block_size
    counts = [n for n in (4, 16, 64, 256) if n <= length]
    per_block = (lambda n: max(1, round(n * block / length))) if block else (lambda n: n)
    found: dict[str, dict[str, Any]] = {}
    for n in counts:
        found[f"random, {n} steps"] = {"num_steps": per_block(n)}
        found[f"mdlm, {n} steps"] = {"sampler": "mdlm", "num_steps": per_block(n)}
        found[f"entropy, {n} steps"] = {"order": "entropy", "num_steps": per_block(n)}
    n = per_block(counts[-1])
    found["llada, greedy"] = {"sampler": "llada", "num_steps": n}
    half = per_block(counts[len(counts) // 2])
    found["dimple, above 0.9"] = {"sampler": "dimple", "threshold": 0.9, "num_steps": half}
    found["margin, above 0.8"] = {"order": "margin", "threshold": 0.8}
    found["fast_dllm, above 0.9"] = {"sampler": "fast_dllm"}
    found["factor 1"] = {"factor": 1.0}
    found["frechet"] = {"sampler": "frechet"}
    found["entropy bound 0.5"] = {"entropy_bound": 0.5}
    found["entropy bound 2"] = {"entropy_bound": 2.0}
    found["kl_stable"] = {"sampler": "kl_stable"}
    found["credit"] = {"sampler": "credit"}
    found["top p 0.9, random"] = {"num_steps": n, "top_p": 0.9}
    if not block:
        found["remdm cap"] = {"sampler": "remdm", "num_steps": n}
        found["left to right, blocks"] = {"block": max(length // 8, 1), "num_steps": max(length // 32, 1)}
    return found


def is_causal(model: Any) -> bool:
    return model.attention == "causal"


def quality_table(systems: dict[str, Synthesizer], texts: "Texts", options: argparse.Namespace) -> Table:
    """Section 1."""
    contenders = {
        f"{name} · {setting}": (synth, [{**asked, **fields} for asked in texts.asked(options.texts)])
        for name, synth in systems.items()
        for setting, fields in samplers(synth.model, texts.length).items()
    }
    found = measure(contenders, options.repeats, options.device)
    table = Table(title=f"1  samplers: {options.texts} texts of up to {texts.length} tokens, all at once")
    heads = ("model · sampler", "evaluations", "positions per token", "seconds", *Quality.names, "beaten by")
    for head in heads:
        table.add_column(head, justify="left" if head in (heads[0], heads[-1]) else "right")
    rows = {name: (cost, texts.quality.measure([text.text for text in cost.made], texts.prompts(options.texts)))
            for name, cost in found.items()}  # fmt: skip
    real = texts.quality.measure(*texts.real(options.texts))
    table.add_row("real text", "", "", "", *map(_number, real), "", end_section=True)
    for name, (cost, good) in sorted(rows.items(), key=lambda row: row[1][0].positions):
        tokens = max(texts.made(cost.made), 1)
        table.add_row(
            name, str(cost.evaluations), f"{cost.positions / tokens:.1f}", _times(cost.seconds),
            *map(_number, good), _beaten(name, rows),
        )  # fmt: skip
    return table


def _beaten(name: str, rows: dict[str, tuple[Cost, tuple[float, ...]]]) -> str:
    """The cheapest row that is at least as good in all that was measured, and costs less in both ways."""
    cost, good = rows[name]
    better = [
        other
        for other, (its, theirs) in rows.items()
        if its.positions < cost.positions and min(its.seconds) < min(cost.seconds)
        and all(sign * (b - a) >= -WORSE or a != a for sign, a, b in zip(Quality.better, good, theirs, strict=True))
    ]  # fmt: skip
    return min(better, key=lambda other: rows[other][0].positions, default="")


def cache_table(systems: dict[str, Synthesizer], texts: "Texts", options: argparse.Namespace) -> Table:
    """Section 2."""
    contenders, drifting = {}, {}
    for name, synth in systems.items():
        model = synth.model
        if is_causal(model):
            continue
        block = model.block_size or max(texts.length // 8, 1)
        own = {} if model.block_size else {"block": block}
        base = {**own, "num_steps": max(block // 4, 1), "order": "max_prob"}
        caches = ["none", "unchanged"]
        if model.remembers:
            caches += ["prefix"] if model.block_size else []
            caches += ["prefill", "frozen", "frozen_dual", "delayed", "free"]
        for cache in caches:
            key = f"{name} · {cache}"
            asked = [{**one, **base, "cache": cache} for one in texts.asked(options.texts, prompted=True)]
            contenders[key] = (synth, asked)
            if cache not in ("none", "unchanged"):
                drifting[key] = [{**one, "drift": True} for one in asked[:4]]
    found = measure(contenders, options.repeats, options.device)
    table = Table(title=f"2  caches: {options.texts} prompts of up to {texts.half} tokens, as many made, in blocks")
    heads = ("model · cache", "evaluations", "positions per token", "seconds", "over none", "drift, mean", "largest")
    for head in (*heads, *Quality.names):
        table.add_column(head, justify="left" if head == heads[0] else "right")
    for name, cost in found.items():
        model, plain = name.partition(" · ")[0], found[f"{name.partition(' · ')[0]} · none"]
        watched = systems[model](drifting.get(name, []))
        drift = [value for text in watched for value in text.facts["drift"]]
        good = texts.quality.measure([text.text for text in cost.made], texts.prompts(options.texts, prompted=True))
        tokens = max(texts.made(cost.made), 1)
        table.add_row(
            name, str(cost.evaluations), f"{cost.positions / tokens:.1f}", _times(cost.seconds),
            f"{min(plain.seconds) / min(cost.seconds):.2f}×",
            *([f"{statistics.fmean(drift):.4f}", f"{max(drift):.4f}"] if drift else ["", ""]), *map(_number, good),
        )  # fmt: skip
    return table


def batch_table(systems: dict[str, Synthesizer], texts: "Texts", options: argparse.Namespace) -> Table:
    """Section 3."""
    sizes = [1, 4] if options.quick else [1, 4, 16, 64, 256] if options.device != "cpu" else [1, 4, 16]
    table = Table(title=f"3  batches: texts of {texts.length} tokens per second")
    table.add_column("model · sampler")
    for size in sizes:
        table.add_column(str(size), justify="right")
    settings = {}
    for name, synth in systems.items():
        steps = max(texts.length // 8, 1)
        block = synth.model.block_size
        if is_causal(synth.model):
            settings[f"{name} · one token at a time"] = synth, {"decoding": "plain"}
        elif block:
            fields = {"num_steps": max(round(steps * block / texts.length), 1), "cache": "prefix"}
            settings[f"{name} · {steps} steps, prefix"] = synth, fields
        else:
            settings[f"{name} · {steps} steps"] = synth, {"num_steps": steps}
    cells: dict[str, list[str]] = {name: [] for name in settings}
    for size in sizes:
        asked = {
            name: (synth, [{**one, **fields} for one in texts.asked(size)])
            for name, (synth, fields) in settings.items()
        }
        for name, cost in measure(asked, options.repeats, options.device).items():
            cells[name].append(f"{size / min(cost.seconds):.2f}")
    for name, row in cells.items():
        table.add_row(name, *row)
    return table


class Texts:
    """What is asked for, and what real text there is: prompts are the first halves of rows of it."""

    def __init__(self, model: Any, text: str, length: int | None, quality: Quality):
        self.tokenizer, self.quality = model.tokenizer, quality
        self.length = min(length or model.context, model.context)
        self.half = max(self.length // 2, 1)
        ids = self.tokenizer.encode(text)
        if len(ids) < self.length:
            raise SystemExit(f"--data has {len(ids)} tokens: give at least {self.length}")
        self.rows = [ids[i : i + self.length] for i in range(0, len(ids) - self.length + 1, self.length)]

    def prompts(self, count: int, prompted: bool = False) -> list[str]:
        """As many prompts, empty ones unless ``prompted``."""
        if not prompted:
            return [""] * count
        return [self.tokenizer.decode(self.rows[i % len(self.rows)][: self.half]) for i in range(count)]

    def asked(self, count: int, prompted: bool = False) -> list[dict[str, Any]]:
        """As many requests, of different seeds."""
        length = self.length - self.half if prompted else self.length
        return [
            {"text": prompt, "length": length, "seed": seed}
            for seed, prompt in enumerate(self.prompts(count, prompted))
        ]

    def real(self, count: int) -> tuple[list[str], list[str]]:
        """As many pieces of real text, without prompts."""
        rows = self.rows[:: max(1, len(self.rows) // count)][:count]
        return [self.tokenizer.decode(row) for row in rows], [""] * len(rows)

    @staticmethod
    def made(texts: Sequence[Text]) -> int:
        """How many tokens were made, prompts and what was cut at the end left out."""
        return sum(sum(step >= 0 for step in text.order) for text in texts)


def _now(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def _times(seconds: Sequence[float]) -> str:
    return f"{min(seconds):.2f} ({statistics.median(seconds):.2f})"


def _number(value: float) -> str:
    return "" if value != value else f"{value:.3f}"


def untrained(device: str) -> dict[str, Synthesizer]:
    """The tiny recipes as they begin, for costs."""
    found = {}
    for name in TINY:
        recipe = Recipe.read(name)
        data = recipe.build_data()
        data.prepare(progress=False)
        data.setup()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            found[name.removeprefix("text/")] = Synthesizer(recipe.build_model(data.describe())).to(device)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few texts, one turn: shows that everything runs")
    parser.add_argument("--sections", type=int, nargs="+", default=[1, 2, 3], help="which tables (default: all)")
    parser.add_argument("--models", nargs="+", default=[], help="export folders (default: tiny untrained ones)")
    parser.add_argument("--judge", help="export of a text/ar that judges")
    parser.add_argument("--data", help="a text file that nothing was trained on")
    parser.add_argument("--texts", type=int, help="texts of each setting (default 16; 3 with --quick)")
    parser.add_argument("--length", type=int, help="tokens of a text (default: the smallest context)")
    parser.add_argument("--repeats", type=int, help="turns of every contender (default 3; 1 with --quick)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: what torch takes)")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    options.texts = options.texts or (3 if options.quick else 16)
    options.repeats = options.repeats or (1 if options.quick else 3)
    systems = {Path(folder).name: unisono.load(folder, device=options.device) for folder in options.models}
    systems = systems or untrained(options.device)
    judge = unisono.load(options.judge, device=options.device).model if options.judge else None
    first = min((synth.model for synth in systems.values()), key=lambda model: model.context)
    toy = " ".join(first.facts["sample_texts"] * 99)
    text = Path(options.data).read_text(encoding="utf-8") if options.data else toy
    other = [name for name, synth in systems.items() if synth.model.tokenizer.digest != first.tokenizer.digest]
    if other:
        raise SystemExit(f"{other[0]} has another tokenizer than the other models: measure it by itself")
    texts = Texts(first, text, options.length, Quality(first.tokenizer, judge))
    console = Console(width=None if sys.stdout.isatty() else 160)
    sizes = ", ".join(
        f"{name}: {sum(p.numel() for p in synth.model.parameters()) / 1e6:.2f} M" for name, synth in systems.items()
    )
    console.print(
        f"{sizes} parameters; torch {torch.__version__}, {options.device}, {torch.get_num_threads()} threads; judge: "
        f"{options.judge or 'none'}; {'trained' if options.models else 'untrained: qualities mean nothing'}"
    )
    for number, table in ((1, quality_table), (2, cache_table), (3, batch_table)):
        if number in options.sections:
            console.print(table(systems, texts, options))


if __name__ == "__main__":
    main()
