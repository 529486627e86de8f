"""Evaluation of a band: its music beside three borders, what held-out pieces cost, its controls, and its depth.

    real       held-out pieces                                          the ceiling
    shuffled   the bars of these in random order                        right within bars alone
    bigram     each voice by its own pitch before, drawn                right within voices alone
    model      pieces of the same lengths, told nothing

Costs are exact, and over the words that the grammar allows: they compare with those of models of the same grid.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from unisono.data import collate_items
from unisono.evaluation import Report, Row, Section

from unisono_music.corpus import ScoreData
from unisono_music.corpus.data import score_of_rows
from unisono_music.corpus.stored import PADDING, Stored
from unisono_music.measure.beside import BIGRAM, SYSTEMS, beside_borders, facts_of
from unisono_music.measure.borders import Bigram
from unisono_music.measure.controls import MODEL, controls
from unisono_music.measure.held import Held, num_bars
from unisono_music.models.band.band import Band

AT_ONCE = 8
UNIT = "nats a step"


def evaluate(
    synthesizer: Any,
    data: str | Path | ScoreData,
    *,
    limit: int = 32,
    checkpoint: str | Path | None = None,
    **fields: Any,
) -> Report:
    """Measure a band on held-out pieces and return one report.

    ``data`` is a data module, a JSON file as ``music/chorales`` reads it, or a folder of MIDI files. At most ``limit``
    pieces are measured; ``fields`` are those of the request (``temperature=0.9``). Raises ``DataError`` where no piece
    is left, or where voices or bars are others than the model's.
    """
    model: Band = synthesizer.model
    held = Held.read(model, data, limit)
    longest = model.max_bars * held.facts.steps_per_bar
    held = replace(held, real=[score.cut(0, min(score.num_steps, longest)) for score in held.real])
    asked: list[Any] = [
        model.Request.parse(bars=num_bars(score, held.facts), seed=1 + number, **fields)
        for number, score in enumerate(held.real)
    ]
    plans = [model.plan(request, request.seed) for request in asked]
    before, spent, written = model.evaluations, time.perf_counter(), []
    for at in range(0, len(plans), AT_ONCE):
        composition = model.compose(plans[at : at + AT_ONCE], asked[0])
        while not composition.ended:
            model.step(composition)
        written += composition.written()
    spent = time.perf_counter() - spent
    evaluations = model.evaluations - before
    made = [model.score(piece, sum(plan.bars)) for piece, plan in zip(written, plans, strict=True)]
    bigram = Bigram(held.trained, held.facts)
    words = sum(len(track) - 1 for piece in written for track in piece.words)
    depth = [
        Row(
            "evaluations that wait for one another, by words", {MODEL: sum(p.depth for p in written) / words}, "", 3, ""
        ),
        Row("a piece, evaluated beside others", {MODEL: spent / len(written)}, "s", 3, "lower"),
        Row("evaluations for each piece, beside others", {MODEL: evaluations / len(written)}, digits=1),
    ]
    sections = [beside_borders(held, made, bigram), Section("Cost", costs(model, held, bigram))]
    sections.append(Section("Depth", depth))
    if model.features:
        sections.append(controls(synthesizer, held, made, fields))
    return Report(
        title=f"{synthesizer.info.get('model', 'music/band')}: {len(held.real)} pieces",
        systems=SYSTEMS,
        sections=sections,
        facts=facts_of(held, fields),
    )


def costs(model: Band, held: Held, bigram: Bigram) -> list[Row]:
    """Return nats a step of held-out pieces, all voices together, by what the model is told of them."""
    whole = [score_of_rows(torch.from_numpy(piece.notes), piece.num_steps, held.facts) for piece in held.stored]
    told = nats_per_step(model, held.stored)
    rows = [Row("told nothing", {BIGRAM: bigram.nats_per_step(whole), MODEL: told.pop("nothing")}, UNIT, 3, "lower")]
    return rows + [Row(f"told {name}", {MODEL: value}, UNIT, 3, "lower") for name, value in told.items()]


@torch.inference_mode()
def nats_per_step(model: Band, stored: Sequence[Stored]) -> dict[str, float]:
    """Return the cost of pieces for each step, all tracks together, told nothing, controls, and codes too.

    Pieces are cut at every ``max_bars`` bars, and each part is read as a piece.
    """
    size = model.max_bars
    parts = [piece.cut(at, min(at + size, piece.num_bars)) for piece in stored for at in range(0, piece.num_bars, size)]
    total: dict[str, float] = {}
    steps = 0
    for at in range(0, len(parts), AT_ONCE):
        batch = collate_items([part.item() for part in parts[at : at + AT_ONCE]], PADDING)
        pieces, measured = model.pieces(batch), model.measured(batch)
        told = {"nothing": torch.zeros_like(measured)}
        if model.features:
            told["controls"] = measured
        if model.coder is not None:
            told["controls and codes"] = model.coded(pieces, measured)
        for name, given in told.items():
            total[name] = total.get(name, 0.0) + float(model.cost(pieces, given).double().sum())
        steps += int(pieces.steps.sum())
    return {name: value / steps for name, value in total.items()}
