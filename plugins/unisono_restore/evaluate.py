"""Evaluation of a restorer: held-out recordings, damaged in ways that it names, and what it makes of them.

::

    recording ─ damaged (one section for each condition) ─┬─ as it is      input
                                                          ├─ baselines     what one would do without the model
                                                          └─ the model

Every system gets the same damaged recordings; a condition that training did not have says so.

Shapes: n samples.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import track
from unisono.data import derive_seed, map_processes
from unisono.errors import DataError, MissingExtra, UnisonoError
from unisono.evaluation import Report, Row, Section
from unisono.extras import optional
from unisono_sound.corpus import Manifest, Utterance, same_sentence
from unisono_sound.signal import read_audio

from unisono_restore import scoring
from unisono_restore.clips import read_recordings
from unisono_restore.restorer import Restorer
from unisono_restore.scoring import Pair
from unisono_restore.trial import Baseline, Condition

__all__ = ["evaluate", "held_out", "roots"]

INPUT = "input"


def evaluate(
    synthesizer: Any,
    data: Manifest | str | Path | dict[str, str] | Sequence[str],
    *,
    limit: int = 40,
    checkpoint: str | Path | None = None,
    conditions: Sequence[Condition] | None = None,
    baselines: Sequence[Baseline] | None = None,
    jobs: int = 1,
    progress: bool = True,
) -> Report:
    """Measure a restorer on held-out recordings and return one report.

    ``data`` is what its training takes as ``data.root``, ``"name=PATH,name=PATH"`` too, or a manifest; of it ``limit``
    recordings are taken that the model was kept from, as it lists them. ``conditions`` and ``baselines`` are the
    model's own unless given. A baseline whose package is missing is left out, and the report says so.

    Raises ``MissingExtra`` without the extra ``evaluate``, ``DataError`` where nothing could be measured.
    """
    optional("pystoi")
    model: Restorer = synthesizer.model
    rate = model.sample_rate
    manifest = data if isinstance(data, Manifest) else read_recordings(roots(data))
    chosen, why = held_out(manifest, limit, model.facts.held_out)
    tried = list(model.conditions() if conditions is None else conditions)
    rivals = list(model.baselines() if baselines is None else baselines)
    name = Path(checkpoint).resolve().name if checkpoint else synthesizer.info.get("model", type(model).__name__)

    failures = manifest.failures()
    pairs: list[Pair] = []
    factors: dict[str, list[float]] = {}
    bar = {"console": Console(stderr=True), "disable": not progress}
    for utterance in track(chosen, "restoring", **bar):
        try:
            clean, _ = read_audio(utterance.audio, rate)
        except UnisonoError as error:
            failures.append({"id": utterance.id, "system": "recording", "reason": f"{type(error).__name__}: {error}"})
            continue
        for condition in tried:
            seed = derive_seed("trial", utterance.id, condition.name)
            damaged = condition.spoil(clean, torch.Generator().manual_seed(seed)).numpy()
            pairs.append(Pair(utterance.id, condition.name, INPUT, clean.numpy(), damaged, rate))
            for system, restore in [*((rival.name, rival.restore) for rival in rivals), (name, model_of(model))]:
                begun = time.perf_counter()
                try:
                    made = restore(damaged, rate)
                except MissingExtra as error:
                    rivals = [rival for rival in rivals if rival.name != system]
                    failures.append({"id": "all", "system": system, "reason": str(error)})
                    continue
                except (UnisonoError, ValueError, RuntimeError) as error:
                    reason = f"{condition.name}: {type(error).__name__}: {error}"
                    failures.append({"id": utterance.id, "system": system, "reason": reason})
                    continue
                factors.setdefault(system, []).append((time.perf_counter() - begun) * rate / len(damaged))
                pairs.append(Pair(utterance.id, condition.name, system, clean.numpy(), made, rate))
    if not pairs:
        raise DataError(f"none of {len(chosen)} recordings could be read", code="empty", path="data", value=len(chosen))
    scores = map_processes(scoring.score, pairs, num_processes=jobs, progress=progress, description="scoring")

    sections = []
    for condition in tried:
        own = [number for number, pair in enumerate(pairs) if pair.condition == condition.name]
        unseen = "" if condition.seen else ", not in training"
        measured = scoring.rows([pairs[number] for number in own], [scores[number] for number in own])
        sections.append(Section(f"{condition.name}{unseen}", measured))
    cost: dict[str, float | str | None] = {system: median(found) for system, found in factors.items()}
    sections.append(Section("what it costs", [Row("real-time factor", cost, digits=4, better="lower")]))
    heard = {pair.id for pair in pairs}
    return Report(
        title=f"{name} on {len(heard)} recordings",
        systems=[INPUT, *(rival.name for rival in rivals), name],
        sections=sections,
        facts={
            "recordings": len(heard),
            "held out": why,
            "sample rate": rate,
            "PESQ": scoring.PESQ_FACT,
            "threads": torch.get_num_threads(),
            "device": str(model.device),
        },
        items=[scoring.record(pair, result) for pair, result in zip(pairs, scores, strict=True)],
        failures=failures + scoring.failures(pairs, scores),
    )


def model_of(model: Restorer) -> Any:
    """Return a model as what a baseline is: a function of a waveform and its rate."""

    def restore(wave: Float[np.ndarray, "n"], rate: int) -> Float[np.ndarray, "n"]:
        (made,) = model.synthesize([model.Request(samples=wave.tolist(), sample_rate=rate)])
        return made.waveform[0]

    return restore


def held_out(manifest: Manifest, limit: int, known: Sequence[str] | None) -> tuple[list[Utterance], str]:
    """Return one recording of each sentence to measure, and why it should be new to the model.

    ``known`` are the texts (ids, where there is none) that it was kept from; a corpus with none of them is taken as new
    to it. Without a list, they are those that training on this corpus alone holds out first.
    """
    first: dict[str, Utterance] = {}
    for utterance in manifest:
        first.setdefault(same_sentence(utterance.text) or utterance.id, utterance)
    wanted = {same_sentence(text) for text in known or ()} | set(known or ())
    order = sorted(first, key=lambda key: (derive_seed("split", first[key].text or first[key].id), key))
    kept = [key for key in order if key in wanted]
    if kept:
        why = "listed by the model"
    else:
        why = "the model lists none of this corpus" if wanted else "first of the split; not listed"
    return [first[key] for key in (kept or order)[:limit]], why


def roots(data: Any) -> Any:
    """Return what ``read_recordings`` reads of what a command line says, ``name=PATH,name=PATH`` too."""
    if isinstance(data, str) and "=" in data and not Path(data).exists():
        return dict(part.strip().split("=", 1) for part in data.split(",") if "=" in part)
    return str(data) if isinstance(data, Path) else data
