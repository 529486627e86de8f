"""Evaluation: is an outline that was asked for by its shape's name taken for that shape?

An outline is judged by how far its points lie from their middle, sorted and resampled, whatever its turn: it is taken
for the shape whose mean over a file's outlines is nearest. The file's own outlines stand beside the model's as what
this judge can tell apart.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from unisono.data import derive_seed
from unisono.errors import RequestError
from unisono.evaluation import Probe, Report, Row, Section

from unisono_sketch.data import Example, Outlines
from unisono_sketch.media import Outline

TAKEN = "taken for the shape asked for"


def evaluate(synthesizer: Any, data: str | Path, *, limit: int = 40, checkpoint: Any = None) -> Report:
    """Measure a model on the first ``limit`` outlines of a file; unknown shapes are listed as failures."""
    examples = read_outlines(data)
    judge = Judge(examples)
    asked = examples[:limit]
    right: dict[str, list[bool]] = {"file": [], "model": []}
    failures = []
    for number, example in enumerate(asked):
        try:
            made = synthesizer({**request_of(example), "seed": derive_seed("evaluate", number)})
        except RequestError as error:
            failures.append({"id": f"outline {number}", "system": "model", "reason": str(error)})
            continue
        right["file"].append(judge(np.array(example.points)) == example.shape)
        right["model"].append(judge(made.points) == example.shape)
    values = {system: fmean(found) if found else None for system, found in right.items()}
    section = Section("Shapes", [Row(TAKEN, values, digits=3, better="higher")])
    return Report(f"{len(asked)} outlines", list(values), [section], {"outlines": len(asked)}, failures=failures)


def probe(synthesizer: Any, data: str | Path, *, limit: int = 32) -> Probe:
    """Return what ``unisono sweep`` asks and measures."""
    examples = read_outlines(data)
    judge, asked = Judge(examples), examples[:limit]

    def measure(made: list[Outline]) -> dict[str, float]:
        return {TAKEN: fmean(judge(one.points) == example.shape for one, example in zip(made, asked, strict=True))}

    return Probe([request_of(example) for example in asked], measure, {TAKEN: "higher"})


def read_outlines(path: str | Path) -> list[Example]:
    """Return the outlines of a file that can be used; raises ``DataError`` where there is none."""
    module = Outlines(path=str(path), val_size=0, batch_size=1)
    module.prepare(progress=False)
    return module.train_set.examples


def request_of(example: Example) -> dict[str, Any]:
    """Return the fields of a request for an outline."""
    return {"shape": example.shape, "points": len(example.points)}


class Judge:
    """Tells shapes apart by the mean profile of each."""

    def __init__(self, examples: Sequence[Example]):
        profiles: dict[str, list[np.ndarray]] = {}
        for example in examples:
            profiles.setdefault(example.shape, []).append(profile(np.array(example.points)))
        self.means = {shape: np.mean(found, axis=0) for shape, found in profiles.items()}

    def __call__(self, points: np.ndarray) -> str:
        """Return the name of the nearest shape."""
        own = profile(points)
        return min(self.means, key=lambda shape: float(np.square(self.means[shape] - own).sum()))


def profile(points: np.ndarray) -> np.ndarray:
    """Return 16 distances of points [n, 2] from their middle, from the least to the greatest."""
    distances = np.linalg.norm(points - points.mean(axis=0), axis=1)
    return np.quantile(distances, np.linspace(0, 1, 16))
