"""Scoring: everything that is measured of a restored recording beside the clean one, in any process.

Shapes: n samples.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from statistics import fmean
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from unisono.errors import DataError
from unisono.evaluation import Row
from unisono_sound import measure

__all__ = ["PESQ_FACT", "Pair", "Score", "failures", "log_spectral_distance", "record", "rows", "score"]

HAS_PESQ = find_spec("pesq") is not None
PESQ_FACT = "measured" if HAS_PESQ else 'not measured: pip install "unisono[pesq]" (needs a compiler)'


@dataclass(frozen=True)
class Pair:
    """A recording and what a system makes of it when it is damaged, mono and of one rate."""

    id: str
    condition: str
    system: str
    clean: np.ndarray
    made: np.ndarray
    rate: int


@dataclass
class Score:
    """What was measured of one pair; None where a measure failed, and why in ``failures``."""

    lsd: float | None = None
    lsd_db: float | None = None
    pesq: float | None = None
    stoi: float | None = None
    si_sdr: float | None = None
    overall: float | None = None
    signal: float | None = None
    failures: list[str] = field(default_factory=list)


def score(pair: Pair) -> Score:
    """Measure one pair; what fails is noted and leaves the rest in place."""
    result = Score()
    clean, made, rate = pair.clean, pair.made, pair.rate

    def attempt(name: str, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except Exception as error:
            result.failures.append(f"{name}: {type(error).__name__}: {error}")
            return None

    result.lsd = attempt("LSD", lambda: log_spectral_distance(clean, made))
    result.lsd_db = attempt("LSD", lambda: measure.log_spectral_distance(clean, made, 2048, 512))
    if HAS_PESQ:
        result.pesq = attempt("PESQ", lambda: measure.perceptual_quality(clean, rate, made, rate))
    result.stoi = attempt("STOI", lambda: measure.intelligibility(clean, rate, made, rate))
    result.si_sdr = attempt("SI-SDR", lambda: measure.scale_invariant_sdr(clean, made))
    marks = attempt("DNSMOS", lambda: measure.dnsmos(made, rate))
    if marks is not None:
        result.overall, result.signal = marks.overall, marks.signal
    return result


def log_spectral_distance(clean: Float[np.ndarray, "n"], made: Float[np.ndarray, "n"]) -> float:
    """Return the log-spectral distance as papers on bandwidth extension have it: decimal logarithms of power, floored
    at 1e-8, Hann windows of 2,048 samples, 512 apart; the root mean square over frequencies, averaged over frames.

    One of it is 10 dB. Raises ``DataError`` where there are no more than 1,024 samples.
    """
    length = min(len(clean), len(made))
    if length <= 1024:
        raise DataError(
            f"{length} samples are too few for a log-spectral distance: give more than 1024",
            code="shape",
            path="made",
            value=length,
        )
    window = torch.hann_window(2048)
    waves = torch.from_numpy(np.stack([clean[:length], made[:length]]).astype(np.float32))
    power = torch.stft(waves, 2048, 512, window=window, return_complex=True).abs().square()
    one, other = power.clamp(min=1e-8).log10()
    return float((one - other).square().mean(0).sqrt().mean())


def rows(pairs: Sequence[Pair], scores: Sequence[Score]) -> list[Row]:
    """Return the measures' means by system, as a report shows them; infinite values, of exact copies, are left out."""
    by_system: dict[str, list[Score]] = {}
    for pair, result in zip(pairs, scores, strict=True):
        by_system.setdefault(pair.system, []).append(result)

    def row(name: str, attribute: str, **how: Any) -> Row:
        values: dict[str, float | str | None] = {}
        for system, results in by_system.items():
            found = [value for result in results if (value := getattr(result, attribute)) is not None]
            found = [value for value in found if np.isfinite(value)]
            values[system] = fmean(found) if found else None
        return Row(name, values, **how)

    return [
        row("LSD (2048/512)", "lsd", better="lower"),
        row("log-spectral distance", "lsd_db", unit="dB", digits=1, better="lower"),
        row("PESQ", "pesq", better="higher"),
        row("STOI", "stoi", digits=3, better="higher"),
        row("SI-SDR", "si_sdr", unit="dB", digits=1, better="higher"),
        row("DNSMOS overall", "overall", better="higher"),
        row("DNSMOS signal", "signal", better="higher"),
    ]


def record(pair: Pair, result: Score) -> dict[str, Any]:
    """Return one plain record, for a report's ``items``."""
    measured = {name: value for name, value in asdict(result).items() if name != "failures"}
    return {"id": pair.id, "condition": pair.condition, "system": pair.system, **measured}


def failures(pairs: Sequence[Pair], scores: Sequence[Score]) -> list[dict[str, str]]:
    """Return what could not be measured, for a report's ``failures``."""
    return [
        {"id": f"{pair.id}, {pair.condition}", "system": pair.system, "reason": reason}
        for pair, result in zip(pairs, scores, strict=True)
        for reason in result.failures
    ]
