"""Damage: clipping, lost packets, another level.

Shapes: n samples.
"""

import torch
from jaxtyping import Float
from torch import Tensor

PACKET_SECONDS = 0.02


def clipped(wave: Float[Tensor, " n"], below_peak_db: float) -> Float[Tensor, " n"]:
    """Cut a wave off at a level so many decibels below its peak, as an overdriven converter does."""
    most = float(wave.abs().max()) * 10 ** (-below_peak_db / 20) if len(wave) else 0.0
    return wave.clamp(-most, most)


def with_losses(
    wave: Float[Tensor, " n"], rate: int, share: float, burst: float, generator: torch.Generator
) -> Float[Tensor, " n"]:
    """Silence packets of 20 ms: ``share`` of them in the mean, in runs of ``burst`` packets in the mean.

    Gilbert's chain (1960): a lost packet is followed by another with probability ``1 − 1 / burst``, one that came by a
    lost one with the probability that makes the share; the first packet is lost with ``share``.
    """
    size = max(1, round(PACKET_SECONDS * rate))
    count = -(-len(wave) // size)
    stay, fall = 1 - 1 / burst, min(1.0, share / ((1 - share) * burst)) if share < 1 else 1.0
    draws = torch.rand(count, generator=generator).tolist()
    lost, kept = False, torch.ones(count, dtype=torch.bool)
    for number, draw in enumerate(draws):
        lost = draw < (share if number == 0 else stay if lost else fall)
        kept[number] = not lost
    return wave * kept.repeat_interleave(size)[: len(wave)]


def louder(wave: Float[Tensor, " n"], gain_db: float) -> Float[Tensor, " n"]:
    """Return a wave louder by so many decibels."""
    return wave * 10 ** (gain_db / 20)
