"""Prompts of three kinds for benchmarks/lossless.py, and a small model that has read such texts."""

import random
import tempfile
from pathlib import Path
from typing import Any

NAMES = ("total", "count", "index", "items", "value", "limit", "first", "rest", "width", "level")
KINDS = ("plain", "repetitive", "code-like")


def prompts_of(
    tokenizer: Any, files: dict[str, str], size: int, count: int, room: int
) -> tuple[dict[str, list[str]], str]:
    """Return prompts of about `size` characters by kind, at most `room` tokens each, and characters that were left out.

    Args:
        files: by kind, a text that passages are taken from, from its end, which recipes hold out; a kind without one
            is made on the spot. *Repetitive*, where there is only a plain one, is half a passage, twice.
    """
    found: dict[str, list[str]] = {}
    dropped: set[str] = set()
    for kind in KINDS:
        if kind in files:
            text = Path(files[kind]).read_text(encoding="utf-8")
            if len(text) < size + 997 * count:
                raise SystemExit(f"{files[kind]} has {len(text)} characters, {size + 997 * count} are needed")
            starts = [len(text) - (i + 1) * 997 - size for i in range(count)]
            passages = [text[start : start + size] for start in starts]
        elif kind == "repetitive" and "plain" in files:
            halves = [passage[: size // 2] for passage in found["plain"]]
            passages = [half + half for half in halves]
        else:
            passages = [MADE[kind](1000 * (i + 1), 12)[:size] for i in range(count)]
        found[kind] = []
        for passage in passages:
            kept = "".join(character for character in passage if known(tokenizer, character, dropped))
            while len(tokenizer.encode(kept)) > room:
                kept = kept[: -max(1, len(kept) // 16)]
            found[kind].append(kept)
    return found, "".join(sorted(dropped))


def known(tokenizer: Any, character: str, dropped: set[str]) -> bool:
    """Whether a tokenizer has a character; one of characters knows those of its corpus alone."""
    if character in dropped:
        return False
    try:
        tokenizer.encode(character)
    except ValueError:
        dropped.add(character)
        return False
    return True


def plain(seed: int, lines: int) -> str:
    from unisono_text.corpus.data import make_sentence

    return " ".join(make_sentence(seed + i)[1] for i in range(2 * lines))


def repetitive(seed: int, lines: int) -> str:
    """A list of a few entries that come again and again, under changing numbers."""
    draw = random.Random(seed)
    names = draw.sample(NAMES, 3)
    return "".join(f"- {names[i % 3]} {names[(i + 1) % 3]}: {draw.randrange(9)} of 9 done\n" for i in range(lines))


def code(seed: int, lines: int) -> str:
    """Functions of four lines."""
    draw, made = random.Random(seed), []
    for _ in range(max(1, lines // 4)):
        name, argument, local = draw.sample(NAMES, 3)
        step, start = draw.choice("+-*"), draw.randrange(9)
        made.append(
            f"def {name}({argument}):\n    {local} = {start}\n    for item in {argument}:\n"
            f"        {local} = {local} {step} item\n    return {local}\n\n"
        )
    return "".join(made)


MADE = {"plain": plain, "repetitive": repetitive, "code-like": code}


def made_model(steps: int) -> Any:
    """Return a small text/ar that has read the three kinds for a minute, with a smaller one as its draft."""
    import torch
    from unisono.recipe import Recipe

    models = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "texts.txt")
        file.write_text("\n".join(make(7 * i, 8) for i in range(400) for make in MADE.values()), encoding="utf-8")
        for dim, layers, share in ((192, 4, 1), (64, 2, 2)):
            network = {"dim": dim, "num_layers": layers, "num_heads": 4, "dropout": 0.0}
            data = {"name": "text/files", "root": str(file), "documents": "file", "split": "tail"}
            recipe = Recipe.from_dict(
                {
                    "format": 2,
                    "model": {"name": "text/ar", "network": network},
                    "data": {**data, "corpus": {"tokenizer": "characters"}, "context": 256, "batch_size": 4},
                    "optim": {"lr": 2e-3, "warmup_steps": min(20, steps)},
                    "seed": 1,
                }
            )
            corpus = recipe.build_data()
            corpus.prepare(progress=False)
            model = recipe.build_model(corpus.describe()).train()
            optimizer = model.make_optimizer(model)
            loader = iter(())
            for _ in range(steps * share):
                batch = next(loader, None)
                if batch is None:
                    loader = iter(corpus.train_dataloader())
                    batch = next(loader)
                optimizer.zero_grad()
                model.losses(batch)["loss"].backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            models.append(model.eval())
    models[0].attach("draft", models[1])
    return models[0]
