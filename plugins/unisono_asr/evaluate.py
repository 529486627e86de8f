"""Evaluation of a recogniser: what it hears wrong, how sure it is of it, how fast it is, with others on the same clips.

model        the recogniser as requests have it
CTC          its CTC head alone, the likeliest label of each step (where it is not that itself)
pocketsphinx an outsider, words only; its phones are those that its words are read as
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from unisono.errors import DataError, RequestError
from unisono.evaluation import Report, Row, Section
from unisono.extras import optional
from unisono_sound.corpus import Manifest, Utterance
from unisono_sound.measure import (
    ErrorRate,
    Recogniser,
    character_error_rate,
    normalise_english,
    recogniser,
    unit_error_rate,
    word_error_rate,
)
from unisono_sound.measure.evaluate import attempt, held_out, read_corpora
from unisono_sound.signal import read_audio

from unisono_asr.calibration import Calibration, right_ones
from unisono_asr.models.ctc import CTC, greedy_hypotheses
from unisono_asr.models.posteriors import Hypothesis
from unisono_asr.reading import reader_of
from unisono_asr.request import sound_of_samples
from unisono_asr.transcript import Transcript
from unisono_asr.units import spelled
from unisono_asr.written import transcript_of

__all__ = ["evaluate"]

MODEL, HEAD = "model", "CTC"


@dataclass
class _System:
    """What one recogniser heard of all clips."""

    units: ErrorRate = field(default_factory=ErrorRate)
    words: ErrorRate = field(default_factory=ErrorRate)
    characters: ErrorRate = field(default_factory=ErrorRate)
    counts: list[float] = field(default_factory=list)
    factors: list[float] = field(default_factory=list)
    unit_sure: Calibration = field(default_factory=Calibration)
    word_sure: Calibration = field(default_factory=Calibration)


def evaluate(
    synthesizer: Any,
    data: Manifest | str | Path | dict[str, str] | Sequence[str],
    *,
    limit: int = 40,
    checkpoint: str | Path | None = None,
    outsider: str | Recogniser | None = "pocketsphinx",
    steps: int = 1,
    progress: bool = True,
) -> Report:
    """Measure a recogniser on held-out sentences of a corpus and return one report.

    ``data`` is a manifest or what ``unisono_sound.corpus.read_manifests`` reads. Of it ``limit`` sentences are taken
    that the recogniser was kept from, as it lists them. ``outsider`` hears the same clips, None for none; ``steps``
    are the passes of the decoder. Words are counted in plain small letters, of English.

    Raises ``MissingExtra`` without the extra ``evaluate``, ``DataError`` where nothing is left to measure.
    """
    optional("jiwer")
    other = recogniser(outsider) if isinstance(outsider, str) else outsider
    model = synthesizer.model
    manifest = data if isinstance(data, Manifest) else read_corpora(data)
    chosen, why = held_out(manifest, limit, None, model.facts)
    known = [utterance for utterance in chosen if not _trained_on(model, utterance.text)]
    if not known:
        message = f"none of {len(chosen)} sentences was kept from training: give a corpus that the model does not know"
        raise DataError(message, code="empty", path="data", value=len(chosen))
    failures = manifest.failures()
    systems: dict[str, _System] = {MODEL: _System(), HEAD: _System()}
    if other is not None:
        systems[other.name] = _System()
    items: list[dict[str, Any]] = []
    bar = {"console": Console(stderr=True), "disable": not progress}
    reader = reader_of(model.facts)
    for utterance in track(known, "hearing", **bar):
        found = attempt(failures, utterance.id, "recording", _clip, model, reader, utterance)
        if found is None:
            continue
        wave, said = found
        heard = attempt(failures, utterance.id, MODEL, _hear, model, wave, steps)
        if heard is None:
            continue
        for name, (transcript, seconds) in heard.items():
            items.append(_count(systems[name], model, utterance, said, transcript, seconds, name))
        if other is not None:
            words = attempt(failures, utterance.id, other.name, _timed, other, wave, model.sample_rate)
            if words is not None:
                items.append(_outside(systems[other.name], model, reader, utterance, said, *words, other.name))
    if not items:
        raise DataError("no recording could be heard", code="empty", path="data", value=len(known))
    shown = [name for name in systems if name != HEAD or type(model) is not CTC]
    name = (synthesizer.info or {}).get("model", type(model).__name__)
    return Report(
        title=f"{checkpoint or name} on {len(known)} sentences",
        systems=shown,
        sections=_sections({name: systems[name] for name in shown}, model),
        facts={
            "sentences": len(known),
            "held out": why,
            "units": f"{len(model.facts.units) - 1} {model.facts.units.kind}",
            "passes": steps,
            "threads": torch.get_num_threads(),
            "device": str(model.device),
        },
        items=[item for item in items if item["system"] in shown],
        failures=failures,
    )


def _trained_on(model: Any, text: str) -> bool:
    return model.as_judge(MODEL).trained_on(text)


def _clip(model: Any, reader: Any, utterance: Utterance) -> tuple[torch.Tensor, list[int]]:
    """A recording at the model's rate, and the ids of what is said."""
    said = model.facts.units.encode(spelled(reader(utterance.text)))
    return read_audio(utterance.audio, model.sample_rate)[0], said


def _hear(model: Any, wave: torch.Tensor, steps: int) -> dict[str, tuple[Transcript, float]]:
    """What the model and its CTC head write down, and how long each takes."""
    begun = time.perf_counter()
    whole = model.hear(wave, model.sample_rate, steps)
    spent = time.perf_counter() - begun
    pieces, own = [], 0.0
    for heard in model.listen(sound_of_samples(wave.numpy(), model.sample_rate)):
        begun = time.perf_counter()
        if heard.posteriors is None:
            pieces.append(Transcript("", length=len(heard.window.wave), sample_rate=model.sample_rate))
        else:
            read: Hypothesis = greedy_hypotheses(heard.posteriors)[0]
            args = model.facts.units, model.lexicon, heard.window.wave, model.sample_rate
            pieces.append(transcript_of(read, heard.posteriors, *args))
        own += time.perf_counter() - begun
    return {MODEL: (whole, spent), HEAD: (Transcript.join(pieces), own)}


def _timed(other: Recogniser, wave: torch.Tensor, rate: int) -> tuple[str, float]:
    begun = time.perf_counter()
    return other.transcribe(wave.numpy(), rate), time.perf_counter() - begun


def _count(
    system: _System, model: Any, utterance: Utterance, said: list[int], made: Transcript, seconds: float, name: str
) -> dict[str, Any]:
    units = model.facts.units
    wanted, heard = units.symbols(said), units.symbols(made.tokens)
    system.units += unit_error_rate(wanted, heard)
    system.counts.append(abs(len(heard) - len(wanted)) / len(wanted))
    system.factors.append(seconds / made.seconds)
    measures = {"right": ("accuracy", "higher"), "mean confidence": ("mean_confidence", "")}
    measures["calibration error"] = ("error", "lower")
    sure = [
        of(f"{what}: {measure}", lambda s, n=name, p=pick: percent(getattr(getattr(s, n), p)), **percents, better=way)
        for what, name in (("units", "unit_sure"), ("words", "word_sure"))
        for measure, (pick, way) in measures.items()
    ]
    fast = [
        of("real-time factor, median", lambda s: median(s.factors) if s.factors else None, digits=4, better="lower")
    ]
    return [Section("what is heard", heard), Section("how sure it is", sure), Section("how fast it is", fast)]
