"""Evaluation: how well outlines lie on what phrases mean, by overlap, and what they cost.

``data`` is a file or folder as ``outline/folder`` reads them, or the word ``scenes``: made scenes that were not trained
on, half of them about kinds that no training scene showed ("unseen", where the model's data kept some);
``scenes:FOLDER`` makes them of the emoji of a folder.

Systems that are compared::

    the model, and what ``against`` names         such as the decoder of one vertex after the other
    true, resampled                               the true outline with as many vertices: the best that can be
    true box                                      the box of the right thing
    mean outline                                  the mean of the training outlines, whatever the picture

The overlap (IoU) is measured in the square that models see, by rasters of 4 × 4 samples a pixel. Pr@t is the share of
outlines whose overlap is above t.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from unisono import Image
from unisono.batching import chunks
from unisono.data import Audit, derive_seed
from unisono.errors import DataError
from unisono.evaluation import Probe, Report, Row, Section

from unisono_outline.corpus.data import SEEN, UNSEEN, words_of_scenes
from unisono_outline.corpus.emoji import read_emoji
from unisono_outline.corpus.folder import FolderData
from unisono_outline.corpus.scenes import SceneMaker
from unisono_outline.geometry import iou
from unisono_outline.geometry.polygon import Vertices
from unisono_outline.measure.baselines import baselines
from unisono_outline.media import Outline
from unisono_outline.models.base import OutlineModel

SCENES = "scenes"
LEVELS = (0.5, 0.7, 0.9)
AT_ONCE = 32
TIMED = 8
FIRST = 1_000_000
"""Number of the first scene: validation in training begins at 0."""


@dataclass(frozen=True, eq=False)
class Case:
    """A picture uint8 [3, s, s] as a model sees it, a phrase, and the true outline in sides."""

    id: str
    part: str
    picture: UInt8[np.ndarray, "3 s s"]
    phrase: str
    outline: Vertices


def evaluate(
    synthesizer: Any,
    data: str | Path,
    *,
    limit: int = 40,
    against: Sequence[str] = (),
    device: str | None = None,
    checkpoint: str | Path | None = None,
    **fields: Any,
) -> Report:
    """Measure a model on the first ``limit`` examples of data, or on so many made scenes; return one report.

    ``fields`` are those of the request (``num_steps=4``). Raises ``DataError`` for data that cannot be read, and for
    models in ``against`` whose pictures have another size.
    """
    from unisono.export import load

    if device is not None:
        synthesizer.to(device)
    model: OutlineModel = synthesizer.model
    systems: dict[str, OutlineModel] = {name_of(synthesizer, fields): model}
    for path in against:
        rival = load(path, device=str(model.device))
        if not isinstance(rival.model, OutlineModel):
            raise DataError(f"{path}: is no model of outlines", code="type", path="against", value=path)
        if rival.model.facts.size != model.facts.size:
            sizes = f"{rival.model.facts.size} pixels a side, the model {model.facts.size}"
            raise DataError(f"{path}: sees {sizes}", code="conflict", path="against", value=path)
        name = name_of(rival, fields)
        systems[name if name not in systems else Path(path).name] = rival.model
    cases = cases_of(data, model, limit)
    size = model.facts.size
    overlaps: dict[str, list[float]] = {}
    costs: dict[str, dict[str, float]] = {}
    for title, system in systems.items():
        kept = {key: value for key, value in fields.items() if key in system.Request.model_fields}
        made, costs[title] = outlines_of(system, cases, kept)
        overlaps[title] = [iou(o.vertices, c.outline * size, size, size) for o, c in zip(made, cases, strict=True)]
    for case in cases:
        for title, vertices in baselines(case.outline, model.facts).items():
            overlaps.setdefault(title, []).append(iou(vertices * size, case.outline * size, size, size))
    parts = list(dict.fromkeys(case.part for case in cases))
    sections = [_overlap(part, overlaps, [case.part == part for case in cases]) for part in parts]
    if len(parts) > 1:
        sections.insert(0, _overlap("all", overlaps, [True] * len(cases)))
    rows = [
        Row("evaluations of the decoder", {n: cost["evaluations"] for n, cost in costs.items()}, "", 1, "lower"),
        Row("seconds, one at a time", {n: cost["seconds"] for n, cost in costs.items()}, "s", 4, "lower"),
        Row("parameters", {n: sum(p.numel() for p in system.parameters()) for n, system in systems.items()}, "", 0),
    ]
    return Report(
        title=f"{synthesizer.info.get('model', 'outlines')} on {len(cases)} phrases",
        systems=list(overlaps),
        sections=[*sections, Section("What an outline costs", rows)],
        facts={"data": str(data), "size": size, "threads": torch.get_num_threads(), **fields},
        items=[
            {"id": case.id, "part": case.part, "phrase": case.phrase, "system": title, "iou": values[index]}
            for title, values in overlaps.items()
            for index, case in enumerate(cases)
        ],
    )


def probe(synthesizer: Any, data: str | Path, *, limit: int = 64) -> Probe:
    """Return what ``unisono sweep`` asks and measures: overlaps by ``num_steps``, say."""
    model: OutlineModel = synthesizer.model
    cases = cases_of(data, model, limit)
    size = model.facts.size

    def measure(made: list[Outline]) -> dict[str, float]:
        found = [iou(o.vertices, c.outline * size, size, size) for o, c in zip(made, cases, strict=True)]
        return {"IoU": fmean(found), "Pr@0.5": fmean(value > 0.5 for value in found)}

    return Probe([request_of(case, number) for number, case in enumerate(cases)], measure, dict.fromkeys(
        ("IoU", "Pr@0.5"), "higher"
    ))  # fmt: skip


def cases_of(data: str | Path, model: OutlineModel, limit: int) -> list[Case]:
    """Return what is asked; raises ``DataError`` where there is nothing."""
    facts = model.facts
    word, _, folder = str(data).partition(":")
    if word == SCENES:
        sprites = read_emoji(folder, Audit("scenes")) if folder else ()
        unknown = sorted(set(words_of_scenes(sprites)) - set(facts.words))
        if unknown:
            message = f"data={str(data)!r}: the model was not trained on {unknown[0]!r}: give what it was trained on"
            raise DataError(message, code="conflict", path="data", value=str(data))
        maker = SceneMaker(facts.size, unseen=facts.unseen, sprites=sprites)
        parts = [SEEN, UNSEEN] if facts.unseen else [SEEN]
        cases = []
        for number in range(limit):
            part = parts[number % len(parts)]
            scene = maker(part, FIRST + number, unseen=part == UNSEEN)
            cases.append(Case(f"{part} {FIRST + number}", f"{part} kinds", scene.picture, scene.phrase, scene.outline))
        return cases
    module = FolderData(str(data), size=facts.size, num_vertices=facts.num_vertices, val_size=0, batch_size=1)
    module.prepare(progress=False)
    cases = []
    for own in module.train_set.placed[:limit]:
        square, example = own.fitted(), own.example
        outline = square.to_square(example.outline)
        cases.append(Case(example.id, "pictures", square.picture, example.phrases[0], outline))
    return cases


def request_of(case: Case, number: int) -> dict[str, Any]:
    """Return the request for a case."""
    return {"image": Image(case.picture), "phrase": case.phrase, "seed": derive_seed("evaluate", number)}


def outlines_of(
    model: OutlineModel, cases: Sequence[Case], fields: dict[str, Any]
) -> tuple[list[Outline], dict[str, float]]:
    """Return a model's outlines, and what one costs: evaluations, and the median seconds one at a time."""
    asked: list[Any] = [model.Request(**request_of(case, number), **fields) for number, case in enumerate(cases)]
    made: list[Outline] = []
    spent = []
    with torch.inference_mode():
        before, batches = model.evaluations, 0
        for batch in chunks(asked, AT_ONCE):
            made += model.synthesize(batch)
            batches += 1
        evaluations = (model.evaluations - before) / batches
        for request in asked[:TIMED]:
            start = time.perf_counter()
            model.synthesize([request])
            spent.append(time.perf_counter() - start)
    return made, {"evaluations": evaluations, "seconds": float(np.median(spent))}


def name_of(synthesizer: Any, fields: dict[str, Any]) -> str:
    """Return what a model is called in a report, with its number of steps where it has one."""
    name = synthesizer.info.get("model", "model").rpartition("/")[2]
    if "num_steps" not in synthesizer.model.Request.model_fields:
        return name
    steps = fields.get("num_steps", synthesizer.model.Request.model_fields["num_steps"].default)
    return f"{name}, {steps} steps"


def _overlap(title: str, overlaps: dict[str, list[float]], chosen: Sequence[bool]) -> Section:
    """The overlaps of some of the cases."""
    own = {n: [v for v, c in zip(values, chosen, strict=True) if c] for n, values in overlaps.items()}
    rows = [Row(f"IoU, {title}", {n: fmean(v) for n, v in own.items()}, "", 3, "higher")]
    for level in LEVELS:
        share = {n: 100 * fmean(value > level for value in v) for n, v in own.items()}
        rows.append(Row(f"Pr@{level}, {title}", share, "%", 1, "higher"))
    return Section(f"Overlap, {title} ({sum(chosen)})", rows)
