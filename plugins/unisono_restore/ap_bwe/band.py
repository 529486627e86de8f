"""Band: where a narrow sound ends, and how what is made above that joins what was there.

A sound is divided by one filter of linear phase, which passes nothing up to ``KEPT`` of the cut-off and all above it,
at most −100 dB off (Kaiser, 1974)::

    output = input − above(input) + above(made)

Up to ``KEPT`` of the cut-off the output is therefore the input, to 1e-5 of its level; from there to the cut-off the one
fades into the other.

Shapes: c channels, n samples, k taps, f frequencies.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["KEPT", "WIDE", "Band", "Edge", "above", "taps_for"]

KEPT = 0.92
"""The share of the band up to its cut-off that is the input's: resamplers roll off the rest."""
WIDE = 0.92
"""A sound that reaches this share of half the rate is wide already."""
EDGE_DB = 60.0
"""A sound ends where its loudest frames are this much below their loudest frequency."""
STOP_DB = 100.0
_N_FFT = 1024
_BLOCK = 256


@dataclass(frozen=True)
class Band:
    """How a sound is made wide: filters for what lies above its cut-off, and above the highest that is known.

    made: passes what is taken from the network.
    unheard: passes what the network must not hear.
    """

    made: Float[Tensor, " k"]
    unheard: Float[Tensor, " k"]

    @staticmethod
    def of(cutoff: float, highest: float, rate: int) -> "Band":
        """Return the band of a sound that ends at ``cutoff`` hertz, for a network that knows cut-offs up to
        ``highest``."""
        return Band(high_pass(cutoff, rate), high_pass(min(cutoff, highest), rate))


class Edge:
    """Finds where each channel of a sound ends, block by block: at the highest frequency within ``EDGE_DB`` of the
    loudest, each taken at its loudest."""

    def __init__(self, rate: int):
        self.rate = rate
        self.window = torch.hann_window(_N_FFT)
        self.loudest = torch.zeros(1, _N_FFT // 2 + 1)
        self.rest: Tensor | None = None

    def hear(self, block: Float[Tensor, "c n"]) -> None:
        """Take in a block."""
        block = block if self.rest is None else torch.cat([self.rest, block], dim=1)
        if block.shape[1] >= _N_FFT:
            frames = block.unfold(1, _N_FFT, _N_FFT // 2)
            power = torch.fft.rfft(frames * self.window).abs().square()
            self.loudest = torch.maximum(self.loudest, power.amax(1))
            block = block[:, frames.shape[1] * (_N_FFT // 2) :]
        self.rest = block

    def cutoffs(self) -> list[float]:
        """Return the end of what was heard of each channel, in hertz; 0 of silence."""
        loudest = self.loudest
        if self.rest is not None and self.rest.shape[1]:  # a sound shorter than a window is one by itself
            length = self.rest.shape[1]
            window = torch.hann_window(length + 2, periodic=False)[1:-1]
            last = torch.fft.rfft(self.rest * window, _N_FFT).abs().square()
            loudest = torch.where(loudest.any(1, keepdim=True), loudest, last)
        heard = (loudest >= loudest.amax(1, keepdim=True) * 10 ** (-EDGE_DB / 10)) & (loudest > 0)
        ends = torch.where(heard, torch.arange(loudest.shape[1]), 0).amax(1)
        return [int(end) * self.rate / _N_FFT for end in ends]

    def cutoff(self) -> float:
        """Return the end of the channel that ends highest, in hertz; 0 of silence."""
        return max(self.cutoffs())


def taps_for(cutoff: float, rate: int) -> int:
    """Return how many taps the filter of a cut-off has, an odd number (Kaiser's formula)."""
    width = 2 * math.pi * (1 - KEPT) * cutoff / rate
    return 2 * math.ceil((STOP_DB - 8) / (2.285 * width) / 2) + 1


def high_pass(cutoff: float, rate: int) -> Float[Tensor, " k"]:
    """Return a filter that passes nothing up to ``KEPT`` of the cut-off and all from the cut-off on."""
    count = taps_for(cutoff, rate)
    place = torch.arange(count, dtype=torch.float64) - count // 2
    middle = (1 + KEPT) / 2 * cutoff / rate
    beta = 0.1102 * (STOP_DB - 8.7)
    window = torch.kaiser_window(count, periodic=False, beta=beta, dtype=torch.float64)
    low = 2 * middle * torch.sinc(2 * middle * place) * window
    low = low / low.sum()
    low[count // 2] -= 1
    return (-low).float()


def above(wave: Float[Tensor, "c n"], taps: Float[Tensor, " k"]) -> Float[Tensor, "c n"]:
    """Filter each channel, silent beyond its ends, without delay.

    Blocks of the sound, with what the taps reach around them, times one matrix of the taps: torch's convolution of one
    channel takes many times as long on a processor. Sums are in float64, where the device has it, so that they are the
    same wherever a block begins.
    """
    kind = torch.float32 if wave.device.type == "mps" else torch.float64
    length, half = wave.shape[1], len(taps) // 2
    windows = F.pad(wave, (half, half + -length % _BLOCK)).unfold(1, _BLOCK + len(taps) - 1, _BLOCK)
    matrix = F.pad(taps.to(wave.device, kind), (_BLOCK - 1, _BLOCK - 1)).unfold(0, _BLOCK, 1).flip(1)
    return (windows.to(kind) @ matrix).flatten(1)[:, :length].to(wave.dtype)
