"""Evaluation of a grid model: its music beside three borders, its likelihood, its controls, what stands, its speed.

    real       held-out pieces                                          the ceiling
    shuffled   the bars of these in random order                        right within bars alone
    bigram     each voice by its own pitch before, drawn                right within voices alone
    model      pieces of the same lengths

All four are compared with the pieces that were trained on. Measures of music are those of ``measures``, which ask no
network.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from unisono.evaluation import Probe, Report, Row, Section

from unisono_music.corpus import ScoreData
from unisono_music.corpus.data import score_of_rows
from unisono_music.measure.beside import BIGRAM, REAL, SYSTEMS, beside_borders, facts_of
from unisono_music.measure.borders import Bigram
from unisono_music.measure.controls import MODEL, controls
from unisono_music.measure.held import Held, num_bars
from unisono_music.measure.likelihood import nats_per_step
from unisono_music.measure.measures import COUNTED, UNITS
from unisono_music.scores import Score

SPEED_REPEATS = 3


def evaluate(
    synthesizer: Any,
    data: str | Path | ScoreData,
    *,
    limit: int = 32,
    checkpoint: str | Path | None = None,
    **fields: Any,
) -> Report:
    """Measure a grid model on held-out pieces and return one report.

    ``data`` is a data module, a JSON file as ``music/chorales`` reads it, or a folder of MIDI files. At most ``limit``
    pieces are measured; ``fields`` are those of the request (``num_steps=16``). Raises ``DataError`` where no piece is
    left, or where voices or bars are others than the model's.
    """
    model, held = synthesizer.model, Held.read(synthesizer.model, data, limit)
    spent = time.perf_counter()
    made = synthesizer([{"bars": num_bars(s, held.facts), "seed": 1 + i, **fields} for i, s in enumerate(held.real)])
    spent = time.perf_counter() - spent
    bigram = Bigram(held.trained, held.facts)
    return Report(
        title=f"{synthesizer.info.get('model', 'music/grid')}: {len(held.real)} pieces",
        systems=SYSTEMS,
        sections=[
            beside_borders(held, made, bigram),
            likelihood(model, held, bigram),
            controls(synthesizer, held, made, fields),
            standing(synthesizer, held, fields),
            speed(synthesizer, made, spent, fields),
        ],
        facts=facts_of(held, fields),
    )


def probe(synthesizer: Any, data: str | Path | ScoreData, *, limit: int = 16) -> Probe:
    """Return what ``unisono sweep`` asks of a grid model: pieces as long as held-out ones, and how far they are from
    the corpus (the mean of the four distances), and the share of beats without a triad, as far as it is above theirs.
    """
    held = Held.read(synthesizer.model, data, limit)
    real = held.reference.measure(held.real)

    def measure(made: list[Score]) -> dict[str, float]:
        found = held.reference.measure(made)
        off = abs(found["beats without a triad"] - real["beats without a triad"])
        return {"distance": fmean(found[name] for name in COUNTED), "triads off": off}

    return Probe(
        [{"bars": num_bars(score, held.facts)} for score in held.real],
        measure,
        {"distance": "lower", "triads off": "lower"},
        {
            "held out": "yes" if held.seen else "no",
            "distance of real pieces": round(fmean(real[n] for n in COUNTED), 3),
        },
    )


def likelihood(model: Any, held: Held, bigram: Bigram) -> Section:
    """How likely held-out pieces are, by any order of cells (a bound), and the other voices given the first."""
    whole = [score_of_rows(torch.from_numpy(piece.notes), piece.num_steps, held.facts) for piece in held.stored]
    unit = "nats a step"
    values = {BIGRAM: bigram.nats_per_step(whole), MODEL: nats_per_step(model, held.stored)}
    rows = [Row("all voices, any order", values, unit, 3, "lower")]
    if len(held.facts.voices) > 1:
        name = held.facts.voices[0].name
        rows.append(Row(f"the others, given {name}", {MODEL: nats_per_step(model, held.stored, 0)}, unit, 3, "lower"))
    return Section("Likelihood", rows)


def standing(synthesizer: Any, held: Held, fields: dict[str, Any]) -> Section:
    """Harmonise the first voice of real pieces, and fill their middle: what stands must stand, and how it fits."""
    model, facts = synthesizer.model, held.facts
    if len(facts.voices) < 2:
        return Section("What stands", [])
    first = facts.voices[0].name
    melodies = [[(first, n.onset, n.duration, n.pitch) for n in score.tracks[0].notes] for score in held.real]
    asked = [
        {"notes": notes, "bars": num_bars(score, facts), "keep_voices": [first], "seed": 1 + i, **fields}
        for i, (notes, score) in enumerate(zip(melodies, held.real, strict=True))
        if notes
    ]
    made = synthesizer(asked)
    changed = frozen = 0
    for request, score in zip(asked, made, strict=True):
        for wanted, found in model.given_parts(model.Request.parse(**request), score):
            frozen += len(wanted)
            changed += sum(a != b for a, b in zip(wanted, found, strict=True))
    measured, real = held.reference.measure(made), held.reference.measure(held.real)
    rows = [Row("frozen cells changed", {MODEL: f"{changed} of {frozen}"})]
    for name in ("intervals between voices", "parallel fifths and octaves", "dissonant beats", "beats without a triad"):
        unit, digits = UNITS.get(name, ("share", 3))
        rows.append(Row(f"{name}, {first} given", {REAL: real[name], MODEL: measured[name]}, unit, digits))
    return Section("What stands", rows)


def speed(synthesizer: Any, made: Sequence[Score], spent: float, fields: dict[str, Any]) -> Section:
    """Time 8 bars by themselves, and all that was made above together."""
    model, times = synthesizer.model, []
    before = model.evaluations
    for seed in range(SPEED_REPEATS + 1):
        start = time.perf_counter()
        synthesizer([{"bars": 8, "seed": seed, **fields}])
        times.append(time.perf_counter() - start)
    each = (model.evaluations - before) / (SPEED_REPEATS + 1)
    bars = sum(len(score.bars) for score in made)
    return Section(
        "Speed",
        [
            Row("8 bars by themselves, median", {MODEL: median(times[1:])}, "s", 3, "lower"),
            Row("evaluations for them", {MODEL: each}, digits=1),
            Row("8 bars, in batches", {MODEL: 8 * spent / max(bars, 1)}, "s", 3, "lower"),
        ],
    )
