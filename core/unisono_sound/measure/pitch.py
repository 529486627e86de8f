"""Pitch: how far two melodies are apart, and by how much one is shifted against the other.

The tracker is probabilistic YIN (Mauch and Dixon, 2014) as in librosa, on purpose another one than
the network that models are trained with, so that a model is not marked by its own teacher.

Shapes: n samples, t, s frames, p pairs of frames on an alignment's path. Hz are 0 where a frame is
unvoiced.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from unisono.extras import optional

from unisono_sound.measure.waveform import mono

FRAME_SECONDS = 0.064  # four periods of the lowest pitch looked for


@dataclass(frozen=True)
class PitchError:
    """How two melodies differ: over pairs voiced in both, and in what is voiced at all."""

    rmse_semitones: float
    """Root mean square of the difference; NaN if no pair is voiced in both."""
    voicing_error: float
    """Share of pairs of which one is voiced and the other is not."""

    @property
    def rmse_cents(self) -> float:
        return 100 * self.rmse_semitones


def track_pitch(
    waveform, sample_rate: int, hop_length: int, f_min: float = 62.5, f_max: float = 600.0
) -> Float[np.ndarray, "t"]:
    """Return the fundamental frequency in hertz of each frame, 0 where unvoiced.

    There are ``n // hop_length`` frames, frame i centred on sample (i + ½) · hop: the grid of
    ``LogMel``.
    """
    samples = mono(waveform, sample_rate)
    frame_length = 2 * round(FRAME_SECONDS * sample_rate / 2)
    before = (frame_length - hop_length) // 2
    num_frames = len(samples) // hop_length
    if num_frames == 0:
        return np.zeros(0)
    padded = np.pad(samples, (before, frame_length - hop_length - before))
    hz, voiced, _ = optional("librosa").pyin(
        padded,
        fmin=f_min,
        fmax=f_max,
        sr=sample_rate,
        frame_length=frame_length,
        hop_length=hop_length,
        center=False,
    )
    return np.where(voiced, np.nan_to_num(hz), 0.0)[:num_frames]


def pitch_error(
    reference_hz: Float[np.ndarray, "t"],
    hz: Float[np.ndarray, "s"],
    path: Int[np.ndarray, "p 2"] | None = None,
) -> PitchError:
    """Compare two melodies along an alignment (``mcd.align``), or frame by frame over the shorter
    of them.
    """
    if path is None:
        index = np.arange(min(len(reference_hz), len(hz)))
        path = np.stack([index, index], axis=1)
    left, right = np.asarray(reference_hz)[path[:, 0]], np.asarray(hz)[path[:, 1]]
    both = (left > 0) & (right > 0)
    semitones = 12 * np.log2(right[both] / left[both])
    rmse = float(np.sqrt(np.mean(semitones**2))) if both.any() else float("nan")
    return PitchError(rmse, float(np.mean((left > 0) != (right > 0))) if len(path) else float("nan"))


def median_shift_semitones(reference_hz: Float[np.ndarray, "t"], hz: Float[np.ndarray, "s"]) -> float:
    """Return how far the median of the voiced pitch moved, in semitones.

    Needs no alignment, so that it also measures recordings of different length. NaN if either has
    no voiced frame.
    """
    left, right = np.asarray(reference_hz), np.asarray(hz)
    if not (left > 0).any() or not (right > 0).any():
        return float("nan")
    return float(12 * np.log2(np.median(right[right > 0]) / np.median(left[left > 0])))
