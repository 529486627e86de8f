"""Counter-based randomness: a number is a pure function of (row seed, step, stream, site).

Nothing is drawn "next": SplitMix64 (Steele, Lea and Flood, 2014, "Fast splittable pseudorandom number
generators") is evaluated at the site's index, keyed by the row's seed, its own step and the purpose
(`stream`). So a row gives the same sample alone, in a batch, padded, reordered, or when its neighbours
have finished, and a step can be repeated. The global seed is never read.

Arithmetic is modulo 2^64 in int64, which every device has; doubles keep 52 bits.

Letters: b batch, l sites.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unisono.errors import UnisonoError
from unisono.seeds import MAX_SEED

Sites = Int[Tensor, "b l"] | Int[Tensor, " l"]

# What a number is for: two purposes never share a number.
DRAW, SCORE, SELECT, REVISE, CHOICE, CORRUPT, PROPOSE, ACCEPT = range(8)

_GAMMA = 0x9E3779B97F4A7C15 - 2**64  # the odd integer nearest 2^64 / golden ratio, as int64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64


def bits(seed: Int[Tensor, " b"], step: Int[Tensor, " b"], sites: Sites, stream: int) -> Int[Tensor, "b l"]:
    """64 random bits per site, as int64: output number `sites` of the SplitMix64 keyed by the rest."""
    key = _mix(_mix(_mix(seed) ^ (step * _GAMMA)) + stream * 2 + 1)
    return _mix(key[:, None] + (sites + 1) * _GAMMA)


def uniform(seed: Int[Tensor, " b"], step: Int[Tensor, " b"], sites: Sites, stream: int) -> Float[Tensor, "b l"]:
    """Uniform float64 in the open interval (0, 1): never 0, never 1, so that its logarithms are finite."""
    top = _shift(bits(seed, step, sites, stream), 12)
    return (top.double() + 0.5) * 2.0**-52


def gumbel(seed: Int[Tensor, " b"], step: Int[Tensor, " b"], sites: Sites, stream: int) -> Float[Tensor, "b l"]:
    """Standard Gumbel float64, −log(−log u): the largest of several, each plus log p, is a draw from p."""
    return -(-uniform(seed, step, sites, stream).log()).log()


def row_seeds(seed: int, num_rows: int, device: torch.device | str | None = None) -> Int[Tensor, " b"]:
    """One seed per row from one seed of a request.

    Seeds below 2^42 give seed·2^20 + row, so that no two requests overlap. Larger seeds are hashed into the
    negative integers, multiples of 2^20: they never meet those of smaller seeds, and one another with a chance
    of 2^-43.

    Raises:
        UnisonoError: for a seed outside 0 … `MAX_SEED`, or more than 2^20 rows.
    """
    if not 0 <= seed <= MAX_SEED:
        raise UnisonoError(f"seed {seed}: give one from 0 to {MAX_SEED}", code="range", path="seed", value=seed)
    if not 0 <= num_rows <= 2**20:
        raise UnisonoError(
            f"{num_rows} rows of one seed: at most {2**20}; use several seeds",
            code="limit",
            path="num_rows",
            value=num_rows,
        )
    if seed < 2**42:
        base = seed << 20
    else:
        base = -(int(_shift(_mix(torch.tensor(seed)), 21)) + 1 << 20)
    return base + torch.arange(num_rows, dtype=torch.int64, device=device)


def _shift(z: Tensor, by: int) -> Tensor:
    """Shift right without the sign, which int64 would carry along."""
    return (z >> by) & ((1 << (64 - by)) - 1)


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's finaliser, a bijection of 64 bits."""
    z = (z ^ _shift(z, 30)) * _MIX_1
    z = (z ^ _shift(z, 27)) * _MIX_2
    return z ^ _shift(z, 31)
