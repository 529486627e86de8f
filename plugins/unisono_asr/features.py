"""Features: log mels of recordings at several speeds, and what noise adds to them.

Shapes: n samples, t frames, m mel channels.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from unisono_sound.corpus import AudioLimits, Utterance, read_speech
from unisono_sound.corpus.recording import sums
from unisono_sound.signal import LogMel, MelSpec

SPEECH = MelSpec(sample_rate=16000, n_fft=512, win_length=400, hop_length=160, n_mels=80, f_max=8000.0)
"""80 log mels every 10 ms over 25 ms, as recognisers have them."""


def extract(
    utterance: Utterance,
    spec: MelSpec,
    limits: AudioLimits,
    trim_db: float,
    pad_seconds: float,
    loudness_dbfs: float | None,
    speeds: Sequence[float] = (1.0,),
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Compute one recording's log mel ``mel`` [t, m], and ``mel_0.9`` and the like for other speeds.

    Facts hold its length in ``seconds``, what was cut off its beginning (``cut_seconds``) and the sums for statistics.
    """
    wave, cut_seconds = read_speech(utterance, spec, limits, trim_db, pad_seconds, loudness_dbfs)
    log_mel = LogMel(spec)
    features = {"mel": log_mel(wave[None])[0]}
    for speed in speeds:
        if speed != 1.0:
            features[f"mel_{speed:g}"] = log_mel(at_speed(wave, spec.sample_rate, speed)[None])[0]
    return features, {
        "seconds": len(wave) / spec.sample_rate,
        "cut_seconds": cut_seconds,
        "mel": sums(features["mel"]),
    }


def at_speed(wave: Float[Tensor, " n"], rate: int, speed: float) -> Float[Tensor, " k"]:
    """Play a recording faster (above 1) or slower, pitch and all: resampling (Ko et al., Interspeech 2015)."""
    from torchaudio.functional import speed as played

    return played(wave, rate, speed)[0]


def with_noise(mel: Float[Tensor, "t m"], noise: Float[Tensor, "t m"], snr_db: float) -> Float[Tensor, "t m"]:
    """Add noise to speech, both as log mel magnitudes: their powers are added, as they are in the mean of any phase.

    ``snr_db`` compares the mean powers of the frames. The sum is never quieter than the speech alone.
    """
    loud = [(2 * part).logsumexp((0, 1)) for part in (mel, noise)]
    gain = (loud[0] - loud[1]) / 2 - snr_db * math.log(10) / 20
    return torch.logaddexp(2 * mel, 2 * (noise + gain)) / 2
