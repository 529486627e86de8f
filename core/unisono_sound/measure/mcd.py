"""MCD: mel-cepstral distortion in decibels, after dynamic time warping.

Kubichek, "Mel-cepstral distance measure for objective speech quality assessment" (1993):

    MCD = 10/ln 10 · sqrt(2 Σ_{k=1..13} (c_k − c'_k)²),      averaged over pairs of frames

where log amplitude = Σ_k c_k cos(k ω). The c_k come from log mel amplitudes x_1..x_m (natural
logarithm) by the discrete cosine transform: c_k = 2/m Σ_i x_i cos(π k (i − ½) / m). With these
constants MCD is the root mean square, over the mel scale, of the difference of two smoothed spectra
in decibels; c_0, the level, is left out, so that loudness does not count.

Differences from the paper: cepstra of a mel filter bank, not of a mel-warped all-pole fit, so
compare numbers only with numbers of the same ``MelSpec``; frames more than ``floor_db`` under the
reference's loudest frame steer the alignment but are not averaged, because the difference of two
silences says nothing about speech.

Shapes: t, s frames; m mel channels; k cepstral coefficients; p pairs of frames on the alignment's
path.
"""

import math

import numpy as np
from jaxtyping import Float, Int
from unisono.extras import optional

NUM_COEFFICIENTS = 13
DECIBELS = 10 * math.sqrt(2) / math.log(10)


def mel_cepstral_distortion(
    reference: Float[np.ndarray, "t m"],
    other: Float[np.ndarray, "s m"],
    path: Int[np.ndarray, "p 2"] | None = None,
    floor_db: float = 50.0,
) -> float:
    """Return the distortion in dB between two natural-log mel spectrograms.

    ``path`` pairs their frames (from ``align``, computed if absent; pass ``np.stack([i, i], 1)``
    for copies).
    """
    reference, other = np.asarray(reference, np.float64), np.asarray(other, np.float64)
    if path is None:
        path = align(reference, other)
    left, right = cepstra(reference)[path[:, 0]], cepstra(other)[path[:, 1]]
    distance = DECIBELS * np.linalg.norm(left - right, axis=1)
    level = 20 / math.log(10) * reference.max(axis=1)
    heard = (level >= level.max() - floor_db)[path[:, 0]]
    return float(distance[heard].mean())


def cepstra(log_mel: Float[np.ndarray, "t m"]) -> Float[np.ndarray, "t k"]:
    """Return the coefficients c_1..c_13 of each frame."""
    num_mels = log_mel.shape[1]
    transformed = np.asarray(optional("scipy", "scipy.fft").dct(log_mel, type=2, axis=1))
    return transformed[:, 1 : NUM_COEFFICIENTS + 1] / num_mels


def align(reference: Float[np.ndarray, "t m"], other: Float[np.ndarray, "s m"]) -> Int[np.ndarray, "p 2"]:
    """Return the pairs of frames whose cepstra are nearest in sum, from (0, 0) to (t − 1, s − 1).

    Dynamic time warping with steps (1, 1), (1, 0), (0, 1), all of weight one; librosa's compiled
    search.
    """
    left, right = cepstra(np.asarray(reference, np.float64)), cepstra(np.asarray(other, np.float64))
    squared = (left**2).sum(1)[:, None] + (right**2).sum(1) - 2 * left @ right.T
    _, path = optional("librosa").sequence.dtw(C=np.sqrt(squared.clip(min=0)), backtrack=True)
    return path[::-1]
