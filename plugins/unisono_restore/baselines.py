"""Baselines: what others take against noise, as ``Baseline`` of a trial: RNNoise, and spectral gating.

Both packages are optional; where one is absent the report says so and goes on.

Shapes: n samples, m samples at another rate.
"""

from collections.abc import Callable

import numpy as np
import soxr
from jaxtyping import Float
from unisono.extras import optional

from unisono_restore.trial import Baseline

__all__ = ["DENOISERS", "gated", "rnnoise"]

RNNOISE_RATE, RNNOISE_FRAME = 48_000, 480
RNNOISE_DELAY = 960
"""Samples at 48 kHz that RNNoise's output comes late, which are taken off: its windows of two frames."""


def rnnoise(wave: Float[np.ndarray, "n"], rate: int) -> Float[np.ndarray, "n"]:
    """Return a wave without its noise by RNNoise (Valin, arXiv:1709.08243), in place and of the same length.

    It runs at 48 kHz on 16-bit samples. Raises ``MissingExtra`` without ``pyrnnoise``.
    """
    package = optional("pyrnnoise", "pyrnnoise.rnnoise", extra="denoisers")
    wide = _resampled(wave, rate, RNNOISE_RATE)
    count = -(-(len(wide) + RNNOISE_DELAY) // RNNOISE_FRAME)
    padded = np.zeros(count * RNNOISE_FRAME, np.float32)
    padded[: len(wide)] = wide.clip(-1, 1)
    state = package.create()
    try:
        made = [
            package.process_frame(state, (frame * 32767).astype(np.int16))[0]
            for frame in padded.reshape(count, RNNOISE_FRAME)
        ]
    finally:
        package.destroy(state)
    heard = np.concatenate(made).astype(np.float32)[RNNOISE_DELAY : RNNOISE_DELAY + len(wide)] / 32767
    return _resampled(heard, RNNOISE_RATE, rate, len(wave))


def gated(wave: Float[np.ndarray, "n"], rate: int) -> Float[np.ndarray, "n"]:
    """Return a wave without its noise by spectral gating whose threshold follows the noise (``noisereduce``, defaults).

    Raises ``MissingExtra`` without ``noisereduce``.
    """
    package = optional("noisereduce", extra="denoisers")
    return np.asarray(package.reduce_noise(y=wave, sr=rate), np.float32)


_METHODS: dict[str, Callable[..., np.ndarray]] = {"RNNoise": rnnoise, "spectral gating": gated}
DENOISERS = tuple(Baseline(name, restore) for name, restore in _METHODS.items())
"""What an enhancer is measured against."""


def _resampled(
    wave: Float[np.ndarray, "n"], rate: int, new_rate: int, length: int | None = None
) -> Float[np.ndarray, "m"]:
    made = wave if rate == new_rate else soxr.resample(wave, rate, new_rate, quality="HQ")
    if length is None:
        return made
    return np.pad(made[:length], (0, max(0, length - len(made))))
