"""Noise by number: its distribution, and that it belongs to its seed and its sample alone."""

import math

import pytest
import torch
from unisono_codec.vocoders.noise import GOLDEN, gaussian_noise, numbered_noise, scramble

N = 50_000
LIKE = torch.empty(1, N)


def test_the_hash_is_murmurs_finaliser():
    def by_hand(h: int) -> int:
        h ^= h >> 16
        h = h * 0x85EBCA6B % 2**32
        h ^= h >> 13
        h = h * 0xC2B2AE35 % 2**32
        return h ^ h >> 16

    numbers = [0, 1, 2, 12345, 2**31, 2**32 - 1, 0xDEADBEEF]
    assert scramble(torch.tensor(numbers)).tolist() == [by_hand(n) for n in numbers]


def test_gaussian_noise_is_white_gaussian_and_of_unit_variance():
    noise = gaussian_noise(0, [3], LIKE)[0].double()
    # Standard errors at 50,000: mean 0.0045, variance 0.0063, lagged products 0.0045, fourth moment 0.044.
    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.var()) - 1) < 0.03
    assert abs(float(noise.pow(4).mean()) - 3) < 0.2
    for lag in (1, 2, 3, 256):
        assert abs(float((noise[lag:] * noise[:-lag]).mean())) < 0.02
    # Kolmogorov and Smirnov: the largest gap between distribution functions exceeds 1.95 / √n once in a thousand.
    normal = 0.5 * (1 + torch.erf(noise.sort().values / math.sqrt(2)))
    assert float((normal - (torch.arange(N) + 0.5) / N).abs().max()) < 1.95 / math.sqrt(N)


def test_a_sample_belongs_to_its_seed_and_its_number():
    seeds = [0, 1, 2**32, 2**63 - 1]
    noise = gaussian_noise(0, seeds, torch.empty(4, N))
    for row, seed in enumerate(seeds):
        assert torch.equal(gaussian_noise(0, [seed], LIKE)[0], noise[row])
    assert torch.equal(gaussian_noise(777, seeds, torch.empty(4, N - 777)), noise[:, 777:])
    starts = torch.tensor([0, 10, 20, 30])
    shifted = gaussian_noise(starts, seeds, torch.empty(4, 100))
    for row, start in enumerate(starts.tolist()):
        assert torch.equal(shifted[row], noise[row, start : start + 100])


@pytest.mark.parametrize(
    "other", [1, 2, 2**31, 2**32, 2**62, GOLDEN, GOLDEN << 31]
)  # GOLDEN is the step of the numbers
def test_other_seeds_have_other_noise(other):
    one, two = gaussian_noise(0, [0, other], torch.empty(2, N)).double()
    for lag in (0, 1, 5):
        assert abs(float((one[lag:] * two[: N - lag]).mean())) < 0.02


def test_uniform_noise_needs_no_seed():
    assert torch.equal(numbered_noise(0, LIKE)[:, 9:], numbered_noise(9, LIKE[:, 9:]))


def test_uniform_noise_has_unit_variance_and_the_bounds_of_that():
    noise = numbered_noise(3, LIKE).double()
    # Standard errors at 50,000: mean 0.0045, variance 0.004.
    assert abs(float(noise.mean())) < 0.02 and abs(float(noise.square().mean()) - 1) < 0.02
    assert 1.72 < float(noise.abs().max()) <= math.sqrt(3)
