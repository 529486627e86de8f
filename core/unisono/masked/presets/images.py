"""Presets from image generation: MaskGIT, Token-Critic, Halton-MaskGIT, ARPG, locality-aware decoding.

See `unisono.masked.presets.general` for what holds of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unisono.masked.canvas import Layout
from unisono.masked.stages.guide import ClassifierFree, Guide, Plain
from unisono.masked.stages.orders import halton_order, locality_aware
from unisono.masked.stages.plan import Plan, Scheduled, Sizes, Steps
from unisono.masked.stages.revise import KeepBest
from unisono.masked.stages.schedules import Schedule, arccos, cosine
from unisono.masked.stages.score import Critic, Drawn, Perturbed, RandomOrder, Rank
from unisono.masked.stages.select import All
from unisono.masked.stages.warp import Keep, Warp
from unisono.masked.strategy import Strategy


def maskgit(
    num_steps: Steps = 8,
    schedule: Schedule = cosine,
    choice_temperature: float = 4.5,
    warp: Warp | None = None,
    guide: Guide | None = None,
) -> Strategy:
    """MaskGIT (arXiv:2202.04200): draw everywhere, keep the surest draws, with annealed Gumbel noise.

    Scores drawn tokens, so it is not exact at one token per step. Differs: the last step commits what is
    left, where the published canvas still carries one mask; equal scores still give exact counts.
    """
    return Strategy(
        Plan(Scheduled(num_steps, schedule)),
        Perturbed(Drawn(), choice_temperature),
        warp=warp or Keep(),
        guide=guide or Plain(),
        name="maskgit",
    )


def token_critic(
    critic: Any, num_steps: Steps = 18, schedule: Schedule = cosine, choice_temperature: float = 1.0
) -> Strategy:
    """Token-Critic (arXiv:2209.04439): fill everything, let a critic mask the worst again. Two evaluations a step.

    Committed tokens may be masked again. Differs: the critic's noise is Gumbel, annealed with the progress.
    """
    return Strategy(
        Plan(Scheduled(num_steps, schedule)),
        Perturbed(Critic(critic), choice_temperature),
        All(),
        revise=KeepBest(),
        name="token_critic",
    )


def halton(
    height: int,
    width: int,
    num_steps: Steps = 32,
    schedule: Schedule = arccos,
    roll: bool = True,
    warp: Warp | None = None,
    guide: Guide | None = None,
) -> Strategy:
    """Halton-MaskGIT (arXiv:2503.17076): a low-discrepancy order over a grid, tokens drawn where it points.

    Differs: positions known from the start are skipped and not drawn again.
    """
    return Strategy(
        Plan(Scheduled(num_steps, schedule)),
        Rank(halton_order(height, width), roll=roll),
        warp=warp or Keep(),
        guide=guide or Plain(),
        name="halton",
    )


def arpg(
    num_steps: Steps = 64, schedule: Schedule = arccos, guidance_scale: float = 1.0, unconditional: Any = None
) -> Strategy:
    """ARPG (arXiv:2503.10568): a random order, queries only at the positions that come next.

    For models that answer queries over a shared memory of what is known (`unisono.masked.run.cache.QueryOnly`).
    A `guidance_scale` above 1 needs the `unconditional` model and grows linearly to its value. Differs: each row has an
    order of its own, which costs nothing and is never worse.
    """
    guide = _ramped(guidance_scale, unconditional)
    return Strategy(Plan(Scheduled(num_steps, schedule)), RandomOrder(), guide=guide, query_only=True, name="arpg")


def locality(
    layout: Layout, sizes: Sequence[int], start: int = 0, guidance_scale: float = 1.0, unconditional: Any = None
) -> Strategy:
    """Locality-aware parallel decoding (arXiv:2507.01957): near the known, far from each other, queries only.

    `sizes` are the positions of each step and add up to the layout's. See `locality_aware` for the order.
    """
    guide = _ramped(guidance_scale, unconditional)
    return Strategy(
        Plan(Sizes(tuple(sizes))),
        Rank(locality_aware(layout, sizes, start)),
        guide=guide,
        query_only=True,
        name="locality",
    )


def _ramped(guidance_scale: float, unconditional: Any) -> Guide:
    return Plain() if guidance_scale == 1 else ClassifierFree(guidance_scale, unconditional, ramp=True)
