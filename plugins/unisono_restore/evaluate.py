"""Evaluation of a restorer: held-out recordings, damaged in ways that it names, and what it makes of them.

::

    recording ─ damaged (one section for each condition) ─┬─ as it is      input
                                                          ├─ baselines     what one would do without the model
                                                          └─ the model

Every system gets the same damaged recordings; a condition that training did not have says so, and what training had and
what it had not are also told as one each. Judges, where they are given, mark the words that are left, and the damaged
recordings' beside them.

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
from unisono_sound.measure import ErrorRate, Judge, judge
from unisono_sound.measure.judged import judged_rows
from unisono_sound.measure.judges import check_judges
from unisono_sound.measure.scoring import Clip
from unisono_sound.signal import MelSpec, read_audio

from unisono_restore import baselines as known
from unisono_restore import scoring
from unisono_restore.clips import read_recordings
from unisono_restore.restorer import Restorer
from unisono_restore.scoring import Pair
from unisono_restore.trial import Baseline, Condition

__all__ = ["evaluate", "held_out", "roots"]

INPUT, RECORDING = "input", "recording"


def evaluate(
    synthesizer: Any,
    data: Manifest | str | Path | dict[str, str] | Sequence[str],
    *,
    limit: int = 40,
    checkpoint: str | Path | None = None,
    conditions: Sequence[Condition] | None = None,
    baselines: Sequence[str | Baseline] | None = None,
    judges: Sequence[str | Judge] = (),
    jobs: int = 1,
    progress: bool = True,
) -> Report:
    """Measure a restorer on held-out recordings and return one report.

    ``data`` is what its training takes as ``data.root``, ``"name=PATH,name=PATH"`` too, or a manifest; of it ``limit``
    recordings are taken that the model was kept from, as it lists them. ``conditions`` and ``baselines`` are the
    model's own unless given; of these, one whose package is missing is left out, and the report says so. ``judges``
    mark how much of the words is left, of recordings whose text is known.

    Raises ``MissingExtra`` without the extra ``evaluate`` and where a baseline that is given by name lacks its package,
    ``DataError`` where nothing could be measured, and what ``judge`` and ``check_judges`` raise.
    """
    optional("pystoi")
    given = None if baselines is None else known.named(baselines)
    bench = [judge(one) if isinstance(one, str) else one for one in judges]
    model: Restorer = synthesizer.model
    rate = model.sample_rate
    manifest = data if isinstance(data, Manifest) else read_recordings(roots(data))
    chosen, why = held_out(manifest, limit, model.facts.held_out)
    tried = list(model.conditions() if conditions is None else conditions)
    rivals = list(model.baselines()) if given is None else given
    texts = {utterance.id: utterance.text for utterance in chosen if utterance.text}
    if bench and not texts:
        raise DataError(
            "no recording has a text, and judges mark words: measure a corpus with texts, or give no judge",
            code="missing",
            path="--judge",
        )
    check_judges(bench, list(texts.values()), "")
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

    told: dict[str, Any] = {}
    if bench:
        told = _own_errors(bench, pairs, texts, failures, progress)
    heard_by = [_Heard(one) for one in bench]

    def section(title: str, names: Sequence[str]) -> Section:
        own = [number for number, pair in enumerate(pairs) if pair.condition in names]
        measured = scoring.rows([pairs[number] for number in own], [scores[number] for number in own])
        if bench:
            clips = [_clip(pair, pair.system, pair.made, texts) for pair in pairs if pair.condition in names]
            found, _ = judged_rows(heard_by, [clip for clip in clips if clip.text], failures, progress, INPUT)
            measured += found
        return Section(title, measured)

    sections = [
        section(f"{condition.name}{'' if condition.seen else ', not in training'}", [condition.name])
        for condition in tried
    ]
    for seen, title in ((True, "all that training had"), (False, "all that training did not have")):
        names = [condition.name for condition in tried if condition.seen is seen and not condition.whole]
        if len(names) > 1:
            sections.append(section(title, names))
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
            **told,
            "threads": torch.get_num_threads(),
            "device": str(model.device),
        },
        items=[scoring.record(pair, result) for pair, result in zip(pairs, scores, strict=True)],
        failures=_once(failures) + scoring.failures(pairs, scores),
    )


class _Heard:
    """A judge that hears each clip once: what is told of a condition is also told of several together."""

    def __init__(self, own: Judge):
        self.own, self.name, self.unit = own, own.name, own.unit
        self.found: dict[tuple[str, int], ErrorRate] = {}

    def knows(self, language: str) -> bool:
        return self.own.knows(language)

    def trained_on(self, text: str) -> bool:
        return self.own.trained_on(text)

    def errors(self, text: str, waveform: np.ndarray, sample_rate: int) -> ErrorRate:
        key = (text, id(waveform))
        if key not in self.found:
            self.found[key] = self.own.errors(text, waveform, sample_rate)
        return self.found[key]


def _own_errors(
    bench: Sequence[Judge],
    pairs: Sequence[Pair],
    texts: dict[str, str],
    failures: list[dict[str, str]],
    progress: bool,
) -> dict[str, str]:
    """Return as facts what judges make of the clean recordings, and how many sentences they mark."""
    clean = {pair.id: pair for pair in pairs}
    clips = [_clip(pair, RECORDING, pair.clean, texts) for pair in clean.values() if pair.id in texts]
    rows, facts = judged_rows(bench, clips, failures, progress, RECORDING)
    for one, row in zip(bench, rows, strict=True):
        rate = row.values.get(RECORDING)
        facts[f"{one.name} on the recordings"] = "nothing marked" if rate is None else f"{rate:.1f} % {one.unit} errors"
    return facts


def _clip(pair: Pair, system: str, wave: np.ndarray, texts: dict[str, str]) -> Clip:
    return Clip(pair.id, system, texts.get(pair.id, ""), None, wave, pair.rate, None, False, MelSpec(), "")


def _once(failures: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Leave out what is there already, such as a sentence that a judge was trained on, in each condition."""
    return [failure for number, failure in enumerate(failures) if failure not in failures[:number]]


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
