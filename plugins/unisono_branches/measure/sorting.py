"""Evaluation of workers: are lists sorted, and what do two workers save?

Systems: two workers, and one alone, the same network, on the same lists in turns. Lists are lines of a text file.
"""

import time
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from unisono.errors import DataError, RequestError
from unisono.evaluation import Report, Row, Section
from unisono.files import read_lines

from unisono_branches.corpus.sorting import ASK

RIGHT, SAME_LETTERS = "lists sorted", "lists with the right letters"
EVALUATIONS, SECONDS = "evaluations of the network", "time, one list by itself, median"
SYSTEMS = {"two workers": 2, "one worker": 1}


def evaluate(synthesizer: Any, data: str | Path, *, limit: int = 40, checkpoint: Any = None) -> Report:
    """Measure a model on the first ``limit`` lines of a file; a list that the model refuses is a failure.

    Raises ``DataError`` for a file without lines.
    """
    lists = [line.strip() for line in read_lines(data) if line.strip()][:limit]
    if not lists:
        raise DataError(f"{data} has no lists: give lines of letters", code="empty", path=data)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in SYSTEMS}
    failures, items = [], []
    for number, letters in enumerate(lists):
        names = list(SYSTEMS) if number % 2 else list(SYSTEMS)[::-1]
        for name in names:
            start = time.perf_counter()
            try:
                made = synthesizer(text=letters, workers=SYSTEMS[name])
            except RequestError as error:
                failures.append({"id": f"line {number + 1}", "system": name, "reason": str(error)})
                continue
            seconds = time.perf_counter() - start
            found = made.text.rpartition(ASK)[2]
            right, wanted = found == "".join(sorted(letters)), sorted(letters)
            measured = {RIGHT: right, SAME_LETTERS: sorted(found) == wanted, EVALUATIONS: made.facts["steps"]}
            rows[name].append({**measured, SECONDS: seconds})
            items.append({"list": letters, "system": name, "text": made.text, **made.facts})

    def row(measure: str, unit: str, digits: int, better: str) -> Row:
        middle = median if measure == SECONDS else fmean
        values = {name: middle([own[measure] for own in found]) if found else None for name, found in rows.items()}
        return Row(measure, values, unit, digits, better)

    section = Section(
        "Sorting",
        [
            row(RIGHT, "", 3, "higher"),
            row(SAME_LETTERS, "", 3, "higher"),
            row(EVALUATIONS, "a list", 1, "lower"),
            row(SECONDS, "s", 4, "lower"),
        ],
    )
    facts = {"lists": len(lists), "threads": torch.get_num_threads()}
    return Report(f"{len(lists)} lists", list(SYSTEMS), [section], facts, items, failures)
