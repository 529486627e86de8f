"""Presets from sound: SoundStorm, G-IPD, VampNet, MaskGCT.

See `unisono.masked.presets.general` for what holds of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from unisono.masked.stages.guide import Guide, Plain
from unisono.masked.stages.plan import Plan, Scheduled, Steps, check_steps
from unisono.masked.stages.schedules import Schedule, cosine
from unisono.masked.stages.score import Drawn, Perturbed
from unisono.masked.stages.warp import Chain, Keep, Temperature, TopTokens, Typical, Warp
from unisono.masked.strategy import Strategy


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
    check_steps(num_steps)
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
