"""Lexical units: what confidence buys in evaluations, and what it costs in bits under the model's own law.

On the command line it is a sweep, of a request's field as any other:
``unisono sweep EXPORT DATA --decoding=lud --alpha=0.5,0.7,0.9 --component judge=EXPORT``.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unisono_text.lossless.request import ContinueRequest
from unisono_text.lossless.units import check_alpha
from unisono_text.measure.evaluate import nats_of


@dataclass(frozen=True)
class Point:
    """One alpha: None is plain decoding.

    alpha: tokens are emitted while each has this probability.
    tokens_per_evaluation: over all texts.
    bits_per_character: of what was made, under the judge's law; NaN where nothing was.
    changed: share of the texts that are not those of plain decoding.
    """

    alpha: float | None
    tokens_per_evaluation: float
    bits_per_character: float
    changed: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def confidence_curve(
    model: Any,
    prompts: Sequence[str],
    alphas: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99),
    *,
    length: int | None = None,
    temperature: float = 0.0,
    seed: int = 0,
    judge: Any = None,
) -> list[Point]:
    """Return a point of plain decoding and one of each alpha, all on the same prompts and seeds.

    Args:
        model: a text/space or text/pass.
        prompts: of each text.
        alphas: each in (0, 1).
        length: tokens of a text at most; None is as many as the context has room for.
        temperature: of the draw.
        seed: of the first text; they follow one another.
        judge: a text/ar whose law says the bits; the model itself where none is given.

    Raises:
        UnisonoError: for an alpha that is not in (0, 1).
        RequestError: for a model without masks, or a prompt that does not fit.
    """
    for alpha in alphas:
        check_alpha(alpha)
    points, plain = [], []
    for alpha in (None, *alphas):
        way: dict[str, Any] = {"decoding": "plain"} if alpha is None else {"decoding": "lud", "alpha": alpha}
        requests = []
        for number, prompt in enumerate(prompts):
            room = model.context - len(model.tokenizer.encode(prompt)) if length is None else length
            requests.append(
                ContinueRequest(text=prompt, length=room, temperature=temperature, seed=seed + number, **way)
            )
        made = model.synthesize(requests)
        plain = made if alpha is None else plain
        rows = [(list(text.tokens), text.facts["prompt_tokens"]) for text in made]
        # An end token was an evaluation's too.
        tokens = sum(len(ids) - first + text.facts["ended"] for (ids, first), text in zip(rows, made, strict=True))
        rows = [row for row in rows if len(row[0]) > row[1]]
        characters = sum(len(text.text) - len(prompt) for text, prompt in zip(made, prompts, strict=True))
        nats = float(nats_of(judge or model, rows, 1, 1).sum()) if rows else math.nan
        points.append(
            Point(
                alpha,
                tokens / max(sum(text.facts["steps"] for text in made), 1),
                nats / math.log(2) / characters if characters else math.nan,
                sum(a.text != b.text for a, b in zip(made, plain, strict=True)) / max(len(made), 1),
            )
        )
    return points
