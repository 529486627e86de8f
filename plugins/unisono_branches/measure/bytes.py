"""Evaluation of streams: how well bytes are predicted, and what a byte costs.

The last tenth of a file is measured, in rows of the model's context. Beside the model stand other exports
(``--against``), such as those of other numbers of streams.
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

from unisono_branches.corpus.bytes import ByteData
from unisono_branches.parscale.model import ParScale

BITS, WEIGHTS, SECONDS = "bits per byte", "weights", "time of a byte, one text by itself, median"
ROWS_AT_ONCE = 16
REPEATS = 5
BYTES_TIMED = 32


def evaluate(
    synthesizer: Any, data: str | Path, *, limit: int = 40, checkpoint: Any = None, against: Sequence[str] = ()
) -> Report:
    """Measure a model on at most ``limit`` rows of the last tenth of a file, spread over it.

    Raises ``DataError`` for a file of less than ten rows, and ``RecipeError`` for a rival of another kind or context.
    """
    models = {"model": synthesizer}
    context = synthesizer.model.facts.context
    for rival in against or ():
        other = load(rival)
        if not isinstance(other.model, ParScale) or other.model.facts.context != context:
            raise RecipeError(
                f"{rival} is a {other.info['model']}: give a branches/parscale of the same context, {context} bytes",
                code="type",
                path="--against",
                value=other.info["model"],
            )
        models[Path(rival).name] = other
    module = ByteData(root=str(data), context=context, batch_size=1)
    module.prepare(progress=False)
    rows = torch.from_numpy(module.val_set.rows.astype("int64"))
    rows = rows[torch.linspace(0, len(rows) - 1, min(limit, len(rows))).round().long()]
    bits = {name: bits_per_byte(one.model, rows) for name, one in models.items()}
    weights = {name: sum(p.numel() for p in one.model.parameters()) for name, one in models.items()}
    section = Section(
        "Streams",
        [
            Row("streams", {name: one.model.num_streams for name, one in models.items()}, "", 0),
            Row(BITS, bits, "", 4, "lower"),
            Row(WEIGHTS, weights, "", 0),
            Row(SECONDS, _seconds(models), "s", 5, "lower"),
        ],
    )
    facts = {"rows": len(rows), "context": context, "threads": torch.get_num_threads()}
    return Report(f"{len(rows)} rows of {context} bytes", list(models), [section], facts)


@torch.no_grad()
def bits_per_byte(model: ParScale, rows: torch.Tensor) -> float:
    """Return the mean surprise of the bytes of rows, in bits."""
    costs = [model.cost(part.to(model.device)).double().cpu() for part in rows.split(ROWS_AT_ONCE)]
    return float(torch.cat(costs).mean()) / math.log(2)


def _seconds(models: dict[str, Any]) -> dict[str, float]:
    """The time of a byte of each model, in turns."""
    spent: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(1 + REPEATS):
        for name, one in models.items():
            length = min(BYTES_TIMED, one.model.facts.context - 1)
            start = time.perf_counter()
            one(text="a", length=length, temperature=0.0)
            spent[name].append((time.perf_counter() - start) / length)
    return {name: median(own[1:]) for name, own in spent.items()}
