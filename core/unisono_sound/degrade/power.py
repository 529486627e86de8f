"""Power: how loud speech is while it sounds, and noise at an exact ratio to it.

Pauses do not count: a recording with long pauses is heard in as much noise as one without. Frames of 20 ms are active
whose power is above 1/1000 of the loudest one's (−30 dB), as ``unisono_sound.corpus.level`` counts them.

Shapes: n samples, k frames.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

ACTIVE_SHARE = 1e-3
FRAME_SECONDS = 0.02


def active(wave: Float[Tensor, " n"], rate: int) -> Bool[Tensor, " n"]:
    """Return which samples stand in active frames; none of silence. What fills no last frame belongs to the one before.

    A wave shorter than a frame is one frame.
    """
    size = min(max(1, round(FRAME_SECONDS * rate)), max(len(wave), 1))
    count = len(wave) // size
    power = wave[: count * size].double().reshape(-1, size).square().mean(1)
    if not count or not float(power.max()) > 0:
        return torch.zeros(len(wave), dtype=torch.bool)
    loud = (power > power.max() * ACTIVE_SHARE).repeat_interleave(size)
    return torch.cat([loud, loud[-1:].expand(len(wave) - len(loud))])


def active_power(wave: Float[Tensor, " n"], rate: int) -> float:
    """Return the mean square of the samples in active frames, 0 of silence."""
    inside = active(wave, rate)
    return float(wave[inside].double().square().mean()) if bool(inside.any()) else 0.0


def mean_power(wave: Float[Tensor, " n"]) -> float:
    """Return the mean square of all samples."""
    return float(wave.double().square().mean()) if len(wave) else 0.0


def at_snr(wave: Float[Tensor, " n"], noise: Float[Tensor, " n"], rate: int, snr_db: float) -> Float[Tensor, " n"]:
    """Return the noise at the level where ``10 · log10(active power of wave / mean power of noise)`` is ``snr_db``.

    There is no noise to silence: where either is silent, so is the result.
    """
    speech, loud = active_power(wave, rate), mean_power(noise)
    if not speech > 0 or not loud > 0:
        return torch.zeros_like(noise)
    return noise * (speech / loud * 10 ** (-snr_db / 10)) ** 0.5
