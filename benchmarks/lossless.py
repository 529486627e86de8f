"""Lossless decoding against plain cached decoding: accepted tokens per evaluation, and wall-clock, run in turns.

    python benchmarks/lossless.py                          # a small model with random weights that learnt to repeat
    python benchmarks/lossless.py --model my-ar --draft my-small-ar --medusa my-medusa --look-ahead my-pass
    python benchmarks/lossless.py --transformers gpt2

Every method makes the same continuations of the same prompts as plain decoding does, and the texts are compared: a
difference ends the run (those that are the same in law only are compared at temperature 0). Each measurement is plain
and method in turns, ``--repeats`` times, and the ratio is of the fastest of each, in CPU time of one thread or, with
``--clock wall`` and on a GPU, by the clock.

Prompts *with repetition* are a passage, begun again; *without* are passages of their own.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

WITH = "with repetition"
WITHOUT = "without"
IN_LAW = ("speculative", "parallel")


def main() -> None:
    """Measure and print a table, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a text/ar export; default: a small one is made and trained for a minute")
    parser.add_argument("--transformers", help="instead: a model of transformers, a folder or a hub id")
    parser.add_argument("--draft", help="a text/ar export of the same tokenizer")
    parser.add_argument("--drafter", help="a text/mdlm or text/block export of the same tokenizer")
    parser.add_argument("--medusa", help="a text/medusa export on the same model")
    parser.add_argument("--look-ahead", help="a text/pass export on the same model")
    parser.add_argument("--text", help="a text file that prompts are taken from; default: sentences made on the spot")
    parser.add_argument("--prompt", type=int, default=64, help="characters of a prompt")
    parser.add_argument("--length", type=int, default=128, help="tokens to make, if the context has room")
    parser.add_argument("--prompts", type=int, default=4, help="how many of each kind")
    parser.add_argument("--temperature", type=float, default=0.0, help="of all of them; 0 repeats itself soon")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=["cpu", "wall"], default="cpu")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda, which is timed by the clock")
    parser.add_argument("--json", type=Path, help="also write the numbers there")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    now = _clock(args)
    systems = _transformers(args) if args.transformers else _own(args)
    rows = []
    for kind, prompts in _prompts(args).items():
        for name, (plain, method) in systems.items():
            rows.append(measure(name, kind, prompts, plain, method, args.repeats, now, args.temperature > 0))
    print(
        "| method | prompts | tokens per evaluation | accepted of proposed | plain, ms | method, ms | times as fast |"
    )
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['method']} | {row['prompts']} | {row['tokens_per_evaluation']:.2f} | {row['accepted']:.0%} | "
            f"{row['plain_ms']:.0f} | {row['method_ms']:.0f} | {row['times']:.2f} |"
        )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def measure(
    name: str,
    kind: str,
    prompts: list[str],
    plain: Any,
    method: Any,
    repeats: int,
    now: Callable[[], float],
    in_law: bool = False,
) -> dict[str, Any]:
    """Run plain and method in turns over the prompts; each returns (text, evaluations, tokens, proposed, accepted)."""
    seconds = {"plain": 0.0, "method": 0.0}
    evaluations = tokens = proposed = accepted = 0
    for prompt in prompts:
        best = {"plain": float("inf"), "method": float("inf")}
        made: dict[str, Any] = {}
        for _ in range(repeats):
            for which, call in (("plain", plain), ("method", method)):
                start = now()
                made[which] = call(prompt)
                best[which] = min(best[which], now() - start)
        if made["plain"][0] != made["method"][0] and not (in_law and name in IN_LAW):
            raise SystemExit(f"{name}: another text than plain decoding's after {prompt[-30:]!r}")
        seconds = {which: seconds[which] + best[which] for which in seconds}
        _, nfe, count, asked, held = made["method"]
        evaluations, tokens = evaluations + nfe, tokens + count
        proposed, accepted = proposed + asked, accepted + held
    return {
        "method": name,
        "prompts": kind,
        "tokens_per_evaluation": tokens / max(evaluations, 1),
        "accepted": accepted / max(proposed, 1),
        "plain_ms": 1000 * seconds["plain"] / len(prompts),
        "method_ms": 1000 * seconds["method"] / len(prompts),
        "times": seconds["plain"] / seconds["method"],
    }


def _clock(args: argparse.Namespace) -> Callable[[], float]:
    if args.device == "cpu":
        return time.process_time if args.clock == "cpu" else time.perf_counter

    def now() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return now


def _prompts(args: argparse.Namespace) -> dict[str, list[str]]:
    if args.text:
        text = Path(args.text).read_text(encoding="utf-8")
        # From the end, which recipes hold out.
        starts = [len(text) - (i + 1) * 997 - args.prompt for i in range(args.prompts)]
        passages = [text[start : start + args.prompt] for start in starts]
    else:
        from unisono_text.corpus.data import make_sentence

        texts = [" ".join(make_sentence(1000 * i + j)[1] for j in range(20)) for i in range(1, args.prompts + 1)]
        passages = [text[: args.prompt] for text in texts]
    halves = [passage[: args.prompt // 2] for passage in passages]
    return {WITH: [(half + half)[: args.prompt] for half in halves], WITHOUT: passages}


def _own(args: argparse.Namespace) -> dict[str, tuple[Any, Any]]:
    import unisono

    if args.model:
        components = {role: getattr(args, role) for role in ("draft", "drafter") if getattr(args, role)}
        synth = unisono.load(args.model, device=args.device, components=components)
    else:
        synth = _made(args).to(args.device)
    methods = {"n-gram": {"decoding": "ngram"}, "Jacobi": {"decoding": "jacobi"}}
    methods["Gauss–Seidel, 8"] = {"decoding": "gauss-seidel", "block": 8}
    if args.draft or not args.model:
        methods["speculative"] = {"decoding": "speculative"}
        methods["coupled"] = {"decoding": "coupled"}
    if args.drafter:
        methods["parallel"] = {"decoding": "parallel"}

    def call(target: Any, **fields: Any) -> Any:
        def run(prompt: str) -> tuple[str, int, int, int, int]:
            before = target.model.evaluations
            room = target.model.context - len(target.model.tokenizer.encode(prompt))
            text = target(text=prompt, length=min(args.length, room), temperature=args.temperature, **fields)
            facts = text.facts
            made = len(text.tokens) - facts["prompt_tokens"] + facts["ended"]
            steps = facts["steps"] if fields.get("decoding") != "pass" else target.model.evaluations - before
            return text.text, steps, made, facts["proposed"], facts["accepted"]

        return run

    plain = call(synth)
    systems = {name: (plain, call(synth, **fields)) for name, fields in methods.items()}
    for name, folder, fields in (
        ("Medusa", args.medusa, {"decoding": "medusa", "tree": (3, 2)}),
        ("PaSS", args.look_ahead, {"decoding": "pass"}),
    ):
        if folder:
            systems[name] = (plain, call(unisono.load(folder, device=args.device), **fields))
    return systems


def _made(args: argparse.Namespace) -> Any:
    """A small text/ar and a smaller draft, trained for a few hundred steps on sentences made on the spot."""
    from unisono import Synthesizer
    from unisono.recipe import Recipe

    models = []
    for dim, layers, steps in ((192, 4, 80), (64, 2, 160)):
        sizes = {"dim": dim, "num_layers": layers, "num_heads": 4, "dropout": 0.0}
        recipe = Recipe.from_dict(
            {
                "model": {"name": "text/ar", **sizes},
                "data": {"name": "text/toy", "num_items": 4000, "context": 256, "pack": True, "batch_size": 4},
                "optim": {"lr": 2e-3, "warmup_steps": 20},
                "seed": 1,
            }
        )
        data = recipe.build_data()
        data.prepare(progress=False)
        model = recipe.build_model(data.describe()).train()
        optimizer = model.optim.optimizer(model)
        loader = iter(())
        for _ in range(steps):
            batch = next(loader, None)
            if batch is None:
                loader = iter(data.train_dataloader())
                batch = next(loader)
            # Sentences follow each other as one text, so that a prompt may repeat them.
            batch.pop("documents", None)
            optimizer.zero_grad()
            model.losses(batch)["loss"].backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        models.append(model.eval())
    models[0].attach("draft", models[1])
    return Synthesizer(models[0])


def _transformers(args: argparse.Namespace) -> dict[str, tuple[Any, Any]]:
    import transformers
    from unisono_text.lossless import TransformersNetwork, generate

    def network_of(folder: str) -> Any:
        return TransformersNetwork(transformers.AutoModelForCausalLM.from_pretrained(folder).eval().to(args.device))

    tokenizer = transformers.AutoTokenizer.from_pretrained(args.transformers)
    network = network_of(args.transformers)
    draft = network_of(args.draft) if args.draft else None

    def call(decoding: str, **fields: Any) -> Any:
        def run(prompt: str) -> tuple[str, int, int, int, int]:
            ids = tokenizer(prompt).input_ids
            out = generate(
                network,
                [ids],
                decoding,
                max_new_tokens=args.length,
                draft=draft,
                temperature=args.temperature,
                **fields,
            )
            made = int(out.length[0]) - len(ids)
            return tokenizer.decode(out.tokens[0]), out.nfe, made, int(out.proposed[0]), int(out.accepted[0])

        return run

    methods = {"n-gram": call("ngram"), "Jacobi": call("jacobi"), "Gauss–Seidel, 8": call("gauss-seidel", block=8)}
    if draft is not None:
        methods |= {"speculative": call("speculative"), "coupled": call("coupled")}
    systems = {name: (call("plain"), method) for name, method in methods.items()}

    def theirs(prompt: str) -> tuple[str, int, int, int, int]:
        ids = tokenizer(prompt, return_tensors="pt").input_ids.to(args.device)
        with torch.inference_mode():
            options = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
            out = network.model.generate(ids, max_new_tokens=args.length, **options)
        return tokenizer.decode(out[0]), args.length, args.length, 0, 0

    if args.temperature == 0:  # how plain decoding here compares with that library's own
        systems["generate of transformers"] = (call("plain"), theirs)
    return systems


if __name__ == "__main__":
    main()
