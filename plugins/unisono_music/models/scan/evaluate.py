"""Evaluation of state-space models: their music beside three borders, how likely held-out pieces are, their speed.

real       held-out pieces                                          the ceiling
shuffled   the bars of these in random order                        right within bars alone
bigram     each voice by its own pitch before, drawn                right within voices alone
model      pieces of the same lengths, from nothing
…          other exports of such models (--against): their likelihood
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from unisono.errors import RecipeError
from unisono.evaluation import Report, Row, Section
from unisono.export import load

from unisono_music.corpus import ScoreData
from unisono_music.corpus.data import score_of_rows
from unisono_music.measure.beside import BIGRAM, SYSTEMS, beside_borders, facts_of
from unisono_music.measure.borders import Bigram
from unisono_music.measure.controls import MODEL
from unisono_music.measure.held import Held, num_bars
from unisono_music.models.scan.bounds import WINDOW, blockwise, exact, importance, particles
from unisono_music.models.scan.model import ScanModel
from unisono_music.models.scan.ssm import SSM
from unisono_music.models.scan.vssm import VSSM
from unisono_music.scores import Score

DRAWS = (1, 4, 16, 64)
BLOCKS = (4, 2, 1)
REPEATS = 3
BITS = {
    "step": "all voices of a sixteenth",
    "cell": "a voice of a step",
    "note": "a note, of which a voice holds one pitch",
}


def evaluate(
    synthesizer: Any,
    data: str | Path | ScoreData,
    *,
    limit: int = 32,
    checkpoint: str | Path | None = None,
    against: Sequence[str] = (),
    **fields: Any,
) -> Report:
    """Measure a state-space model on held-out pieces and return one report.

    ``data`` is a data module, a JSON file as ``music/chorales`` reads it, or a folder of MIDI files. At most ``limit``
    pieces are measured; ``fields`` are those of the request (``temperature=0.9``). Raises ``DataError`` where no piece
    is left, or where voices or bars are others than the model's, and ``RecipeError`` for a rival of another kind.
    """
    model: ScanModel = synthesizer.model
    held = Held.read(model, data, limit)
    rivals = {Path(path).name: _rival(path, model) for path in against or ()}
    spent = time.perf_counter()
    made = synthesizer([{"bars": num_bars(s, held.facts), "seed": 1 + i, **fields} for i, s in enumerate(held.real)])
    spent = time.perf_counter() - spent
    bigram = Bigram(held.trained, held.facts)
    return Report(
        title=f"{synthesizer.info.get('model', 'state spaces')}: {len(held.real)} pieces",
        systems=[*SYSTEMS, *rivals],
        sections=[
            beside_borders(held, made, bigram),
            Section("Likelihood", likelihood({MODEL: model, **rivals}, held, bigram)),
            speed(synthesizer, made, spent, fields),
        ],
        facts={**facts_of(held, fields), "likelihood": f"parts of {WINDOW} bars"},
    )


def likelihood(models: dict[str, Any], held: Held, bigram: Bigram) -> list[Row]:
    """Return bits of a step, a cell and a note: exact ones of an autoregressive model, else the tightest bound by
    draws; then the bounds one by one, and what the latents tell."""
    whole = [score_of_rows(torch.from_numpy(piece.notes), piece.num_steps, held.facts) for piece in held.stored]
    steps, notes = sum(score.num_steps for score in whole), sum(score.num_notes for score in whole)
    amounts = {"step": steps, "cell": steps * len(held.facts.voices), "note": notes}
    bits = {BIGRAM: bigram.nats_per_step(whole) * steps / math.log(2)}
    more: dict[str, dict[str, float]] = {}
    for name, model in models.items():
        if isinstance(model, SSM):
            bits[name] = exact(model, held.stored) / math.log(2)
            continue
        found = {f"{draws} draws" if draws > 1 else "one draw": nats for draws, nats in
                 importance(model, held.stored, DRAWS).items()}  # fmt: skip
        bits[name] = found[f"{DRAWS[-1]} draws"] / math.log(2)
        found[f"{DRAWS[-1]} particles"] = particles(model, held.stored, DRAWS[-1])
        for size in BLOCKS:
            found[f"one draw, blocks of {size} bar{'s' * (size > 1)}"] = blockwise(model, held.stored, size)
        for label, nats in found.items():
            more.setdefault(label, {})[name] = nats / math.log(2) / notes
    rows = [
        Row(
            f"of {BITS[name]}", {system: value / amount for system, value in bits.items()}, f"bits a {name}", 3, "lower"
        )
        for name, amount in amounts.items()
    ]
    return rows + [Row(f"bound, {label}", values, "bits a note", 3, "lower") for label, values in more.items()]


def speed(synthesizer: Any, made: Sequence[Score], spent: float, fields: dict[str, Any]) -> Section:
    """Time 8 bars by themselves, the first bar of their stream, and all that was made above together."""
    model, times, first = synthesizer.model, [], []
    before = model.evaluations
    for seed in range(REPEATS + 1):
        start = time.perf_counter()
        synthesizer([{"bars": 8, "seed": seed, **fields}])
        times.append(time.perf_counter() - start)
    each = (model.evaluations - before) / (REPEATS + 1)
    for seed in range(REPEATS + 1):
        start = time.perf_counter()
        next(iter(synthesizer.stream(bars=8, seed=seed, **fields)))
        first.append(time.perf_counter() - start)
    bars = sum(len(score.bars) for score in made)
    return Section(
        "Speed",
        [
            Row("evaluations for 8 bars", {MODEL: each}, digits=1, better="lower"),
            Row("8 bars by themselves, median", {MODEL: median(times[1:])}, "s", 4, "lower"),
            Row("the first bar of their stream, median", {MODEL: median(first[1:])}, "s", 4, "lower"),
            Row("8 bars, in batches", {MODEL: 8 * spent / max(bars, 1)}, "s", 4, "lower"),
        ],
    )


def _rival(path: str, model: ScanModel) -> ScanModel:
    other = load(path)
    if not isinstance(other.model, VSSM | SSM) or other.model.facts.voices != model.facts.voices:
        raise RecipeError(
            f"{path} is a {other.info['model']}: give a music/vssm or music/ssm of the same voices",
            code="type",
            path="--against",
            value=other.info["model"],
        )
    return other.model
