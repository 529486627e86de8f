"""Parallel decoding of autoregressive models against plain cached decoding: what each method costs, and what it gains.

    python benchmarks/lossless.py [--quick]           # a small model, made and trained for a minute, or not at all
    python benchmarks/lossless.py --model my-ar --component draft=my-small-ar --on my-medusa my-pass --text plain=a.txt
    python benchmarks/lossless.py --transformers gpt2

Rows are the catalogue of `unisono_text.lossless`: every method that the model, with a component or without, or a model
given with `--on` can serve; the others are listed with what they lack. `--row NAME:decoding:option=value,…` adds a row.
A model that another law was trained into (Make Some Noise, SPACE unfrozen) is measured by itself, as `--model`.

In each turn a prompt is continued plainly and then by every method, each by one thread; a row's *times as fast* is the
median over the turns of plain seconds over its own, by the clock, and by this process's time, which other work on the
machine hardly changes (of `pearl` it says nothing: its draft's process works beside). A row that is slower than plain
decoding says so. Its tokens are compared with plain decoding's: methods that are equal token by token must have no
difference (else the run ends with 1), those equal in law are compared at temperature 0, lossy ones not at all. *Bits
per character* are of what was made, under the model, at temperature 1.

Peers, on the same weights and in the same turns: ``generate`` of transformers, its prompt look-up, early exit and
assisted generation, and methods of this library on that network (`--no-peers` leaves them out).
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lossless_peers import Foreign, peers, ways
from lossless_texts import made_model, prompts_of

VARIANTS = {"block": 8, "window": 8}
"""Options that a second row of a method is measured with."""
Counts = tuple[int, int, int, int]


@dataclass
class Row:
    """One method, and what its continuations took over all turns and prompts."""

    name: str
    exactness: str
    run: Callable[[str], tuple[list[int], Counts]]
    parameters: int = 0
    minutes: str = ""
    seconds: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    made: list[list[int]] = field(default_factory=list)
    counts: list[Counts] = field(default_factory=list)
    wrong: int = 0
    lost: str = ""


def main() -> None:
    """Measure, and print a table for each kind of prompt and temperature, as Markdown."""
    args = _arguments()
    torch.set_num_threads(args.threads)
    now = _clock(args)
    base, others = _models(args)
    files = dict(part.split("=", 1) for part in args.text)
    room = max(8, base.context - args.length)
    prompts, dropped = prompts_of(base.tokenizer, files, args.prompt, args.prompts, room)
    if dropped:
        print(f"The model's tokenizer does not know {dropped!r}: left out of the prompts.\n")
    results, faults = [], 0
    for setting in args.temperature:
        heat, _, top = setting.partition(":")
        temperature, top_p = float(heat), float(top) if top else None
        make = foreign_rows if args.transformers else rows_of
        rows, lacking = make(base, others, args, temperature, top_p)
        for kind in args.kinds or prompts:
            for row in rows:
                row.seconds, row.busy, row.made, row.counts, row.wrong = [], [], [], [], 0
            measure(rows, prompts[kind], args.repeats, now, temperature)
            found = [summary(row, rows[0], base, prompts[kind]) for row in rows]
            top_text = f", top p {top_p}" if top_p else ""
            print(f"\n{kind} prompts, temperature {temperature:g}{top_text}, {len(prompts[kind])} of them\n")
            print(table(found))
            results += [{"kind": kind, "temperature": temperature, "top_p": top_p, **row} for row in found]
            faults += sum(row.wrong for row in rows if row.exactness == "token by token")
        if setting == args.temperature[0]:
            print("\nNot measured:\n" + "\n".join(f"- `{name}`: {why}" for name, why in lacking.items()))
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if faults:
        raise SystemExit(f"{faults} continuations differ from plain decoding's")


def measure(rows: list[Row], prompts: list[str], repeats: int, now: Callable[[], float], temperature: float) -> None:
    """Have every row continue every prompt, in turns; the first row is plain decoding."""
    for row in rows:  # caches, processes and kernels
        row.run(prompts[0])
        row.lost = ""
    for turn in range(repeats):
        spent, busy = [0.0] * len(rows), [0.0] * len(rows)
        for number, prompt in enumerate(prompts):
            for i, row in enumerate(rows):
                start, begun = now(), time.process_time()
                made, counts = row.run(prompt)
                spent[i], busy[i] = spent[i] + now() - start, busy[i] + time.process_time() - begun
                if not turn:
                    row.made.append(made)
                    row.counts.append(counts)
                    compared = row.exactness == "token by token" or (row.exactness == "in law" and not temperature)
                    row.wrong += compared and made != rows[0].made[number]
        for i, row in enumerate(rows):
            row.seconds.append(spent[i])
            row.busy.append(busy[i])


def summary(row: Row, plain: Row, base: Any, prompts: list[str]) -> dict[str, Any]:
    """Return a row's numbers."""
    tokens = sum(map(len, row.made))
    target, target_positions, draft, draft_positions = (sum(part) for part in zip(*row.counts, strict=True))
    texts = [base.tokenizer.decode(made) for made in row.made]
    pairs = [(text, prompt) for text, prompt in zip(texts, prompts, strict=True) if text]
    nats = base.score([text for text, _ in pairs], [prompt for _, prompt in pairs]) if pairs else torch.zeros(1)
    return {
        "method": row.name,
        "exactness": row.exactness,
        "tokens": tokens,
        "tokens_per_evaluation": tokens / max(target, 1),
        "evaluations": target,
        "draft_evaluations": draft,
        "positions": target_positions,
        "draft_positions": draft_positions,
        "milliseconds": 1000 * statistics.median(row.seconds) / len(prompts),
        "times": statistics.median(a / b for a, b in zip(plain.seconds, row.seconds, strict=True)),
        "times_busy": statistics.median(a / b for a, b in zip(plain.busy, row.busy, strict=True)),
        "parameters": row.parameters,
        "minutes": row.minutes,
        "bits_per_character": float(nats.sum()) / math.log(2) / max(1, sum(len(text) for text, _ in pairs)),
        "different": row.wrong,
        "lost": row.lost,
    }


def table(found: list[dict[str, Any]]) -> str:
    """Return rows as a table in Markdown."""
    heads = ("method", "exact", "tokens per evaluation", "evaluations", "of the draft", "positions", "of the draft")
    heads += (
        "ms a text",
        "times as fast",
        "by its own time",
        "more weights",
        "trained",
        "bits per character",
        "different",
    )
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in found:
        times = f"{row['times']:.2f}" + (" (loses)" if row["times"] < 0.995 else "")
        busy = "" if row["method"].startswith("pearl") else f"{row['times_busy']:.2f}"
        more = f"{row['parameters'] / 1e6:.2f} M" if row["parameters"] else ""
        cells = [row["method"], row["exactness"], f"{row['tokens_per_evaluation']:.2f}", str(row["evaluations"])]
        cells += [str(row["draft_evaluations"]), str(row["positions"]), str(row["draft_positions"])]
        cells += [f"{row['milliseconds']:.0f}", times, busy, more, row["minutes"], f"{row['bits_per_character']:.2f}"]
        cells += [str(row["different"]) + (f"; {row['lost']}" if row["lost"] else "")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def rows_of(
    base: Any, others: list[tuple[str, Any]], args: argparse.Namespace, temperature: float, top_p: float | None
) -> tuple[list[Row], dict[str, str]]:
    """Return plain decoding, then every method that something given can serve; and what the others lack."""
    from unisono.errors import UnisonoError
    from unisono_text.lossless import CATALOGUE

    wanted: list[tuple[str, str, dict[str, Any]]] = []
    for entry in CATALOGUE.values():
        wanted.append((entry.name, entry.name, {}))
        wanted += [
            (f"{entry.name}, {option} {value}", entry.name, {option: value})
            for option, value in VARIANTS.items()
            if option in entry.options and entry.options[option] != value
        ]
    for given in args.row:
        name, decoding, options = (*given.split(":"), "")[:3]
        pairs = (pair.split("=", 1) for pair in options.split(",") if pair)
        wanted.append((name, decoding, {key: json.loads(value) for key, value in pairs}))
    rows, lacking = [], {}
    for name, decoding, options in wanted:
        if args.methods and decoding not in ("plain", *args.methods):
            continue
        role = CATALOGUE[decoding].role
        served = []
        for label, model in [("", base), *others]:
            if role and role not in model.components:
                continue
            row = Row(name, CATALOGUE[decoding].exactness, lambda prompt: ([], (0, 0, 0, 0)))
            row.run = continuing(model, decoding, options, args.length, temperature, top_p, row)
            try:
                row.run("")
            except UnisonoError as error:
                lacking.setdefault(name, str(error))
                continue
            extra = model.component(role) if role else None if model is base else model
            if extra is not None:
                row.parameters = sum(part.numel() for part in extra.net.parameters())
                row.minutes = args.minutes.get(label, getattr(extra, "trained_for", ""))
            served.append((label, row))
            if not role:  # whoever comes first; a role may be taken by several
                break
        if not served:
            lacking.setdefault(name, f"no {role} is given: --component {role}=FOLDER")
        for label, row in served:
            row.name += f", {label}" if len(served) > 1 else ""
            rows.append(row)
            lacking.pop(name, None)
    if not args.no_peers:
        drafts = (model.components.get("draft") for _, model in [("", base), *others])
        draft = next((draft for draft in drafts if type(draft) is type(base)), None)
        for name, run in peers(base, draft, args.length, temperature, top_p).items():
            exactness = "in law" if name.startswith("transformers") or temperature > 0 else "token by token"

            def ask(prompt: str, run: Any = run) -> tuple[list[int], Counts]:
                return run([base.start_id, *base.tokenizer.encode(prompt)])

            rows.append(Row(name, exactness, ask))
    return rows, lacking


def foreign_rows(
    base: Foreign, others: list[Any], args: argparse.Namespace, temperature: float, top_p: float | None
) -> tuple[list[Row], dict[str, str]]:
    """Return the rows of a model of transformers: methods of the catalogue that need a draft at most, and its own."""
    from unisono.errors import UnisonoError
    from unisono_text.lossless import CATALOGUE

    roles = (None,) if base.draft is None else (None, "draft")
    methods = [e.name for e in CATALOGUE.values() if e.role in roles and (not args.methods or e.name in args.methods)]
    methods = ["plain", *(name for name in methods if name != "plain")]
    found = ways(base.model, base.draft, methods, args.length, base.context, base.end, temperature, top_p)
    rows, lacking = [], {}
    for name, run in found.items():
        own = "in law" if name not in CATALOGUE else CATALOGUE[name].exactness

        def ask(prompt: str, run: Any = run) -> tuple[list[int], Counts]:
            return run(base.tokenizer.encode(prompt))

        row = Row(name, own, ask)
        try:
            row.run("a b")
            rows.append(row)
        except UnisonoError as error:
            lacking[name] = str(error)
    return rows, lacking


def continuing(
    model: Any,
    decoding: str,
    options: dict[str, Any],
    length: int,
    temperature: float,
    top_p: float | None,
    row: Row,
) -> Callable[[str], tuple[list[int], Counts]]:
    """Return what continues one prompt as a request would, and counts."""
    from unisono_text.lossless.request import read_prompt
    from unisono_text.lossless.serve import Batch, Continuation

    def run(prompt: str) -> tuple[list[int], Counts]:
        room = model.context - len(model.tokenizer.encode(prompt))
        asked = {"text": prompt, "length": min(length, room), "temperature": temperature, "top_p": top_p, "seed": 1}
        request = model.Request(**asked, decoding=decoding, **options)
        task = Continuation(0, request, *read_prompt(model, request), model.seed_of(request, None))
        batch = Batch(model, [task])
        with torch.inference_mode():
            for _ in batch.run():
                pass
        out = batch.out
        assert out is not None
        row.lost = batch.texts()[0].facts.get("lost", row.lost)
        made = out.tokens[0, 1 + len(task.prompt) : int(out.length[0])].tolist()
        return made, (out.nfe, out.positions, out.draft_nfe, out.draft_positions)

    return run


def _clock(args: argparse.Namespace) -> Callable[[], float]:
    if args.device == "cpu":
        return time.perf_counter

    def now() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return now


def _models(args: argparse.Namespace) -> tuple[Any, list[tuple[str, Any]]]:
    """Return the model; and models on it, and it again with each component, by the name of the folder."""
    if args.transformers:
        return Foreign(args.transformers, args.draft, args.device), []
    if not args.model:
        return made_model(1 if args.quick else 160).to(args.device), []
    import unisono

    def load(folder: str, **components: str) -> Any:
        model = unisono.load(folder, device=args.device, components=components).model
        for place, part in ((folder, model), *((f, model.component(role)) for role, f in components.items())):
            card = json.loads(Path(place, "unisono.json").read_text(encoding="utf-8")).get("card", {})
            part.trained_for = card.get("time", "")
        return model

    others = [(folder, load(folder)) for folder in args.on]
    for part in args.component:
        role, folder = part.split("=", 1)
        others.append((folder, load(args.model, **{role: folder})))
    return load(args.model), [(Path(folder).name, model) for folder, model in others]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a text/ar export; default: a small one is made and trained for a minute")
    parser.add_argument(
        "--component",
        nargs="*",
        default=[],
        metavar="ROLE=FOLDER",
        help="such as draft=my-small-ar; several of a role, too",
    )
    parser.add_argument("--on", nargs="*", default=[], metavar="FOLDER", help="models on that model, such as Medusa")
    parser.add_argument("--transformers", help="instead: a model of transformers, a folder or a hub id")
    parser.add_argument("--draft", help="with --transformers: a smaller one of the same tokenizer")
    parser.add_argument("--methods", nargs="*", default=[], help="only these, beside plain")
    parser.add_argument("--row", nargs="*", default=[], metavar="NAME:DECODING:OPTIONS", help="further rows")
    parser.add_argument("--text", nargs="*", default=[], metavar="KIND=FILE", help="prompts of a kind; default: made")
    parser.add_argument("--kinds", nargs="*", default=[], help="of prompts; default: all of them")
    parser.add_argument("--prompt", type=int, default=64, help="characters of a prompt")
    parser.add_argument("--length", type=int, default=64, help="tokens to make, if the context has room")
    parser.add_argument("--prompts", type=int, default=4, help="how many of each kind")
    parser.add_argument("--temperature", nargs="*", default=["0", "0.8:0.9", "1"], metavar="T[:TOP_P]")
    parser.add_argument(
        "--minutes", nargs="*", default=[], metavar="NAME=TIME", help="of a folder whose card does not say"
    )
    parser.add_argument("--repeats", type=int, default=3, help="turns")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="the small model is not trained: costs mean something")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the numbers there")
    args = parser.parse_args()
    args.minutes = dict(part.split("=", 1) for part in args.minutes)
    return args


if __name__ == "__main__":
    main()
