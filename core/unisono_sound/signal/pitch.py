"""Pitch and energy per mel frame: the two curves that a prosody model predicts.

Pitch is measured by SwiftF0 (a 95k-parameter network run by onnxruntime, 46.9 to 2093.8 Hz, 16 ms
frames) and brought to the mel grid: frame ``i`` is centred on sample ``(i + 1/2) * hop``. Between
measurements the logarithm of the frequency is interpolated; a frame is voiced if the interpolated
confidence is at least 0.5.

Shapes: n samples, t frames; b batch, s symbols or frames.
"""

from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from unisono.errors import MissingExtra

from unisono_sound.signal.mel import LogMel, MelSpec


def pitch(wave: Float[Tensor, "n"], spec: MelSpec, f_min: float = 50.0, f_max: float = 1000.0) -> Float[Tensor, "t"]:
    """Return the fundamental frequency in hertz of every mel frame, 0 where it is unvoiced.

    Looks between ``f_min`` and ``f_max`` hertz. Raises ``MissingExtra`` without swift-f0.
    """
    num_frames = spec.frames(wave.shape[-1])
    found = _detector().detect(wave.numpy(), spec.sample_rate, f_min, f_max)
    times = (np.arange(num_frames) + 0.5) * spec.hop_length / spec.sample_rate
    heard = found.confidence >= 0.5
    if not heard.any():
        return torch.zeros(num_frames)
    confidence = np.interp(times, found.timestamps, found.confidence)
    hz = np.exp(np.interp(times, found.timestamps[heard], np.log(found.pitch_hz[heard])))
    return torch.from_numpy(np.where(confidence >= 0.5, hz, 0.0)).float()


def energy(wave: Float[Tensor, "n"], spec: MelSpec) -> Float[Tensor, "t"]:
    """Return the L2 norm of each frame's magnitude spectrum (as in FastSpeech 2)."""
    return _log_mel(spec).magnitude(wave[None])[0].norm(dim=-1)


def fill_gaps(values: Float[Tensor, "b s"], valid: Bool[Tensor, "b s"]) -> Float[Tensor, "b s"]:
    """Interpolate linearly between valid neighbours; the ends repeat the nearest; 0 where none is valid."""
    length = values.shape[1]
    index = torch.arange(length, device=values.device).expand_as(values)
    before = torch.where(valid, index, -1).cummax(1).values
    after = torch.where(valid, index, length).flip(1).cummin(1).values.flip(1)
    left = torch.where(before >= 0, before, after).clamp(max=length - 1)
    right = torch.where(after < length, after, before).clamp(min=0)
    share = (index - left).to(values.dtype) / (right - left).clamp(min=1)
    filled = torch.lerp(values.gather(1, left), values.gather(1, right), share.clamp(0, 1))
    return torch.where(valid.any(1, keepdim=True), filled, 0.0)


@cache
def _detector():
    try:
        from swift_f0 import SwiftF0
    except ImportError:
        raise MissingExtra("swift-f0", "tts") from None
    return SwiftF0(threads=1, spin=False)


@cache
def _log_mel(spec: MelSpec) -> LogMel:
    return LogMel(spec)
