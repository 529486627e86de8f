"""Published samplers as strategies: general ones, images, audio and motion; text is in `presets_text`.

Each is a composition of stages and nothing else. A docstring cites the paper and says what differs; for
all of them: counts are per row and from the number of masks, noise is per row, and a position that is
known is never drawn again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Int
from torch import Tensor

from unisono.masked.canvas import Layout
from unisono.masked.stages.draw import Greedy
from unisono.masked.stages.guide import ClassifierFree, Guide, Plain
from unisono.masked.stages.orders import halton_order, locality_aware
from unisono.masked.stages.plan import Even, Fixed, Plan, Proportional, Scheduled, Sizes, Steps
from unisono.masked.stages.revise import KeepBest
from unisono.masked.stages.schedules import Schedule, arccos, cosine
from unisono.masked.stages.score import Critic, Drawn, MaxProb, Perturbed, Random, RandomOrder, Rank
from unisono.masked.stages.select import All, TopK
from unisono.masked.stages.warp import Chain, Keep, Temperature, TopTokens, Typical, Warp
from unisono.masked.strategy import Strategy


def random_order(tokens_per_step: int = 1) -> Strategy:
    """So many random positions in each step (Hoogeboom et al., 2022, arXiv:2110.02037)."""
    return Strategy(Plan(Fixed(tokens_per_step)), Random(), name="random_order")


def one_pass() -> Strategy:
    """Every open group in one pass, the likeliest tokens: Paraformer's decoder (arXiv:2206.08317)."""
    return Strategy(Plan(Even(1)), MaxProb(), draw=Greedy(), name="one_pass")


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


def choose_then_draw(num_steps: Steps = 8, schedule: Schedule = cosine, choice_temperature: float = 0.0) -> Strategy:
    """MaskGIT's schedule with positions chosen by top probability before tokens are drawn (arXiv:2510.04525).

    Exact at one token per step, where `maskgit` is not.
    """
    return Strategy(
        Plan(Scheduled(num_steps, schedule)), Perturbed(MaxProb(), choice_temperature), name="choose_then_draw"
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
    num_steps: Steps = 64, schedule: Schedule = arccos, guidance: float = 0.0, unconditional: Any = None
) -> Strategy:
    """ARPG (arXiv:2503.10568): a random order, queries only at the positions that come next.

    For models that answer queries over a shared memory of what is known (`unisono.masked.run.cache.QueryOnly`).
    `guidance` > 0 needs the `unconditional` model and ramps up linearly. Differs: each row has an order of
    its own, which costs nothing and is never worse.
    """
    guide = ClassifierFree(guidance, unconditional, ramp=True) if guidance else Plain()
    return Strategy(Plan(Scheduled(num_steps, schedule)), RandomOrder(), guide=guide, query_only=True, name="arpg")


def locality(
    layout: Layout, sizes: Sequence[int], start: int = 0, guidance: float = 0.0, unconditional: Any = None
) -> Strategy:
    """Locality-aware parallel decoding (arXiv:2507.01957): near the known, far from each other, queries only.

    `sizes` are the positions of each step and add up to the layout's. See `locality_aware` for the order.
    """
    guide = ClassifierFree(guidance, unconditional, ramp=True) if guidance else Plain()
    return Strategy(
        Plan(Sizes(tuple(sizes))),
        Rank(locality_aware(layout, sizes, start)),
        guide=guide,
        query_only=True,
        name="locality",
    )


def by_rank(rank: Int[Tensor, " l"], num_steps: Steps, schedule: Schedule = cosine, roll: bool = False) -> Strategy:
    """Any order that you can write down, on any schedule."""
    return Strategy(Plan(Scheduled(num_steps, schedule)), Rank(rank, roll), name="by_rank")


def soundstorm(
    num_steps: Sequence[int] = (16, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
    schedule: Schedule = cosine,
    choice_temperature: float = 1.0,
    temperature: float = 1.0,
    guide: Guide | None = None,
) -> Strategy:
    """SoundStorm (arXiv:2305.09636): residual levels from coarse to fine, MaskGIT in each, `num_steps` per level.

    A level of one step is greedy. Use `Layout.levels`. While a level is decoded, all finer ones are masked,
    as in training (`unisono.masked.training.corrupt`); a published port lets the finer ones keep what was drawn.
    """
    warp = Temperature(tuple(temperature if n > 1 else 0.0 for n in num_steps))
    return Strategy(
        Plan(Scheduled(tuple(num_steps), schedule)),
        Perturbed(Drawn(), choice_temperature),
        warp=warp,
        guide=guide or Plain(),
        name="soundstorm",
    )


def group_ipd(num_steps: Sequence[int], schedule: Schedule = cosine, temperature: float = 1.0) -> Strategy:
    """G-IPD (arXiv:2401.01099): groups of residual streams, a few iterations over each group.

    Which stream belongs to which group is data: `Layout.streams(num_frames, sizes, groups)`, and
    `num_steps` has one entry per group. The paper leaves the split of steps over groups open.
    """
    return Strategy(
        Plan(Scheduled(tuple(num_steps), schedule)), Drawn(), warp=Temperature(temperature), name="group_ipd"
    )


def vampnet(
    num_steps: Steps = 36,
    choice_temperature: float = 10.5,
    typical: float | None = 0.15,
    temperature: float = 1.0,
    guide: Guide | None = None,
) -> Strategy:
    """VampNet (arXiv:2307.04686): MaskGIT over all coarse codebooks at once, typical sampling, much choice noise.

    Prompts are frozen tokens: periodic, compressed, or around a gap. Put coarse codebooks in group 0 and
    fine ones in group 1. Differs: the schedule counts each row's own masks, not the batch's.
    """
    warps: list[Warp] = [Temperature(temperature)] if temperature != 1 else []
    warps += [Typical(typical)] if typical is not None else []
    return Strategy(
        Plan(Scheduled(num_steps)),
        Perturbed(Drawn(), choice_temperature),
        warp=Chain(*warps) if warps else Keep(),
        guide=guide or Plain(),
        name="vampnet",
    )


def maskgct(
    num_steps: Steps = (25, 10, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
    temperature: float = 1.5,
    choice_temperature: float = 1.0,
    share: float = 0.02,
    guide: Guide | None = None,
) -> Strategy:
    """MaskGCT (arXiv:2409.00750): residual levels; Gumbel noise on probabilities; the top 2 % of tokens, cooling.

    One number of steps serves its semantic stage (25 to 50), one per level the acoustic stage. With noise
    on p rather than log p, a choice temperature of 1 is close to a random order. Differs: see
    `ClassifierFree.rescale` for the guidance; steps go by each row's own masks.
    """
    return Strategy(
        Plan(Scheduled(num_steps)),
        Perturbed(Drawn(log=False), choice_temperature),
        warp=Chain(TopTokens(share=share), Temperature(temperature, anneal=True)),
        guide=guide or Plain(),
        name="maskgct",
    )


def mmm(num_steps: int = 10, per: int = 49, temperature: float = 1.0) -> Strategy:
    """MMM (arXiv:2312.03596): text to motion, steps in proportion to the length: 10 per 49 tokens.

    In-betweening, long sequences and upper-body edits are frozen tokens. Differs: an edit is scheduled by
    what is masked, not by the whole length.
    """
    return Strategy(Plan(Proportional(num_steps, per)), Drawn(), warp=Temperature(temperature), name="mmm")


def momask(
    num_steps: Sequence[int] = (10, 1, 1, 1, 1, 1),
    temperature: float = 1.0,
    share: float = 0.1,
    guide: Guide | None = None,
) -> Strategy:
    """MoMask (arXiv:2312.00063): 10 steps for the base level, one for each residual level, the top 10 % of tokens.

    Guide with ``ClassifierFree(weight, unconditional, scores=True)``: its order follows guided logits.
    """
    return Strategy(
        Plan(Scheduled(tuple(num_steps))),
        Drawn(),
        TopK(),
        warp=Chain(TopTokens(share=share), Temperature(temperature)),
        guide=guide or Plain(),
        name="momask",
    )
