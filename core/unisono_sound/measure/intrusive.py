"""Intrusive measures: PESQ and STOI of a copy beside its original.

The two are brought to 16 kHz and cut to the shorter one; a vocoder that pads or delays shows it
here.

Shapes: n samples.
"""

import numpy as np
from unisono.errors import DataError
from unisono.extras import optional

from unisono_sound.measure.waveform import mono

RATE = 16000


def perceptual_quality(reference, reference_rate: int, waveform, sample_rate: int) -> float:
    """Return wide-band PESQ (ITU-T P.862.2) as a listening score: 1.04 worst, 4.64 identical.

    Raises ``DataError`` where PESQ finds no speech, ``MissingExtra`` without ``pesq``.
    """
    pesq = optional("pesq", extra="pesq")
    original, copy = _pair(reference, reference_rate, waveform, sample_rate)
    if not original.any() or not copy.any():
        silent = "waveform" if original.any() else "reference"
        raise DataError("PESQ cannot score silence: give two waveforms of speech", code="empty", path=silent)
    try:
        return float(pesq.pesq(RATE, original, copy, "wb"))
    except pesq.PesqError as error:
        raise DataError(
            f"PESQ cannot score this pair: {error!r}; it needs at least 0.25 s of speech", code="value", path="waveform"
        ) from error


def intelligibility(reference, reference_rate: int, waveform, sample_rate: int) -> float:
    """Return STOI (Taal et al., 2011): about 0 unintelligible, 1 identical.

    Raises ``MissingExtra`` without ``pystoi``.
    """
    stoi = optional("pystoi")
    return float(stoi.stoi(*_pair(reference, reference_rate, waveform, sample_rate), RATE))


def _pair(reference, reference_rate, waveform, sample_rate) -> tuple[np.ndarray, np.ndarray]:
    original, copy = mono(reference, reference_rate, RATE), mono(waveform, sample_rate, RATE)
    length = min(len(original), len(copy))
    return original[:length], copy[:length]
