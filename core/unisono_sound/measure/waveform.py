"""Waveform: one float32 channel at the rate that a measure wants."""

import numpy as np
import soxr
from unisono.errors import DataError


def mono(waveform, sample_rate: int, to_rate: int | None = None) -> np.ndarray:
    """Return ``waveform`` ([n], or [c, n] averaged) as float32 [n], resampled by soxr to
    ``to_rate``.

    Raises ``DataError`` if it is empty or holds NaN or infinity.
    """
    samples = np.asarray(waveform, dtype=np.float32)
    if samples.ndim == 2:
        samples = samples.mean(axis=0)
    if samples.ndim != 1 or samples.size == 0:
        message = f"a waveform of shape {np.shape(waveform)} cannot be measured: give [n] with n > 0"
        raise DataError(message, code="shape", path="waveform", value=np.shape(waveform))
    if not np.isfinite(samples).all():
        raise DataError("a waveform with NaN or infinite samples cannot be measured", code="value", path="waveform")
    if to_rate is None or to_rate == sample_rate:
        return samples
    return soxr.resample(samples, sample_rate, to_rate, quality="HQ")
