"""Likelihood: how likely held-out pictures' tokens are to a generator of tokens, by any order of places.

A generator that predicts one token after the other has it exactly: one pass gives the probability of each token given
those before it, and their product is the picture's. A masked generator's is bounded: what it says of k hidden tokens, k
drawn from 1 … n, stands for what it would say in a random order (LLaDA's estimator, `Counted`). Both are means over
orders, so they can be laid side by side.

Orders and masks are drawn from a picture's number, so that two models are asked in the same.

Shapes: n pictures, b of them at once.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from numpy import ndarray, stack
from torch import Tensor
from unisono.data import derive_seed
from unisono.evaluation import Report, Row, Section
from unisono.masked import Canvas, Counted, negative_elbo
from unisono.nn.condition import NO_LABEL, Condition

from unisono_image.corpus.data import ImageData, Picture
from unisono_image.measure.evaluate import MODEL, Corpus, corpus_of
from unisono_image.measure.evaluate import evaluate as evaluate_pictures
from unisono_image.models.ordered import OrderedGenerator

ORDERS, MASKS = 4, 16
"""Of a picture: orders of a generator that predicts in order, masks of one that fills."""
AT_ONCE = 64


def evaluate(
    synthesizer: Any,
    data: str | Path | ImageData,
    *,
    limit: int = 500,
    checkpoint: str | Path | None = None,
    **options: Any,
) -> Report:
    """Measure a generator of tokens: as any generator of pictures, and by the likelihood of reference pictures.

    These are asked for by their own class or caption, ``limit`` of them at most.
    """
    module = data if isinstance(data, ImageData) else corpus_of(synthesizer.model, str(data))
    report = evaluate_pictures(synthesizer, module, limit=limit, checkpoint=checkpoint, **options)
    corpus, model = Corpus.read(synthesizer, module, limit), synthesizer.model
    chosen = corpus.reference[:limit]
    nats = nats_per_token(model, corpus.pixels(chosen), chosen, corpus.classes)
    mean, error = fmean(nats), stdev(nats) / math.sqrt(len(nats))
    exact = isinstance(model, OrderedGenerator)
    rows = [
        Row("nats a token" if exact else "nats a token, at most", {MODEL: mean}, "", 4, "lower"),
        Row("its standard error over pictures", {MODEL: error}, "", 4),
        Row("the same, bits a picture", {MODEL: mean * model.num_tokens / math.log(2)}, "", 1),
        Row("nats a token if all codes were alike", {MODEL: math.log(model.num_codes)}, "", 4),
    ]  # fmt: skip
    how = f"exact, {ORDERS} orders of each" if exact else f"a bound, {MASKS} masks of each"
    section = Section(f"Likelihood of the tokens of {len(chosen)} reference pictures: {how}", rows)
    return replace(report, sections=[*report.sections, section])


@torch.no_grad()
def nats_per_token(
    model: Any,
    pixels: Sequence[UInt8[ndarray, "3 s s"]],
    pictures: Sequence[Picture],
    classes: Sequence[str],
) -> list[float]:
    """Return each picture's −log p per token in nats, under its class or first caption; at most that, where masked."""
    found: list[float] = []
    own = {name: number for number, name in enumerate(model.facts.classes)}
    for first in range(0, len(pixels), AT_ONCE):
        part = pictures[first : first + AT_ONCE]
        images = torch.from_numpy(stack(pixels[first : first + AT_ONCE])).to(model.device).float() / 127.5 - 1
        labels = [own.get(classes[p.label], NO_LABEL) if p.label >= 0 else NO_LABEL for p in part]
        captions = [p.captions[0] if p.captions and model.facts.words else "" for p in part]
        seeds = [derive_seed("likelihood", first + i) for i in range(len(part))]
        condition, tokens = model.condition_of(labels, captions), model.tokenizer.tokens(images)
        if isinstance(model, OrderedGenerator):
            found += model.nats_per_token(tokens, condition, seeds, ORDERS).tolist()
        else:
            found += bound_per_token(model, tokens, condition, seeds, MASKS).tolist()
    return found


@torch.no_grad()
def bound_per_token(
    model: Any, tokens: Int[Tensor, "b n"], condition: Condition, seeds: Sequence[int], num_masks: int
) -> Float[Tensor, " b"]:
    """Return what a masked generator's −log p per token is at most, in nats, over masks drawn from each seed."""
    total = torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
    for draw in range(num_masks):
        drawn = [derive_seed(seed, "mask", draw) for seed in seeds]
        blank = Canvas.blank(model.layout(tokens.shape[1]), drawn, device=tokens.device)
        corrupted = Counted()(blank, tokens)
        seen = corrupted.canvas
        logits = model.predict(seen.tokens[..., None], seen.known[..., None], condition)[:, :, 0]
        total += negative_elbo(logits.double(), corrupted)
    return total / (num_masks * tokens.shape[1])
