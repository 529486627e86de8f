"""Draws: numbers from a generator, so that every choice can be replayed."""

import math
from collections.abc import Sequence
from typing import TypeVar

import torch

T = TypeVar("T")


def uniform(generator: torch.Generator, between: tuple[float, float]) -> float:
    """Draw a number evenly from ``[low, high)``; one draw also where both are the same."""
    low, high = between
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def log_uniform(generator: torch.Generator, between: tuple[float, float]) -> float:
    """Draw a positive number from ``[low, high)``, each octave as likely as another."""
    return math.exp(uniform(generator, (math.log(between[0]), math.log(between[1]))))


def whole(generator: torch.Generator, between: tuple[int, int]) -> int:
    """Draw a whole number from ``[low, high]``."""
    return int(torch.randint(between[0], between[1] + 1, (), generator=generator))


def choice(generator: torch.Generator, among: Sequence[T]) -> T:
    """Draw one of several, each as likely as another."""
    return among[whole(generator, (0, len(among) - 1))]
