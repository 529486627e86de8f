"""Scoring: everything that can be measured of a copy beside its original, in any process.

What vocoders and codecs are measured by; ``score`` takes a ``Pair`` and can be handed to ``map_processes``.

Shapes: n samples.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from statistics import fmean
from typing import Any

import numpy as np
import torch
from unisono.evaluation import Row
from unisono_sound import measure
from unisono_sound.signal import LogMel, MelSpec

HAS_PESQ = find_spec("pesq") is not None
"""PESQ has no wheels: it is measured where someone had a compiler, and else the report says so."""

PESQ_FACT = "measured" if HAS_PESQ else 'not measured: pip install "unisono[pesq]" (needs a compiler)'


@dataclass(frozen=True)
class Pair:
    """A copy and the recording that it copies, mono, both at the rate of ``mel_spec``."""

    id: str
    system: str
    reference: np.ndarray
    waveform: np.ndarray
    mel_spec: MelSpec


@dataclass
class Score:
    """What was measured of one pair; None where a measure failed, and why in ``failures``.

    ``mel``: mean absolute difference of natural-log mels; ``lsd``: log-spectral distance, dB.
    """

    pesq: float | None = None
    stoi: float | None = None
    si_sdr: float | None = None
    mel: float | None = None
    lsd: float | None = None
    failures: list[str] = field(default_factory=list)


def score(pair: Pair) -> Score:
    """Measure one pair; what fails is noted and leaves the rest in place."""
    result = Score()
    reference, wave, spec = pair.reference, pair.waveform, pair.mel_spec
    rate = spec.sample_rate

    def attempt(measure: str, function: Callable[[], float]) -> float | None:
        try:
            return function()
        except Exception as error:
            result.failures.append(f"{measure}: {type(error).__name__}: {error}")
            return None

    def mel() -> float:
        transform = LogMel(spec)
        length = min(len(reference), len(wave))
        mels = [transform(torch.from_numpy(np.asarray(x[:length]))[None])[0].numpy() for x in (reference, wave)]
        return measure.mel_distance(*mels)

    if HAS_PESQ:
        result.pesq = attempt("PESQ", lambda: measure.perceptual_quality(reference, rate, wave, rate))
    result.stoi = attempt("STOI", lambda: measure.intelligibility(reference, rate, wave, rate))
    result.si_sdr = attempt("SI-SDR", lambda: measure.scale_invariant_sdr(reference, wave))
    result.mel = attempt("mel distance", mel)
    result.lsd = attempt("log-spectral distance", lambda: measure.log_spectral_distance(reference, wave))
    return result


def rows(pairs: Sequence[Pair], scores: Sequence[Score]) -> list[Row]:
    """Return the measures' means by system, as a report shows them; infinite values, of exact copies, are left out."""
    by_system: dict[str, list[Score]] = {}
    for pair, result in zip(pairs, scores, strict=True):
        by_system.setdefault(pair.system, []).append(result)

    def row(measure: str, name: str, **how: Any) -> Row:
        values: dict[str, float | str | None] = {}
        for system, results in by_system.items():
            found = [value for result in results if (value := getattr(result, name)) is not None]
            found = [value for value in found if np.isfinite(value)]
            values[system] = fmean(found) if found else None
        return Row(measure, values, **how)

    return [
        row("PESQ", "pesq", better="higher"),
        row("STOI", "stoi", digits=3, better="higher"),
        row("SI-SDR", "si_sdr", unit="dB", digits=1, better="higher"),
        row("mel distance", "mel", digits=3, better="lower"),
        row("log-spectral distance", "lsd", unit="dB", better="lower"),
    ]


def record(pair: Pair, result: Score) -> dict[str, Any]:
    """Return one plain record, for a report's ``items``."""
    measured = {name: value for name, value in asdict(result).items() if name != "failures"}
    return {"id": pair.id, "system": pair.system, **measured}


def failures(pairs: Sequence[Pair], scores: Sequence[Score]) -> list[dict[str, str]]:
    """Return what could not be measured, for a report's ``failures``."""
    return [
        {"id": pair.id, "system": pair.system, "reason": reason}
        for pair, result in zip(pairs, scores, strict=True)
        for reason in result.failures
    ]
