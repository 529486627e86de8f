"""Scoring: everything that can be measured of one clip of speech by itself, in any process.

Shapes: n samples, t frames, m mel bins.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from unisono_sound import measure
from unisono_sound.measure.recognise import Recogniser
from unisono_sound.measure.wer import ErrorRate
from unisono_sound.signal.io import resample
from unisono_sound.signal.mel import LogMel, MelSpec

HAS_PESQ = find_spec("pesq") is not None
"""PESQ has no wheels: it is measured where someone had a compiler, and else the report says so."""


@dataclass(frozen=True)
class Clip:
    """One waveform to score, with the recording to compare it with where there is one.

    ``copy``: the clip has the recording's words at the recording's times.
    """

    id: str
    system: str
    text: str
    speaker: str | None
    waveform: np.ndarray
    sample_rate: int
    reference: np.ndarray | None
    copy: bool
    mel_spec: MelSpec
    recogniser: str | Recogniser


@dataclass
class Score:
    """What was measured of one clip; None where a measure does not apply or failed."""

    words: ErrorRate | None = None
    characters: ErrorRate | None = None
    heard: str | None = None
    mos: measure.DNSMOS | None = None
    pesq: float | None = None
    stoi: float | None = None
    mcd: float | None = None
    pitch: measure.PitchError | None = None
    length_ratio: float | None = None
    level_db: float | None = None
    failures: list[str] = field(default_factory=list)


def score(clip: Clip) -> Score:
    """Measure one clip; what fails is noted and leaves the rest in place."""
    result = Score()
    wave, rate, spec = clip.waveform, clip.sample_rate, clip.mel_spec

    def attempt(measure: str, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except Exception as error:
            result.failures.append(f"{measure}: {type(error).__name__}: {error}")
            return None

    hear = clip.recogniser
    heard = attempt(
        "recogniser",
        lambda: (_hear(hear) if isinstance(hear, str) else hear).transcribe(wave, rate),
    )
    if heard is not None:
        result.heard = heard
        result.words = measure.word_error_rate([clip.text], [heard])
        result.characters = measure.character_error_rate([clip.text], [heard])
    result.mos = attempt("DNSMOS", lambda: measure.dnsmos(wave, rate))
    result.level_db = 10 * float(np.log10(max(np.mean(np.square(wave, dtype=np.float64)), 1e-12)))
    reference = clip.reference
    if reference is None:
        return result
    if clip.copy:
        if HAS_PESQ:
            result.pesq = attempt("PESQ", lambda: measure.perceptual_quality(reference, spec.sample_rate, wave, rate))
        result.stoi = attempt("STOI", lambda: measure.intelligibility(reference, spec.sample_rate, wave, rate))
    else:
        result.length_ratio = attempt("length", lambda: measure.length_ratio(reference, spec.sample_rate, wave, rate))

    def spectra_and_pitch() -> tuple[float, measure.PitchError]:
        other = resample(torch.from_numpy(wave), rate, spec.sample_rate)
        transform = LogMel(spec)
        mels = [transform(x[None])[0].numpy() for x in (torch.from_numpy(reference), other)]
        if clip.copy:
            frames = np.arange(min(len(mel) for mel in mels))
            path = np.stack([frames, frames], axis=1)
        else:
            path = measure.align(*mels)
        tracks = [measure.track_pitch(x, spec.sample_rate, spec.hop_length) for x in (reference, other)]
        distance = measure.mel_cepstral_distortion(mels[0], mels[1], path)
        return distance, measure.pitch_error(tracks[0], tracks[1], path)

    result.mcd, result.pitch = attempt("MCD and pitch", spectra_and_pitch) or (None, None)
    return result


@cache
def _hear(name: str) -> Recogniser:
    return measure.recogniser(name)
