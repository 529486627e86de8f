"""Rhythm: durations that change with the seed, since a predictor of means says every sentence the same way.

A regression gives a symbol its mean length, and speech with all its words of mean length is flat. Words that are all a
little longer or shorter than that, each by a factor of its own, are not; a stochastic predictor (Kim et al.,
arXiv:2106.06103) would learn by how much, this is told.

Shapes: b batch, s symbols.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.data import derive_seed
from unisono_sound.voice import Reading


def swung(durations: Float[Tensor, "b s"], readings: Sequence[Reading]) -> Float[Tensor, "b s"]:
    """Return durations with each word's, and each symbol's between words, times exp(τ·n − τ²/2), n standard normal.

    τ is the request's ``duration_temperature``; 0 leaves the durations as they are. The mean factor is 1. Which words
    are long depends on the request's seed and the piece's symbols alone.
    """
    if not any(reading.request.duration_temperature for reading in readings):
        return durations
    factors = torch.ones(durations.shape)
    for row, reading in enumerate(readings):
        spread = reading.request.duration_temperature
        generator = torch.Generator().manual_seed(derive_seed(reading.request.seed, "rhythm", *reading.ids))
        owners = reading.symbols.word_of
        drawn = torch.randn(len(owners) + len(reading.symbols.words), generator=generator).tolist()
        own = [drawn[place if owner < 0 else len(owners) + owner] for place, owner in enumerate(owners)]
        factors[row, : len(own)] = torch.tensor([math.exp(spread * n - spread**2 / 2) for n in own])
    return durations * factors.to(durations)
