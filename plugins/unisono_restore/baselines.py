"""Baselines: what one would do without a model, as ``Baseline`` of a trial, by the names of ``--baseline``.

::

    sinc      the band above a sound's end cut off by a resampler
    copy      the low band copied up
    gating    noise below a threshold taken out (``noisereduce``)
    rnnoise   RNNoise (``pyrnnoise``)

The packages are optional. A baseline that is asked for by name is refused without its own; where a model's own choice
lacks one, the report says so and goes on.

Shapes: n samples, m samples at another rate.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import soxr
from jaxtyping import Float
from unisono.errors import RequestError, did_you_mean
from unisono.extras import optional

from unisono_restore.ap_bwe.rivals import copied_up, cut_off
from unisono_restore.trial import Baseline

__all__ = ["BASELINES", "DENOISERS", "gated", "named", "rnnoise"]

RNNOISE_RATE, RNNOISE_FRAME = 48_000, 480
RNNOISE_DELAY = 960
"""Samples at 48 kHz that RNNoise's output comes late, which are taken off: its windows of two frames."""


def rnnoise(wave: Float[np.ndarray, "n"], rate: int) -> Float[np.ndarray, "n"]:
    """Return a wave without its noise by RNNoise (Valin, arXiv:1709.08243), in place and of the same length.

    It runs at 48 kHz on 16-bit samples. Raises ``MissingExtra`` without ``pyrnnoise``.
    """
    package = _rnnoise()
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
    package = _noisereduce()
    return np.asarray(package.reduce_noise(y=wave, sr=rate), np.float32)


def named(baselines: Sequence[str | Baseline]) -> list[Baseline]:
    """Return baselines, some of them given by name.

    Raises ``RequestError`` for a name that is unknown or given twice, ``MissingExtra`` where one's package is missing.
    """
    found: list[Baseline] = []
    for one in baselines:
        if isinstance(one, str):
            if one not in BASELINES:
                message = f"no baseline is called {one!r:.80}{did_you_mean(one, BASELINES)}"
                raise RequestError(message, code="unknown", path="--baseline", value=one)
            one = BASELINES[one]
            if one.needs is not None:
                one.needs()
        if one.name in [other.name for other in found]:
            message = f"the baseline {one.name!r} is given twice: give it once"
            raise RequestError(message, code="conflict", path="--baseline", value=one.name)
        found.append(one)
    return found


_rnnoise = partial(optional, "pyrnnoise", "pyrnnoise.rnnoise", extra="denoisers")
_noisereduce = partial(optional, "noisereduce", extra="denoisers")
BASELINES = {
    "sinc": Baseline("sinc", cut_off),
    "copy": Baseline("low band copied", copied_up),
    "gating": Baseline("spectral gating", gated, _noisereduce),
    "rnnoise": Baseline("RNNoise", rnnoise, _rnnoise),
}
DENOISERS = (BASELINES["rnnoise"], BASELINES["gating"])
"""What an enhancer is measured against."""


def _resampled(
    wave: Float[np.ndarray, "n"], rate: int, new_rate: int, length: int | None = None
) -> Float[np.ndarray, "m"]:
    made = wave if rate == new_rate else soxr.resample(wave, rate, new_rate, quality="HQ")
    if length is None:
        return made
    return np.pad(made[:length], (0, max(0, length - len(made))))
