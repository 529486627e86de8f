"""Limits: what a usable recording is, and what is measured of a waveform to judge it."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

CLIPPED_LEVEL = 0.999


@dataclass(frozen=True)
class AudioLimits:
    """What a usable recording is.

    min_seconds, max_seconds: length.
    silence_dbfs: a peak below this many decibels of full scale is silence.
    clipped_fraction: more than this share of samples at full scale is clipping.
    """

    min_seconds: float = 0.1
    max_seconds: float = 30.0
    silence_dbfs: float = -50.0
    clipped_fraction: float = 0.001

    def judge(self, facts: dict[str, Any]) -> tuple[str, str] | None:
        """Return (reason, detail) if a recording with these ``wave_facts`` is to be dropped."""
        if facts["seconds"] < self.min_seconds:
            return "too short", f"{facts['seconds']:.2f} s of at least {self.min_seconds:g} s"
        if facts["seconds"] > self.max_seconds:
            return "too long", f"{facts['seconds']:.1f} s of at most {self.max_seconds:g} s"
        if facts["peak_dbfs"] < self.silence_dbfs:
            return "silent", f"peak {facts['peak_dbfs']:.0f} dBFS"
        if facts["clipped"] > self.clipped_fraction:
            return "clipped", f"{100 * facts['clipped']:.2g} % of samples at full scale"
        return None


def wave_facts(wave: Float[Tensor, "n"], sample_rate: int) -> dict[str, float]:
    """Measure what ``AudioLimits`` judges: seconds, peak_dbfs, clipped (share of samples at full
    scale)."""
    level = wave.abs()
    peak = level.max().clamp(min=1e-9) if wave.numel() else torch.tensor(1e-9)
    return {
        "seconds": wave.numel() / sample_rate,
        "peak_dbfs": float(20 * peak.log10()),
        "clipped": float((level >= CLIPPED_LEVEL).float().mean()) if wave.numel() else 0.0,
    }
