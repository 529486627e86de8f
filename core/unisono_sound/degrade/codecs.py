"""Codecs: speech that went through a lossy one and back, in place and of the same length.

G.711 (A-law, µ-law), Opus and MP3 are soundfile's (libsndfile with libopus and LAME). Their containers tell a decoder
how much to skip at the beginning; an MP3 frame of a few bytes cannot, and what it lacks is taken off here.

Shapes: n samples.
"""

import io

import numpy as np
import soundfile
import torch
from jaxtyping import Float
from torch import Tensor
from unisono.media.opus import encode_opus, opus_rate

from unisono_sound.signal import resample

CODECS = ("mulaw", "alaw", "opus", "mp3")
MP3_DELAY = 1105
"""Samples that LAME (576) and the filter bank of a decoder (529) delay a sound."""
MP3_KBPS = ((12_000, 8, 64), (24_000, 8, 160), (48_000, 32, 320))
"""Up to which rate in hertz an MP3 has from and to which bitrates."""
LAME_MOST = 0.999
"""The highest compression that libsndfile passes on to LAME: it refuses 1."""
MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


def companded(wave: Float[Tensor, " n"], rate: int, law: str) -> Float[Tensor, " n"]:
    """Return a wave in 8 bits by ITU-T G.711 and back: ``law`` is ``mulaw`` or ``alaw``. Beyond ±1 it is clipped."""
    buffer = io.BytesIO()
    subtype = {"mulaw": "ULAW", "alaw": "ALAW"}[law]
    soundfile.write(buffer, wave.clamp(-1, 1).numpy(), rate, subtype, format="WAV")
    return _decoded(buffer.getvalue(), len(wave))


def opus(wave: Float[Tensor, " n"], rate: int, kbps: float) -> Float[Tensor, " n"]:
    """Return a wave through Opus at 6 to 256 kb/s; a rate that Opus lacks is resampled to the next higher and back."""
    own = opus_rate(rate)
    sent = _resampled(wave, rate, own).clamp(-1, 1)
    data = encode_opus(sent.numpy(), own, compression_level=1 - (kbps - 6) / 250)
    return _back(_decoded(data, len(sent)), own, rate, len(wave))


def mp3(wave: Float[Tensor, " n"], rate: int, kbps: float) -> Float[Tensor, " n"]:
    """Return a wave through MP3 at a constant rate near ``kbps``; what lies outside of the format's range is brought
    within."""
    own = next((known for known in MP3_RATES if known >= rate), MP3_RATES[-1])
    sent = _resampled(wave, rate, own).clamp(-1, 1)
    low, high = next((low, high) for most, low, high in MP3_KBPS if own <= most)
    buffer = io.BytesIO()
    soundfile.write(
        buffer,
        sent.numpy(),
        own,
        "MPEG_LAYER_III",
        format="MP3",
        compression_level=min(1 - (min(max(kbps, low), high) - low) / (high - low), LAME_MOST),
        bitrate_mode="CONSTANT",
    )
    return _back(_decoded(buffer.getvalue(), len(sent), MP3_DELAY), own, rate, len(wave))


def _decoded(data: bytes, num_samples: int, delay: int = 0) -> Float[Tensor, " n"]:
    """Decode a file to as many samples; one that is longer by ``delay`` or more begins that much later."""
    heard, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    if delay and len(heard) >= num_samples + delay:
        heard = heard[delay:]
    return _fitted(torch.from_numpy(np.ascontiguousarray(heard)), num_samples)


def _resampled(wave: Float[Tensor, " n"], rate: int, new_rate: int) -> Float[Tensor, " m"]:
    return wave if rate == new_rate else resample(wave.contiguous(), rate, new_rate)


def _back(wave: Float[Tensor, " m"], rate: int, new_rate: int, num_samples: int) -> Float[Tensor, " n"]:
    return _fitted(_resampled(wave, rate, new_rate), num_samples)


def _fitted(wave: Float[Tensor, " m"], num_samples: int) -> Float[Tensor, " n"]:
    wave = wave[:num_samples]
    return torch.cat([wave, wave.new_zeros(num_samples - len(wave))])
