"""Recording: made ready for training a voice; mono, its own rate, trimmed, level; and its log mel.

Shapes: n samples, t frames, m mel channels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from unisono.data import Drop

from unisono_sound.corpus.limits import AudioLimits, wave_facts
from unisono_sound.corpus.manifest import Utterance
from unisono_sound.signal.io import read_audio
from unisono_sound.signal.mel import LogMel, MelSpec

PEAK = 0.97


def extract_mel(
    utterance: Utterance,
    spec: MelSpec,
    limits: AudioLimits,
    trim_db: float,
    pad_seconds: float,
    loudness_dbfs: float | None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Compute one recording's log mel ``mel`` [t, m]; facts hold its length in ``seconds``, what was
    cut off its beginning (``cut_seconds``) and the sums for statistics.
    """
    wave, cut_seconds = read_speech(utterance, spec, limits, trim_db, pad_seconds, loudness_dbfs)
    mel = LogMel(spec)(wave[None])[0]
    facts = {"seconds": len(wave) / spec.sample_rate, "cut_seconds": cut_seconds, "mel": sums(mel)}
    return {"mel": mel}, facts


def read_speech(
    utterance: Utterance,
    spec: MelSpec,
    limits: AudioLimits,
    trim_db: float,
    pad_seconds: float,
    loudness_dbfs: float | None,
) -> tuple[Float[Tensor, "n"], float]:
    """Return a recording as voices are trained on it (mono, resampled, trimmed, levelled), and what
    was cut off its beginning, in seconds. Raises ``Drop`` where it is not usable.
    """
    wave, rate = read_audio(utterance.audio, spec.sample_rate)
    verdict = limits.judge(wave_facts(wave, rate))
    if verdict:
        raise Drop(*verdict)
    return prepared_wave(wave, spec, trim_db, pad_seconds, loudness_dbfs)


def prepared_wave(
    wave: Float[Tensor, "n"], spec: MelSpec, trim_db: float, pad_seconds: float, loudness_dbfs: float | None
) -> tuple[Float[Tensor, "n"], float]:
    """Trim and level a recording at the spec's rate; also return what was cut off its beginning, in seconds."""
    rate = spec.sample_rate
    wave, cut_seconds = trim(wave, rate, trim_db, pad_seconds)
    if len(wave) < spec.n_fft:
        raise Drop("too short", f"{len(wave) / rate:.2f} s without the silence around it")
    return level(wave, rate, loudness_dbfs), cut_seconds


def sums(values: Float[Tensor, "n *m"]) -> list:
    """Return sum, sum of squares and count over the first axis, as plain numbers: see ``moments``."""
    values = values.double()
    return [values.sum(0).tolist(), values.square().sum(0).tolist(), len(values)]


def moments(rows: Sequence[list]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of all that several ``sums`` were taken over."""
    first, second, count = (np.sum([row[i] for row in rows], axis=0) for i in range(3))
    mean = first / max(count, 1)
    return mean, np.sqrt(np.maximum(second / max(count, 1) - mean**2, 1e-8))


def trim(wave: Float[Tensor, "n"], rate: int, trim_db: float, pad_seconds: float) -> tuple[Float[Tensor, "k"], float]:
    """Cut a recording so that speech has ``pad_seconds`` of silence on either side; also return
    what was cut off its beginning, in seconds (negative where silence was added).

    Loudness is the RMS over 20 ms; silence is ``trim_db`` below the loudest 20 ms. Where a
    recording begins or ends with less silence than that, its own quietest stretch is repeated:
    every utterance then has the silence that the start and end symbols stand for.
    """
    size = max(1, rate // 50)
    power = wave[: len(wave) // size * size].reshape(-1, size).square().mean(1)
    loud = (power > power.max() * 10 ** (-trim_db / 10)).nonzero()[:, 0]
    if not trim_db or not len(loud):
        return wave, 0.0
    pad = round(pad_seconds * rate)
    start, stop = int(loud[0]) * size - pad, (int(loud[-1]) + 1) * size + pad
    span = min(-(-pad // size), len(power))
    quiet = size * int(power.unfold(0, span, 1).mean(1).argmin()) if span else 0
    tone = wave[quiet : quiet + pad]
    before, after = max(0, -start), max(0, stop - len(wave))
    parts = [
        tone[:before],
        wave[max(0, start) : stop],
        tone[len(tone) - after :] if after else tone[:0],
    ]
    return torch.cat(parts), (start if start > 0 else -len(parts[0])) / rate


def level(wave: Float[Tensor, "n"], rate: int, dbfs: float | None) -> Float[Tensor, "n"]:
    """Bring speech to an RMS level, pauses not counted, its peak at most 0.97."""
    if dbfs is None:
        return wave
    size = max(1, rate // 50)
    power = wave[: len(wave) // size * size].reshape(-1, size).square().mean(1)
    speech = power[power > power.max() * 1e-3].mean().clamp(min=1e-12)
    gain = min(10 ** (dbfs / 20) / float(speech.sqrt()), PEAK / max(float(wave.abs().max()), 1e-9))
    return wave * gain
