"""Evaluation of conversion: is it the target's voice, are the words and the melody kept, beside simpler ways.

Held-out recordings are converted, each into the voice of another speaker, so that all pairs come in turn::

    recording    as it is                                            the judges' own errors
    vocoded      recording → log mel → vocoder                       the vocoder's loss
    transfer     statistics of pitch and mel in place of others      what a network must beat
    converted    the checkpoint, asked for the speaker by name       what one gets
    by prompt    the same, asked by one held-out recording           where the model takes prompts
    strangers    into voices that were left out of training          where there are some, by one recording

Judges are independent of training: the component ``listener`` (single words of its own speakers), resemblyzer where it
is installed, recognisers by ``--judge``, and the pitch tracker of ``unisono_sound.measure``, which is another one than
the training data's.

Shapes: n samples.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import track
from torch.nn import functional as F
from unisono.errors import RequestError
from unisono.evaluation import Report
from unisono_sound.corpus import Manifest
from unisono_sound.measure import Judge, judge
from unisono_sound.measure.evaluate import attempt
from unisono_sound.measure.judged import judged_rows
from unisono_sound.measure.scoring import Clip
from unisono_sound.signal import LogMel

from unisono_convert.measure.marks import Marked, facts_of_marks, sections_of
from unisono_convert.measure.pairs import RECORDING, Pair, corpus_of, pairs_of, pairs_with_strangers
from unisono_convert.measure.transfer import Transfer

__all__ = ["evaluate"]

VOCODED, TRANSFER, CONVERTED, BY_PROMPT, STRANGERS = "vocoded", "transfer", "converted", "by prompt", "strangers"
SYSTEMS = (RECORDING, VOCODED, TRANSFER, CONVERTED, BY_PROMPT, STRANGERS)


def evaluate(
    synthesizer: Any,
    data: Manifest | str | Path | dict[str, str] | Sequence[str],
    *,
    limit: int = 60,
    device: str | None = None,
    checkpoint: str | Path | None = None,
    judges: Sequence[str | Judge] = (),
    progress: bool = True,
) -> Report:
    """Measure a model of conversion on held-out recordings of a corpus and return one report.

    ``data`` is a manifest or what ``read_manifests`` reads; of it ``limit`` recordings are taken that the model lists
    as held out, in turn from each of its speakers. ``judges`` mark the words that are left.

    Raises ``DataError`` where nothing is left to measure, ``RequestError`` for a model without named speakers, and
    ``MissingExtra`` without the extra ``evaluate``.
    """
    if device is not None:
        synthesizer.to(device)
    model = synthesizer.model
    if len(model.named) < 2:
        message = "this model knows no two speakers by name, and pairs of speakers are measured: train one with labels"
        raise RequestError(message, code="unsupported", path="speaker", value=list(model.named))
    manifest = corpus_of(data)
    failures = manifest.failures(RECORDING)
    spec = model.mel_spec
    pairs, beside = pairs_of(model, manifest, limit, failures)
    transfer, log_mel = Transfer(model.facts, model.vocoder), LogMel(spec)

    def vocoded(pair: Pair) -> Float[np.ndarray, "n"]:
        mel = log_mel(pair.source[None]).to(model.device)
        made = model.vocoder.decode(mel)[0].float().cpu()
        return F.pad(made, (0, len(pair.source) - len(made))).numpy()

    def converted(pair: Pair) -> Float[np.ndarray, "n"]:
        begun = time.perf_counter()
        made = synthesizer(samples=pair.source, speaker=pair.target)
        pair.factors.append((time.perf_counter() - begun) / made.seconds)
        return made.waveform[0]

    makers: dict[str, Callable[[Pair], Float[np.ndarray, " n"]]] = {
        RECORDING: lambda pair: pair.source.numpy(),
        VOCODED: vocoded,
        TRANSFER: lambda pair: transfer(pair.source, pair.utterance.speaker, pair.target).numpy(),
        CONVERTED: converted,
        BY_PROMPT: lambda pair: synthesizer(samples=pair.source, prompt_samples=pair.prompt).waveform[0],
    }
    prompted = makers[BY_PROMPT]
    strange = pairs_with_strangers(model, manifest, pairs, beside, failures)
    if not _takes_prompts(synthesizer, pairs):
        del makers[BY_PROMPT]
        strange = []
    bar = {"console": Console(stderr=True), "disable": not progress}
    for pair in track([*pairs, *strange], "converting", **bar):
        for system, make in (makers if pair in pairs else {STRANGERS: prompted}).items():
            with torch.inference_mode():
                made = attempt(failures, pair.utterance.id, system, make, pair)
            if made is not None:
                pair.waves[system] = made
    listener = model.components.get("listener")
    marked: dict[str, list[Marked]] = {system: [] for system in (*makers, STRANGERS)}
    centres = facts_of_marks(beside, spec.sample_rate, listener)
    for pair in track([*pairs, *strange], "listening", **bar):
        for system, wave in pair.waves.items():
            found = attempt(failures, pair.utterance.id, system, centres.mark, pair, wave)
            if found is not None:
                marked[system].append(found)
    sections = sections_of(marked, [factor for pair in pairs for factor in pair.factors], listener is not None)
    told: dict[str, str] = {}
    if judges:
        bench = [judge(one) if isinstance(one, str) else one for one in judges]
        clips = [
            Clip(
                pair.utterance.id,
                system,
                pair.utterance.text,
                pair.target,
                wave,
                spec.sample_rate,
                None,
                False,
                spec,
                "",
            )
            for pair in [*pairs, *strange]
            for system, wave in pair.waves.items()
        ]
        rows, told = judged_rows(bench, clips, failures, progress, RECORDING)
        sections[1].rows.extend(rows)
    name = (synthesizer.info or {}).get("model", type(model).__name__)
    return Report(
        title=f"{checkpoint or name} on {len(pairs)} recordings",
        systems=[system for system in SYSTEMS if marked.get(system)],
        sections=[section for section in sections if section.rows],
        facts={
            "recordings": len(pairs),
            "pairs of speakers": len({(pair.utterance.speaker, pair.target) for pair in pairs}),
            "strangers": ", ".join(sorted({pair.target for pair in strange})) or "none",
            "listener": "a component" if listener is not None else "none: give --component listener=FOLDER for words",
            "resemblyzer": centres.told,
            "vocoder": type(model.vocoder).__name__,
            **told,
            "threads": torch.get_num_threads(),
            "device": str(model.device),
        },
        items=[mark.to_dict(system) for system, marks in marked.items() for mark in marks],
        failures=failures,
    )


def _takes_prompts(synthesizer: Any, pairs: Sequence[Pair]) -> bool:
    prompts = [pair for pair in pairs if pair.prompt is not None]
    if not prompts:
        return False
    try:
        synthesizer(samples=prompts[0].source, prompt_samples=prompts[0].prompt)
    except RequestError as error:
        return error.code != "unsupported"
    return True
