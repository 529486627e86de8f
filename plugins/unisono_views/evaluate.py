"""Evaluation of a model of views: near the truth, in agreement, and an object again.

Systems that are compared::

    degraded    what the model is given
    joint       a model whose views attend to one another; alone, one whose views do not
    and what ``against`` names, such as the other one of the same size
    true        the true views, where they are not what is compared with: what a measure can reach

Made objects are of numbers that no model was trained on; depths and the object are exact there. A folder of pairs has
neither, so that only the distance from the true views is measured.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from unisono.batching import chunks
from unisono.data import Audit, Drop, derive_seed, words_of
from unisono.errors import DataError
from unisono.evaluation import Probe, Report, Row, Section

from unisono_views.data import grey, make_pair
from unisono_views.facts import ViewFacts
from unisono_views.folder import Pairs
from unisono_views.hull import overlap, visual_hull
from unisono_views.measure import disagreement, psnr, ssim
from unisono_views.media import Views
from unisono_views.model import UNSEEN, SharpIt
from unisono_views.render import depth
from unisono_views.shapes import Shape, make_shape

OBJECTS = "views/objects"
"""What is given as data for made objects."""
AT_ONCE = 8
DEGRADED, TRUE = "degraded", "true"
MEASURES: dict[str, tuple[str, int, Literal["lower", "higher"]]] = {
    "PSNR": ("dB", 2, "higher"),
    "SSIM": ("", 3, "higher"),
    "colours of one point apart": ("of 255", 2, "lower"),
    "overlap of the hull": ("IoU", 3, "higher"),
}
BY_CAPTION = "PSNR, colours by the caption"


@dataclass(frozen=True, eq=False)
class Case:
    """An object to measure on: its views, and itself where it is known."""

    id: str
    caption: str
    true: Tensor
    coarse: Tensor
    shape: Shape | None = None


def evaluate(
    synthesizer: Any,
    data: str | Path,
    *,
    limit: int = 40,
    against: Sequence[str] = (),
    checkpoint: str | Path | None = None,
    **fields: Any,
) -> Report:
    """Measure a model on ``limit`` objects, and return one report.

    ``data`` is a folder as ``views/folder`` reads it, or ``views/objects``. ``against`` names more exports, ``fields``
    are those of the request (``strength=0.8``). Raises ``DataError`` where a folder's cameras or sizes, or a rival, are
    not the model's.
    """
    from unisono.export import load

    facts = synthesizer.model.facts
    systems = {name_of(synthesizer.model): synthesizer}
    for path in against:
        rival = load(path, device=str(synthesizer.model.device))
        if not isinstance(rival.model, SharpIt) or (rival.model.facts.size, rival.model.facts.cameras) != (
            facts.size,
            facts.cameras,
        ):
            raise DataError(
                f"{path}: is no model of views of this size and these cameras", code="type", path="against", value=path
            )
        name = name_of(rival.model)
        systems[name if name not in systems else Path(path).name] = rival
    audit = Audit("objects")
    cases = list(cases_of(data, facts, limit, audit))
    if not cases:
        raise DataError(f"{data}: has no object that can be measured on", code="empty", path="data", value=str(data))
    measured: dict[str, list[dict[str, float]]] = {
        DEGRADED: [measure(case, case.coarse.float() / 255, facts) for case in cases],
        TRUE: [measure(case, case.true.float() / 255, facts) for case in cases],
    }
    recoloured: dict[str, float | None] = {}
    failures = [{"id": drop.id, "system": "data", "reason": f"{drop.reason}: {drop.detail}"} for drop in audit.dropped]
    told = [case for case in cases if case.caption]
    if told:
        recoloured[DEGRADED] = fmean(psnr(grey(case.coarse).float() / 255, case.true.float() / 255) for case in told)
    for name, system in systems.items():
        made = _made(
            system, [request_of(case, system.model.facts, number, **fields) for number, case in enumerate(cases)]
        )
        measured[name] = [measure(case, views, facts) for case, views in zip(cases, made, strict=True)]
        asked = [(n, case) for n, case in enumerate(told) if _knows(system.model.facts, case.caption)]
        if asked:
            requests = [
                request_of(case, system.model.facts, n, **{**fields, "colours": "caption"}) for n, case in asked
            ]
            made = _made(system, requests)
            pairs = zip(asked, made, strict=True)
            recoloured[name] = fmean(psnr(views, case.true.float() / 255) for (_, case), views in pairs)
    columns = [DEGRADED, *systems, TRUE]
    rows = []
    for title, (unit, digits, better) in MEASURES.items():
        values: dict[str, float | str | None] = {}
        for column in columns:
            found = [each[title] for each in measured[column] if title in each and np.isfinite(each[title])]
            if found and not (column == TRUE and title in ("PSNR", "SSIM")):
                values[column] = fmean(found)
        if values:
            rows.append(Row(title, values, unit, digits, better))
    sections = [Section("Views", rows)]
    if recoloured:
        sections.append(Section("Edits", [Row(BY_CAPTION, recoloured, "dB", 2, "higher")]))
    return Report(
        title=f"{len(cases)} objects, {len(facts.cameras)} views of {facts.size} × {facts.size}",
        systems=columns,
        sections=sections,
        facts={"data": str(data), "threads": torch.get_num_threads(), **fields},
        items=[
            {"system": system, "id": case.id, **each}
            for system, rows_ in measured.items()
            for case, each in zip(cases, rows_, strict=True)
        ],
        failures=failures,
    )


def probe(synthesizer: Any, data: str | Path, *, limit: int = 16) -> Probe:
    """Return what ``unisono sweep`` asks and measures of a model of views."""
    facts = synthesizer.model.facts
    cases = list(cases_of(data, facts, limit, Audit("objects")))

    def measured(made: list[Views]) -> dict[str, float]:
        found = [
            measure(case, torch.stack([torch.from_numpy(view.pixels) for view in views.views]).float(), facts)
            for case, views in zip(cases, made, strict=True)
        ]
        return {title: fmean(each[title] for each in found) for title in MEASURES if all(title in f for f in found)}

    requests = [request_of(case, facts, number) for number, case in enumerate(cases)]
    return Probe(requests, measured, {title: better for title, (_, _, better) in MEASURES.items()})


def cases_of(data: str | Path, facts: ViewFacts, limit: int, audit: Audit) -> Iterator[Case]:
    """Yield the objects to measure on; those that cannot be used go to the audit. Raises ``DataError``."""
    if str(data) == OBJECTS:
        for number in range(UNSEEN, UNSEEN + limit):
            shape = make_shape(number)
            true, coarse = make_pair(number, size=facts.size, cameras=facts.cameras)
            yield Case(f"object-{number}", shape.caption, true, coarse, shape)
        return
    pairs = Pairs(Path(data), audit)
    if pairs.cameras != facts.cameras:
        raise DataError(
            f"{data}: its cameras are not those of the model, {facts.cameras}",
            code="conflict",
            path="data",
            value=str(data),
        )
    for id in pairs.ids[:limit]:
        try:
            true, coarse = pairs.read(id, facts.size)
        except Drop as drop:
            audit.drop(id, drop.reason, str(drop))
            continue
        yield Case(id, pairs.captions.get(id, ""), torch.from_numpy(true), torch.from_numpy(coarse))


def measure(case: Case, views: Float[Tensor, "v 3 s s"], facts: ViewFacts) -> dict[str, float]:
    """Return the measures of one object's views, as far as they can be taken."""
    true = case.true.float() / 255
    found = {"PSNR": psnr(views, true), "SSIM": ssim(views, true)}
    if case.shape is not None:
        depths = depth(case.shape, facts.cameras, facts.size)
        found["colours of one point apart"] = 255 * disagreement(views, depths, facts.cameras)[0]
        found["overlap of the hull"] = overlap(visual_hull(views, facts.cameras), case.shape)
    return found


def request_of(case: Case, facts: ViewFacts, number: int, **fields: Any) -> dict[str, Any]:
    """Return the fields of a request for an object, with its caption where the model knows the words."""
    prompt = case.caption if _knows(facts, case.caption) else None
    return {"sheet": Views.of(case.coarse.numpy()), "prompt": prompt, "seed": derive_seed("evaluate", number), **fields}


def name_of(model: SharpIt) -> str:
    """Return what a model is called beside others."""
    return "joint" if model.cross_view else "alone"


def _knows(facts: ViewFacts, caption: str) -> bool:
    return bool(caption) and all(word in facts.words for word in words_of(caption))


def _made(synthesizer: Any, requests: Sequence[dict[str, Any]]) -> list[Float[Tensor, "v 3 s s"]]:
    """The views of requests, [0, 1]."""
    made: list[Views] = []
    for some in chunks(requests, AT_ONCE):
        made += synthesizer([synthesizer.request(**fields) for fields in some])
    return [torch.stack([torch.from_numpy(view.pixels) for view in views.views]).float() for views in made]
