"""Curve: what a law between two models costs in bits per character, and what it saves in evaluations.

    python -m unisono_text.lossless.curve my-ar --draft my-small-ar --text a-text.txt

Texts are made under each law, and read by the target: bits per character under p, at temperature 1, of what was made.
The target's own texts lie at its entropy, the draft's above it. Between them, each α of a cascade
(`unisono_text.lossless.cascade`) is a point, and so is each weight of an ensemble
(`unisono_text.lossless.ensemble`), which tosses a coin between both models for each token: the curve that a cascade
must beat. Plain speculative decoding is where both begin.

Letters: b batch, t tokens, v vocabulary.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from unisono.checks import is_whole
from unisono.errors import RequestError, UnisonoError
from unisono.masked.random import row_seeds
from unisono.verify import KVCache, Method, Verified, autoregressive, decode, speculative

from unisono_text.lossless.cascade import DEFERRALS, cascade
from unisono_text.lossless.ensemble import ensemble

ALPHAS: dict[str, tuple[float, ...]] = {
    "chow": (0.1, 0.3, 0.5, 0.7, 0.9),
    "diff": (-0.3, -0.1, 0.0, 0.1, 0.3),
    "opt": (-0.5, 0.0, 0.2, 0.5, 1.0),
    "token-v1": (-0.1, 0.1, 0.3, 0.5, 0.7),
    "token-v2": (0.1, 0.2, 0.3, 0.5, 0.7),
    "token-v3": (0.3, 0.5, 0.7, 0.8, 0.9, 0.97),
}
"""The points of each deferral's curve, from the target to the draft."""
WEIGHTS = (0.9, 0.7, 0.5, 0.3, 0.1)


@dataclass(frozen=True)
class Point:
    """One law: what its texts cost, and what making them took.

    Attributes:
        law: ``target``, ``draft``, ``mixture`` or a deferral.
        at: its α or the mixture's weight; None for the target and the draft.
        bits: per character, under the target.
        tokens_per_evaluation: of the target; of the draft for its own texts.
        draft_evaluations: per token, in batches: while any row of a batch is drafting, all of them count.
    """

    law: str
    at: float | None
    bits: float
    tokens_per_evaluation: float
    draft_evaluations: float


def cascade_curve(
    target: Any,
    draft: Any,
    prompts: Sequence[str],
    *,
    deferrals: Mapping[str, Sequence[float]] | None = None,
    weights: Sequence[float] = WEIGHTS,
    length: int = 128,
    num_draft: int = 4,
    seed: int = 0,
    on_point: Callable[[Point], None] | None = None,
) -> list[Point]:
    """Return the points of cascades and mixtures, after those of the target and the draft.

    Args:
        target, draft: text/ar models of one tokenizer; all texts are sampled at temperature 1.
        prompts: of the texts; equally long ones are decoded together.
        deferrals: the α of each deferral; None is `ALPHAS`.
        weights: of the mixtures.
        length: tokens of a text at most, behind its prompt.
        on_point: told each point as soon as there is one.

    Raises:
        UnisonoError: for a draft of another tokenizer, an empty prompt list, or texts that do not fit the context.
    """
    if draft.tokenizer.digest != target.tokenizer.digest:
        raise UnisonoError(
            f"the draft has another tokenizer ({draft.vocabulary} tokens) than the target ({target.vocabulary}): "
            "give one that was trained on the same tokens",
            code="conflict",
            path="draft",
        )
    if not prompts or not is_whole(length, 1):
        raise UnisonoError(
            f"{len(prompts)} prompts, length {length!r}: give at least one prompt and one token",
            code="empty" if not prompts else "range",
            path="length" if prompts else "prompts",
            value=length if prompts else 0,
        )
    read = _Texts(target, draft, prompts, length, seed)
    laws: list[tuple[str, float | None, Callable[[Any], Method] | None]] = [
        ("target", None, lambda memory: speculative(draft.causal, num_draft, memory)),
        ("draft", None, None),
    ]
    for weight in weights:
        laws.append(
            ("mixture", weight, lambda memory, w=weight: ensemble(draft.causal, w, None, False, num_draft, memory))
        )
    for name, alphas in (ALPHAS if deferrals is None else deferrals).items():
        for alpha in alphas:
            laws.append((name, alpha, lambda memory, d=name, a=alpha: cascade(draft.causal, d, a, num_draft, memory)))
    points = []
    for law in laws:
        points.append(read.point(*law))
        if on_point is not None:
            on_point(points[-1])
    return points


def between(points: Sequence[Point], bits: float) -> dict[str, float]:
    """Return the tokens per evaluation that each law has at a cost in bits, between its points; laws short of it lack.

    Every curve begins at the target's point.
    """
    start = next(point for point in points if point.law == "target")
    found = {}
    for law in dict.fromkeys(point.law for point in points if point.law not in ("target", "draft")):
        curve = sorted(
            [(start.bits, start.tokens_per_evaluation)]
            + [(point.bits, point.tokens_per_evaluation) for point in points if point.law == law]
        )
        for (low, slow), (high, fast) in itertools.pairwise(curve):
            if low <= bits <= high:
                found[law] = slow + (fast - slow) * ((bits - low) / (high - low) if high > low else 0.0)
    return found


class _Texts:
    """Makes texts under a law, and has the target read them."""

    def __init__(self, target: Any, draft: Any, prompts: Sequence[str], length: int, seed: int):
        self.target, self.draft, self.length, self.seed = target, draft, length, seed
        self.rows = [[target.start_id, *target.tokenizer.encode(prompt)] for prompt in prompts]
        longest = max(map(len, self.rows)) - 1 + length
        if longest > min(target.context, draft.context):
            raise UnisonoError(
                f"prompt and text of {longest} tokens: the models read {min(target.context, draft.context)} at once, "
                "shorten prompts or length",
                code="limit",
                path="length",
                value=length,
            )

    def point(self, law: str, at: float | None, make: Callable[[Any], Method] | None) -> Point:
        bits = characters = made = rounds = asked = 0.0
        for size in sorted({len(row) for row in self.rows}):
            tokens = torch.tensor([row for row in self.rows if len(row) == size], device=self.target.device)
            out = self._decode(tokens, make)
            bits += float(self._bits(out, size).sum())
            for row, end in zip(out.tokens.tolist(), out.length.tolist(), strict=True):
                characters += len(self.target.tokenizer.decode(row[size:end]))
            made += float((out.length - size).sum())
            rounds += float(out.rounds.sum())
            asked += float(out.draft_nfe * len(tokens))
        return Point(law, at, bits / max(characters, 1), made / max(rounds, 1), asked / max(made, 1))

    @torch.inference_mode()
    def _decode(self, tokens: Int[Tensor, "b t"], make: Callable[[Any], Method] | None) -> Verified:
        device = self.target.device

        def memory(rows: int) -> KVCache:
            return KVCache(rows, device)

        return decode(
            self.draft.causal if make is None else self.target.causal,
            tokens,
            autoregressive() if make is None else make(memory),
            tokens.shape[1] + self.length,
            seeds=row_seeds(self.seed, len(tokens), device),
            temperature=1.0,
            end=self.target.special["eos"],
            cache=memory,
        )

    @torch.inference_mode()
    def _bits(self, out: Verified, size: int) -> Float[Tensor, " b"]:
        """Bits of each row's tokens behind the prompt, under the target."""
        logits = self.target.predict(out.tokens[:, :-1]).double().log_softmax(-1)
        said = logits.gather(2, out.tokens[:, 1:, None])[:, :, 0]
        place = torch.arange(1, out.tokens.shape[1], device=said.device)
        mine = (place >= size) & (place < out.length[:, None])
        return -(said * mine).sum(1) / math.log(2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the curve as a table in Markdown."""
    import unisono

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a text/ar export, the target")
    parser.add_argument("--draft", required=True, help="a text/ar export of the same tokenizer")
    parser.add_argument("--text", required=True, help="a text file that prompts are taken from, its end first")
    parser.add_argument("--prompt", type=int, default=64, help="characters of a prompt")
    parser.add_argument("--prompts", type=int, default=32, help="how many")
    parser.add_argument("--length", type=int, default=128, help="tokens to make")
    parser.add_argument("--num-draft", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--deferral", choices=list(DEFERRALS), action="append", help="which curves; default: all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="also write the points there")
    args = parser.parse_args(arguments)
    target, draft = (unisono.load(name, device=args.device).model for name in (args.model, args.draft))
    text = Path(args.text).read_text(encoding="utf-8")
    if len(text) < args.prompt * (args.prompts + 1):
        raise RequestError(
            f"{args.text} has {len(text)} characters: {args.prompts} prompts of {args.prompt} need more",
            code="limit",
            path="prompts",
            value=args.prompts,
        )
    step = min(997, len(text) // (args.prompts + 1))
    prompts = [text[len(text) - i * step - args.prompt :][: args.prompt] for i in range(1, args.prompts + 1)]
    deferrals = None if args.deferral is None else {name: ALPHAS[name] for name in args.deferral}
    print("| law | at | bits per character under the target | tokens per evaluation | draft evaluations per token |")
    print("|---|---|---|---|---|")

    def tell(point: Point) -> None:
        at = "" if point.at is None else f"{point.at:g}"
        told = f"{point.bits:.3f} | {point.tokens_per_evaluation:.2f} | {point.draft_evaluations:.2f}"
        print(f"| {point.law} | {at} | {told} |", flush=True)

    points = cascade_curve(
        target,
        draft,
        prompts,
        deferrals=deferrals,
        length=args.length,
        num_draft=args.num_draft,
        seed=args.seed,
        on_point=tell,
    )
    half = (points[0].bits + points[1].bits) / 2
    ahead = ", ".join(f"{law} {tokens:.2f}" for law, tokens in between(points, half).items())
    print(f"\nHalf-way, at {half:.3f} bits: {ahead}; the target {points[0].tokens_per_evaluation:.2f}.")
    if args.json:
        args.json.write_text(json.dumps([asdict(point) for point in points], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
