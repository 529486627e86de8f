"""Edges: whether speech begins and dies away by itself, or is cut off.

Shapes: n samples.
"""

import numpy as np

from unisono_sound.measure.waveform import mono

__all__ = ["CLIPPED_DB", "EDGE_SECONDS", "edge_levels", "is_clipped"]

EDGE_SECONDS = 0.01
"""How much of either end is looked at: a period or two of a voice."""
LOUDEST_SECONDS = 0.05
"""The stretch whose level is the sound's own: shorter than any vowel."""
CLIPPED_DB = -30.0
"""An edge above this level, relative to the loudest of the sound, is one that is cut off; breath and a room's noise lie
below it."""


def edge_levels(waveform, sample_rate: int) -> tuple[float, float]:
    """Return the levels of the first and the last 10 ms of a sound [n], in decibels relative to its loudest 50 ms.

    Both are at most about 0, and −120 where there is digital silence. NaN if the whole sound is silent.
    """
    samples = mono(waveform, sample_rate).astype(np.float64)
    edge, stretch = (max(1, round(seconds * sample_rate)) for seconds in (EDGE_SECONDS, LOUDEST_SECONDS))
    stretch = min(stretch, len(samples))
    sums = np.concatenate([[0.0], np.cumsum(samples**2)])
    loudest = (sums[stretch:] - sums[:-stretch]).max() / stretch
    if not loudest > 0:
        return float("nan"), float("nan")
    first, last = (np.mean(part**2) / loudest for part in (samples[:edge], samples[-edge:]))
    return 10 * float(np.log10(max(first, 1e-12))), 10 * float(np.log10(max(last, 1e-12)))


def is_clipped(waveform, sample_rate: int, threshold_db: float = CLIPPED_DB) -> bool:
    """Whether the first or the last phone of a sound [n] is cut off: an edge is louder than the threshold."""
    return any(level > threshold_db for level in edge_levels(waveform, sample_rate))
