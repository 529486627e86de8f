"""Presets for anything: random and given orders, one pass, MaskGIT's schedule without its bias.

A docstring cites the paper and says what differs. For every preset of this package: counts are per row and from the
number of masks, noise is per row, and a position that is known is never drawn again.
"""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

from unisono.masked.stages.draw import Greedy
from unisono.masked.stages.plan import Even, Fixed, Plan, Scheduled, Steps
from unisono.masked.stages.schedules import Schedule, cosine
from unisono.masked.stages.score import MaxProb, Perturbed, Random, Rank
from unisono.masked.strategy import Strategy


def random_order(tokens_per_step: int = 1) -> Strategy:
    """So many random positions in each step (Hoogeboom et al., 2022, arXiv:2110.02037)."""
    return Strategy(Plan(Fixed(tokens_per_step)), Random(), name="random_order")


def one_pass() -> Strategy:
    """Every open group in one pass, the likeliest tokens: Paraformer's decoder (arXiv:2206.08317)."""
    return Strategy(Plan(Even(1)), MaxProb(), draw=Greedy(), name="one_pass")


def choose_then_draw(num_steps: Steps = 8, schedule: Schedule = cosine, choice_temperature: float = 0.0) -> Strategy:
    """MaskGIT's schedule with positions chosen by top probability before tokens are drawn (arXiv:2510.04525).

    Exact at one token per step, where `maskgit` is not.
    """
    return Strategy(
        Plan(Scheduled(num_steps, schedule)), Perturbed(MaxProb(), choice_temperature), name="choose_then_draw"
    )


def by_rank(rank: Int[Tensor, " l"], num_steps: Steps, schedule: Schedule = cosine, roll: bool = False) -> Strategy:
    """Any order that you can write down, on any schedule."""
    return Strategy(Plan(Scheduled(num_steps, schedule)), Rank(rank, roll), name="by_rank")
