"""Evaluation: the model is given the first half of each row of a file; how much of the rest is right?

Beside it stands the likeliest token of all rows, which a model that has learnt nothing could say.
"""

from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

from unisono.data import derive_seed
from unisono.errors import RequestError
from unisono.evaluation import Probe, Report, Row, Section

from unisono_sketch.data import Example, Rows
from unisono_sketch.media import TokenRow

RIGHT = "tokens right"


def evaluate(synthesizer: Any, data: str | Path, *, limit: int = 40, checkpoint: Any = None) -> Report:
    """Measure a model on the first ``limit`` rows of a file; rows of an unknown pattern are listed as failures."""
    rows = read_rows(data, synthesizer.model.facts.num_tokens)[:limit]
    common = Counter(token for row in rows for token in row.tokens).most_common(1)[0][0]
    right: dict[str, list[float]] = {"likeliest token": [], "model": []}
    failures = []
    for number, row in enumerate(rows):
        rest = row.tokens[len(row.tokens) // 2 :]
        try:
            made = synthesizer({**request_of(row), "seed": derive_seed("evaluate", number)})
        except RequestError as error:
            failures.append({"id": f"row {number}", "system": "model", "reason": str(error)})
            continue
        right["likeliest token"].append(fmean(token == common for token in rest))
        right["model"].append(share_right(made, row))
    values = {system: fmean(shares) if shares else None for system, shares in right.items()}
    section = Section("The second half, the first given", [Row(RIGHT, values, digits=3, better="higher")])
    return Report(f"{len(rows)} rows", list(values), [section], {"rows": len(rows)}, failures=failures)


def probe(synthesizer: Any, data: str | Path, *, limit: int = 32) -> Probe:
    """Return what ``unisono sweep`` asks and measures."""
    rows = read_rows(data, synthesizer.model.facts.num_tokens)[:limit]

    def measure(made: list[TokenRow]) -> dict[str, float]:
        return {RIGHT: fmean(share_right(one, row) for one, row in zip(made, rows, strict=True))}

    return Probe([request_of(row) for row in rows], measure, {RIGHT: "higher"})


def read_rows(path: str | Path, num_tokens: int) -> list[Example]:
    """Return the rows of a file that can be used; raises ``DataError`` where there is none."""
    module = Rows(path=str(path), num_tokens=num_tokens, val_size=0, batch_size=1)
    module.prepare(progress=False)
    return module.train_set.rows


def request_of(row: Example) -> dict[str, Any]:
    """Return the fields of a request for a row, its first half given."""
    return {"pattern": row.pattern, "length": len(row.tokens), "given": row.tokens[: len(row.tokens) // 2]}


def share_right(made: TokenRow, row: Example) -> float:
    """Return the share of the second half that is as in the row, in [0, 1]."""
    half = len(row.tokens) // 2
    return fmean(a == b for a, b in zip(made.tokens[half:], row.tokens[half:], strict=True))
