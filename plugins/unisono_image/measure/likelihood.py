"""Likelihood: how likely held-out pictures' tokens are to a generator that predicts one after the other, in any order.

It is exact: one pass gives the probability of every token given those before it, and their product is the picture's.
Each picture is asked in orders of its own, drawn from its number, so that two models are compared on the same orders.

Shapes: n pictures.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from jaxtyping import UInt8
from numpy import ndarray, stack
from unisono.data import derive_seed
from unisono.evaluation import Report, Row, Section

from unisono_image.corpus.data import ImageData, Picture
from unisono_image.measure.evaluate import MODEL, Corpus, corpus_of
from unisono_image.measure.evaluate import evaluate as evaluate_pictures
from unisono_image.models.condition import NO_LABEL

ORDERS = 4
AT_ONCE = 64


def evaluate(
    synthesizer: Any,
    data: str | Path | ImageData,
    *,
    limit: int = 500,
    checkpoint: str | Path | None = None,
    **options: Any,
) -> Report:
    """Measure an ordered generator: as any generator of pictures, and by the likelihood of reference pictures.

    These are asked for by their own class or caption, ``limit`` of them at most.
    """
    module = data if isinstance(data, ImageData) else corpus_of(synthesizer.model, str(data))
    report = evaluate_pictures(synthesizer, module, limit=limit, checkpoint=checkpoint, **options)
    corpus = Corpus.read(synthesizer, module, limit)
    chosen = corpus.reference[:limit]
    nats = nats_per_token(synthesizer.model, corpus.pixels(chosen), chosen, corpus.classes)
    mean, error = fmean(nats), stdev(nats) / math.sqrt(len(nats)) if len(nats) > 1 else None
    model = synthesizer.model
    rows = [
        Row(f"nats a token, exact, mean of {ORDERS} orders", {MODEL: mean}, "", 4, "lower"),
        Row("standard error of it", {MODEL: error}, "", 4),
        Row("bits a picture", {MODEL: mean * model.num_tokens / math.log(2)}, "", 1, "lower"),
        Row("nats a token if all codes were alike", {MODEL: math.log(model.num_codes)}, "", 4),
    ]
    section = Section(f"Likelihood of {len(chosen)} reference pictures' tokens", rows)
    return replace(report, sections=[*report.sections, section])


@torch.no_grad()
def nats_per_token(
    model: Any,
    pixels: Sequence[UInt8[ndarray, "3 s s"]],
    pictures: Sequence[Picture],
    classes: Sequence[str],
    num_orders: int = ORDERS,
) -> list[float]:
    """Return each picture's −log p per token in nats, under its class or first caption, the mean of some orders."""
    found: list[float] = []
    own = {name: number for number, name in enumerate(model.facts.classes)}
    for first in range(0, len(pixels), AT_ONCE):
        part = pictures[first : first + AT_ONCE]
        images = torch.from_numpy(stack(pixels[first : first + AT_ONCE])).to(model.device).float() / 127.5 - 1
        labels = [own.get(classes[p.label], NO_LABEL) if p.label >= 0 else NO_LABEL for p in part]
        captions = [p.captions[0] if p.captions and model.facts.words else "" for p in part]
        seeds = [derive_seed("likelihood", first + i) for i in range(len(part))]
        condition = model.condition_of(labels, captions)
        found += model.nats_per_token(model.tokenizer.tokens(images), condition, seeds, num_orders).tolist()
    return found
