"""Evaluation: how far durations, and the heights of letters, are from those of a file.

Beside the model stands the mean over the file, which a model that has learnt nothing could say.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from unisono.errors import RequestError
from unisono.evaluation import Probe, Report, Row, Section

from unisono_sketch.data import Example, Letters
from unisono_sketch.media import Line

DURATION, HEIGHT = "duration error", "height error"


def evaluate(synthesizer: Any, data: str | Path, *, limit: int = 40, checkpoint: Any = None) -> Report:
    """Measure a model on the first ``limit`` texts of a file; texts of unknown letters are listed as failures."""
    examples = read_texts(data)[:limit]
    made, asked, failures = [], [], []
    for number, example in enumerate(examples):
        try:
            made.append(synthesizer(example.text))
        except RequestError as error:
            failures.append({"id": f"text {number}", "system": "model", "reason": str(error)})
            continue
        asked.append(example)
    found = {"mean of the file": errors(mean_of(asked), asked), "model": errors(made, asked)} if asked else {}
    systems = ["mean of the file", "model"]
    rows = [
        Row(name, {system: found[system][name] if found else None for system in systems}, unit, 3, "lower")
        for name, unit in ((DURATION, "frames"), (HEIGHT, ""))
    ]
    facts = {"texts": len(examples)}
    return Report(f"{len(examples)} texts", systems, [Section("Letters", rows)], facts, failures=failures)


def probe(synthesizer: Any, data: str | Path, *, limit: int = 32) -> Probe:
    """Return what ``unisono sweep`` asks and measures."""
    examples = read_texts(data)[:limit]
    asked = [{"text": example.text} for example in examples]
    return Probe(asked, lambda made: errors(made, examples), {DURATION: "lower", HEIGHT: "lower"})


def read_texts(path: str | Path) -> list[Example]:
    """Return the texts of a file that can be used; raises ``DataError`` where there is none."""
    module = Letters(path=str(path), val_size=0, batch_size=1)
    module.prepare(progress=False)
    return module.train_set.examples


def errors(made: Sequence[Line], examples: Sequence[Example]) -> dict[str, float]:
    """Return mean absolute errors over all letters, of frames and of mean values."""
    pairs = [(one, line_of(example)) for one, example in zip(made, examples, strict=True)]
    frames = [abs(a - b) for one, true in pairs for a, b in zip(one.durations, true.durations, strict=True)]
    heights = [abs(a - b) for one, true in pairs for a, b in zip(heights_of(one), heights_of(true), strict=True)]
    return {DURATION: fmean(frames), HEIGHT: fmean(heights)}


def heights_of(line: Line) -> list[float]:
    """Return the mean value of each letter's frames."""
    return [float(part.mean()) for part in np.split(line.values, np.cumsum(line.durations)[:-1])]


def line_of(example: Example) -> Line:
    """Return an example as the line that it is."""
    return Line(np.array(example.values, np.float32), example.text, tuple(example.durations))


def mean_of(examples: Sequence[Example]) -> list[Line]:
    """Return lines whose letters all last the mean duration and have the mean value."""
    frames = round(fmean(frames for example in examples for frames in example.durations))
    value = fmean(value for example in examples for value in example.values)
    counts = [len(example.text) for example in examples]
    return [
        Line(np.full(n * frames, value, np.float32), example.text, (frames,) * n)
        for n, example in zip(counts, examples, strict=True)
    ]
