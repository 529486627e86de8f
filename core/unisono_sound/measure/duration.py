"""Timing: how long speech lasts beside a reference, in all and phoneme by phoneme.

Shapes: n samples.
"""

from collections.abc import Sequence

import numpy as np
from unisono.media import Segment

from unisono_sound.measure.waveform import mono

FRAME_SECONDS = 0.02


def speech_span(waveform, sample_rate: int, floor_db: float = 40.0) -> tuple[float, float]:
    """Return where speech starts and ends, in seconds.

    Speech is every 20 ms frame within ``floor_db`` of the loudest. Silence at both ends is a matter
    of editing and not of speaking, so that durations leave it out.
    """
    samples = mono(waveform, sample_rate).astype(np.float64)
    frame = max(1, round(FRAME_SECONDS * sample_rate))
    num_frames = -(-len(samples) // frame)
    power = np.pad(samples, (0, num_frames * frame - len(samples))).reshape(-1, frame)
    power = (power**2).mean(axis=1)
    if power.max() == 0:
        return 0.0, 0.0
    loud = np.flatnonzero(power >= power.max() * 10 ** (-floor_db / 10))
    return loud[0] * frame / sample_rate, min((loud[-1] + 1) * frame, len(samples)) / sample_rate


def length_ratio(reference, reference_rate: int, waveform, sample_rate: int) -> float:
    """Return the duration of speech over the reference's, by their ``speech_span``.

    NaN if the reference is silent.
    """
    start, end = speech_span(reference, reference_rate)
    other_start, other_end = speech_span(waveform, sample_rate)
    return (other_end - other_start) / (end - start) if end > start else float("nan")


def segment_error(reference: Sequence[Segment], segments: Sequence[Segment]) -> float | None:
    """Return the mean absolute error of the durations in seconds, or None if labels differ."""
    if not reference or [s.label for s in reference] != [s.label for s in segments]:
        return None
    pairs = zip(reference, segments, strict=True)
    return float(np.mean([abs((b.end - b.start) - (a.end - a.start)) for a, b in pairs]))
