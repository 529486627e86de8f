"""Distances: of a copy from its original, sample for sample and frame for frame (SI-SDR, log spectra, log mels).

Both waveforms are mono ``[n]`` at one rate and are cut to the shorter one: a copy that is delayed shows it here.

Shapes: n samples, t frames, m mel channels.
"""

import math

import numpy as np
from jaxtyping import Float
from unisono.errors import DataError

from unisono_sound.measure.waveform import mono

FLOOR_DB = -100.0
"""Below this, re full scale, a frequency bin is as good as silent: both sides are raised to it."""


def scale_invariant_sdr(reference, waveform) -> float:
    """Return the scale-invariant signal-to-distortion ratio in dB (Le Roux et al., arXiv:1811.02508): the copy's part
    along the original against all the rest of it. Infinite for an exact multiple.

    The mean is taken off first. Raises ``DataError`` where either is silent.
    """
    original, copy = _pair(reference, waveform)
    original, copy = original - original.mean(), copy - copy.mean()
    energy = float(original @ original)
    if energy == 0 or not copy.any():
        silent = "reference" if energy == 0 else "waveform"
        raise DataError("SI-SDR cannot score silence: give two waveforms with sound", code="empty", path=silent)
    target = (float(copy @ original) / energy) * original
    rest = copy - target
    noise = float(rest @ rest)
    signal = float(target @ target)
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def log_spectral_distance(reference, waveform, n_fft: int = 1024, hop: int = 256) -> float:
    """Return the log-spectral distance in dB (Gray and Markel, 1976): the root mean square over frequencies of the
    difference of two levels, averaged over frames, Hann window.

    Raises ``DataError`` where the shorter waveform has fewer than ``n_fft`` samples.
    """
    original, copy = _pair(reference, waveform)
    if len(original) < n_fft:
        message = f"{len(original)} samples are too few for a log-spectral distance: give at least {n_fft}"
        raise DataError(message, code="shape", path="waveform", value=len(original))
    window = np.hanning(n_fft + 1)[:-1]
    one, other = (_levels(x, window, n_fft, hop) for x in (original, copy))
    return float(np.sqrt(np.square(one - other).mean(axis=1)).mean())


def mel_distance(reference: Float[np.ndarray, "t m"], other: Float[np.ndarray, "s m"]) -> float:
    """Return the mean absolute difference of two natural-log mel spectrograms, frame for frame (1 is 8.7 dB)."""
    reference, other = np.asarray(reference, np.float64), np.asarray(other, np.float64)
    if reference.ndim != 2 or other.ndim != 2 or reference.shape[1] != other.shape[1]:
        message = f"mels of shape {reference.shape} and {other.shape}: give [t, m] and [s, m] of the same m"
        raise DataError(message, code="shape", path="other", value=other.shape)
    frames = min(len(reference), len(other))
    if frames == 0:
        message = "mels without a frame cannot be compared: give at least one each"
        raise DataError(message, code="empty", path="other", value=other.shape)
    return float(np.abs(reference[:frames] - other[:frames]).mean())


def _levels(samples: np.ndarray, window: np.ndarray, n_fft: int, hop: int) -> np.ndarray:
    frames = np.lib.stride_tricks.sliding_window_view(samples, n_fft)[::hop] * window
    # A sine of full scale has level 0.
    magnitude = np.abs(np.fft.rfft(frames)) / (window.sum() / 2)
    return 20 * np.log10(np.maximum(magnitude, 10 ** (FLOOR_DB / 20)))


def _pair(reference, waveform) -> tuple[np.ndarray, np.ndarray]:
    original, copy = (mono(x, 1).astype(np.float64) for x in (reference, waveform))
    length = min(len(original), len(copy))
    return original[:length], copy[:length]
