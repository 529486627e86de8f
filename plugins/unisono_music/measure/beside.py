"""Beside: pieces of a model beside three borders, by the measures that ask no network.

    real       held-out pieces                                          the ceiling
    shuffled   the bars of these in random order                        right within bars alone
    bigram     each voice by its own pitch before, drawn                right within voices alone
    model      pieces of the same lengths

All four are compared with the pieces that were trained on.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from unisono.evaluation import Row, Section

from unisono_music.measure.borders import Bigram, shuffled_bars
from unisono_music.measure.controls import MODEL
from unisono_music.measure.held import Held, num_bars
from unisono_music.measure.measures import BETTER, UNITS
from unisono_music.scores import Score

REAL, SHUFFLED, BIGRAM = "real", "shuffled", "bigram"
SYSTEMS = [REAL, SHUFFLED, BIGRAM, MODEL]


def beside_borders(held: Held, made: Sequence[Score], bigram: Bigram) -> Section:
    """Return a row for each measure of what was made, as many pieces as are held, and of the borders."""
    systems = {
        REAL: held.real,
        SHUFFLED: shuffled_bars(held.real, held.facts),
        BIGRAM: [bigram.draw(score.num_steps, seed) for seed, score in enumerate(held.real)],
        MODEL: list(made),
    }
    found = {system: held.reference.measure(scores) for system, scores in systems.items()}
    rows = [
        Row(name, {system: found[system][name] for system in SYSTEMS}, unit, digits, better)
        for name, better in BETTER.items()
        for unit, digits in [UNITS.get(name, ("share", 3))]
    ]
    return Section("Music", rows)


def facts_of(held: Held, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a report says of its pieces and of the requests' ``fields``."""
    return {
        "pieces": len(held.real),
        "bars": sum(num_bars(score, held.facts) for score in held.real),
        "held out": "yes" if held.seen else "no: the data has none of the pieces that were kept out of training",
        **fields,
        "threads": torch.get_num_threads(),
    }
