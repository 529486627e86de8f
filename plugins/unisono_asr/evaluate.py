"""Evaluation of a recogniser: what it hears wrong, how sure it is of it, how fast it is, with others on the same clips.

model        the recogniser as requests have it
CTC          its CTC head alone, the likeliest label of each step (where it is not that itself)
pocketsphinx an outsider, words only; its phones are those that its words are read as
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from unisono.errors import DataError
from unisono.evaluation import Report
from unisono.extras import optional
from unisono_sound.corpus import Manifest, Utterance
from unisono_sound.measure import Recogniser, recogniser
from unisono_sound.measure.evaluate import attempt, held_out, read_corpora
from unisono_sound.signal import read_audio

from unisono_asr.hearing import Heard
from unisono_asr.models.ctc import CTC, greedy_hypotheses
from unisono_asr.reading import reader_of
from unisono_asr.request import sound_of_samples
from unisono_asr.tally import Tally, sections_of
from unisono_asr.transcript import Transcript
from unisono_asr.units import spelled
from unisono_asr.written import transcript_of

__all__ = ["evaluate"]

MODEL, HEAD = "model", "CTC"


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
    own = model.as_judge(MODEL)
    known = [utterance for utterance in chosen if not own.trained_on(utterance.text)]
    if not known:
        message = f"none of {len(chosen)} sentences was kept from training: give a corpus that the model does not know"
        raise DataError(message, code="empty", path="data", value=len(chosen))
    failures = manifest.failures()
    tallies: dict[str, Tally] = {name: Tally(model.facts.units) for name in (MODEL, HEAD)}
    if other is not None:
        tallies[other.name] = Tally(model.facts.units)
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
        for name, (transcript, factor) in heard.items():
            told = tallies[name].count(utterance.text, said, transcript, factor)
            items.append({"id": utterance.id, "system": name, **told})
        if other is not None:
            words = attempt(failures, utterance.id, other.name, _timed, other, wave, model.sample_rate)
            if words is not None:
                text, factor = words
                told = tallies[other.name].count_words(utterance.text, said, text, factor, reader)
                items.append({"id": utterance.id, "system": other.name, **told})
    if not items:
        raise DataError("no recording could be heard", code="empty", path="data", value=len(known))
    shown = [name for name in tallies if name != HEAD or type(model) is not CTC]
    name = (synthesizer.info or {}).get("model", type(model).__name__)
    return Report(
        title=f"{checkpoint or name} on {len(known)} sentences",
        systems=shown,
        sections=sections_of({name: tallies[name] for name in shown}),
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


def _clip(model: Any, reader: Any, utterance: Utterance) -> tuple[torch.Tensor, list[int]]:
    """A recording at the model's rate, and the ids of what is said."""
    said = model.facts.units.encode(spelled(reader(utterance.text)))
    return read_audio(utterance.audio, model.sample_rate)[0], said


def _hear(model: Any, wave: torch.Tensor, steps: int) -> dict[str, tuple[Transcript, float]]:
    """What the model and its CTC head write down, with their real-time factors."""
    begun = time.perf_counter()
    whole = model.hear(wave, model.sample_rate, steps)
    spent = time.perf_counter() - begun
    begun = time.perf_counter()
    head = Transcript.join(
        [_by_head(model, heard) for heard in model.listen(sound_of_samples(wave, model.sample_rate))]
    )
    own = time.perf_counter() - begun
    return {MODEL: (whole, spent / whole.seconds), HEAD: (head, own / whole.seconds)}


def _by_head(model: Any, heard: Heard) -> Transcript:
    """What the CTC head writes down of a window."""
    wave, rate = heard.window.wave, model.sample_rate
    if heard.posteriors is None:
        return Transcript("", length=len(wave), sample_rate=rate)
    (read,) = greedy_hypotheses(heard.posteriors)
    return transcript_of(read, heard.posteriors, model.facts.units, model.lexicon, wave, rate)


def _timed(other: Recogniser, wave: torch.Tensor, rate: int) -> tuple[str, float]:
    """What an outsider writes down, and its real-time factor."""
    begun = time.perf_counter()
    words = other.transcribe(wave.numpy(), rate)
    return words, (time.perf_counter() - begun) * rate / len(wave)
