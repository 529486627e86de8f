"""Evaluation of an enhancer: every kind of noise at several ratios, those that training heard and those it did not.

The report is that of every restorer (``unisono_restore.evaluate``), beside RNNoise and spectral gating. There is one
condition for each kind of noise and ratio, and clean speech, which is to be left alone. Babble is made of recordings of
the corpus that are not measured.

Shapes: n samples.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.errors import DataError, did_you_mean
from unisono.evaluation import Report
from unisono_sound.corpus import Manifest
from unisono_sound.degrade import NOISES, Clips, Degrade, DegradeOptions, HeldClips, NoiseOptions
from unisono_sound.measure import Judge
from unisono_sound.signal import read_audio

from unisono_restore.clips import read_recordings
from unisono_restore.evaluate import evaluate as evaluate_restorer
from unisono_restore.evaluate import held_out, roots
from unisono_restore.mp_senet.facts import NoisyFacts
from unisono_restore.trial import Baseline, Condition

__all__ = ["KINDS", "LEVELS", "conditions", "evaluate"]

KINDS = tuple(kind for kind in NOISES if kind != "folder")
LEVELS = (5.0, 15.0)
"""Ratios of speech to noise in decibels."""
MOST_CLIPS = 64
"""Recordings that babble is made of at most."""


class Noisy:
    """A damage of a trial: one kind of noise at one ratio."""

    def __init__(self, kind: str, snr_db: float, rate: int, clips: Clips | None):
        noise = NoiseOptions(share=1.0, kinds=(kind,), snr_db=(snr_db, snr_db))
        self.degrade, self.rate = Degrade(DegradeOptions(noise=noise), clips), rate

    def __call__(self, wave: Float[Tensor, " n"], generator: torch.Generator) -> Float[Tensor, " n"]:
        return self.degrade(wave, self.rate, generator)


def conditions(
    facts: NoisyFacts,
    clips: Clips | None = None,
    kinds: Sequence[str] = KINDS,
    levels: Sequence[float] = LEVELS,
) -> list[Condition]:
    """Return clean speech, and each kind of noise at each ratio; babble only where there are clips to make it of.

    A kind is seen where training heard it, whatever the ratio. Raises ``DataError`` for a kind that cannot be made.
    """
    if strange := [kind for kind in kinds if kind not in KINDS]:
        message = f"no noise of kind {strange[0]!r} can be made{did_you_mean(strange[0], KINDS)}"
        raise DataError(message, code="unknown", path="kinds", value=strange[0])
    found = [Condition("clean", _as_it_is, whole=True)]
    for kind in kinds:
        if kind == "babble" and clips is None:
            continue
        for level in levels:
            noisy = Noisy(kind, level, facts.sample_rate, clips)
            found.append(Condition(f"{kind} {level:g} dB", noisy, kind in facts.heard))
    return found


def evaluate(
    synthesizer: Any,
    data: Manifest | str | Path | dict[str, str] | Sequence[str],
    *,
    limit: int = 40,
    checkpoint: str | Path | None = None,
    kinds: Sequence[str] = KINDS,
    levels: Sequence[float] = LEVELS,
    baselines: Sequence[str | Baseline] | None = None,
    judges: Sequence[str | Judge] = (),
    jobs: int = 1,
    progress: bool = True,
) -> Report:
    """Measure an enhancer on held-out recordings and return one report; see ``unisono_restore.evaluate``."""
    model = synthesizer.model
    manifest = data if isinstance(data, Manifest) else read_recordings(roots(data))
    chosen, _ = held_out(manifest, limit, model.facts.held_out)
    measured = {utterance.id for utterance in chosen}
    others, failures = [], []
    if "babble" in kinds:
        for utterance in manifest:
            if utterance.id in measured or len(others) == MOST_CLIPS:
                continue
            try:
                others.append(read_audio(utterance.audio, model.sample_rate)[0])
            except DataError as error:
                failures.append({"id": utterance.id, "system": "babble", "reason": str(error)})
    clips = HeldClips(others, model.sample_rate) if len(others) > 1 else None
    if "babble" in kinds and clips is None:
        reason = f"it is made of recordings that are not measured, and there are {len(others)}: lower limit"
        failures.append({"id": "all", "system": "babble", "reason": reason})
    report = evaluate_restorer(
        synthesizer,
        manifest,
        limit=limit,
        checkpoint=checkpoint,
        conditions=conditions(model.facts, clips, kinds, levels),
        baselines=baselines,
        judges=judges,
        jobs=jobs,
        progress=progress,
    )
    return replace(report, failures=[*report.failures, *failures])


def _as_it_is(wave: Float[Tensor, " n"], generator: torch.Generator) -> Float[Tensor, " n"]:
    return wave
