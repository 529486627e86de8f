"""Noise that belongs to its sample: a function of the sample's number and, where asked, of a seed.

A generator that draws noise as it goes gives other samples in a batch, in pieces, and on another device. A hash
does not: sample 70,000 is the same whether the 69,999 before it were made or not.

The hash is the finaliser of MurmurHash3 (Appleby, public domain), once for the number and once for each half of the
seed. Gaussians come from pairs of uniforms (Box and Muller, 1958).

Shapes: b batch, n samples.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

WORD = 0xFFFFFFFF
GOLDEN = 0x9E3779B1


def scramble(x: Int[Tensor, "*s"]) -> Int[Tensor, "*s"]:
    """Mix the lower 32 bits so that a change of one changes each with probability one half."""
    x = x & WORD
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = ((x ^ (x >> shift)) * factor) & WORD
    return x ^ (x >> 16)


def sample_numbers(first: int | Int[Tensor, " b"], like: Float[Tensor, "b n"]) -> Int[Tensor, "#b n"]:
    """Return the number of each sample, from ``first`` on."""
    number = torch.arange(like.shape[1], device=like.device)
    return number + (first[:, None] if isinstance(first, Tensor) else first)


def numbered_noise(first: int | Int[Tensor, " b"], like: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Return white noise of unit variance, uniform, a function of the samples' numbers from ``first`` alone."""
    x = scramble(sample_numbers(first, like) * GOLDEN)
    return ((x.double() / 2**31 - 1) * math.sqrt(3)).float().expand_as(like)


def gaussian_noise(
    first: int | Int[Tensor, " b"], seeds: Sequence[int], like: Float[Tensor, "b n"]
) -> Float[Tensor, "b n"]:
    """Return white Gaussian noise of unit variance, a function of each item's seed (0 to 2⁶³ − 1) and of the samples'
    numbers from ``first``."""
    keys = torch.tensor([[seed & WORD, seed >> 32] for seed in seeds], device=like.device)
    x = sample_numbers(first, like) * GOLDEN
    for half in keys.unbind(1):
        x = scramble(x ^ scramble(half + GOLDEN)[:, None])
    # Of two hashes that differ by a constant before the last mix, neither tells the other.
    radius, angle = (scramble(x + salt).double() for salt in (0x5BD1E995, 0x1B873593))
    radius = (-2 * ((radius + 0.5) / 2**32).log()).sqrt()
    return (radius * (angle * (2 * math.pi / 2**32)).cos()).to(like.dtype).expand_as(like)
