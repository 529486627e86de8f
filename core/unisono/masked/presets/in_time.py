"""Presets in time: MMM, MoMask, and a Halton order along time.

See `unisono.masked.presets.general` for what holds of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from unisono.masked.stages.guide import Guide, Plain
from unisono.masked.stages.plan import Plan, Proportional, Scheduled, Steps
from unisono.masked.stages.schedules import Schedule, arccos
from unisono.masked.stages.score import Drawn, HaltonInTime
from unisono.masked.stages.select import TopK
from unisono.masked.stages.warp import Chain, Temperature, TopTokens
from unisono.masked.strategy import Strategy


def mmm(num_steps: int = 10, per: int = 49, temperature: float = 1.0) -> Strategy:
    """MMM (arXiv:2312.03596): steps in proportion to the length: 10 per 49 tokens.

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

    Guide with ``ClassifierFree(scale, unconditional, scores=True)``: its order follows guided logits.
    """
    return Strategy(
        Plan(Scheduled(tuple(num_steps))),
        Drawn(),
        TopK(),
        warp=Chain(TopTokens(share=share), Temperature(temperature)),
        guide=guide or Plain(),
        name="momask",
    )


def halton_in_time(
    num_steps: Steps = 10, num_streams: int = 1, schedule: Schedule = arccos, guide: Guide | None = None
) -> Strategy:
    """Halton-MaskGIT (arXiv:2503.17076) along one axis: the base-3 sequence, streams of a frame side by side.

    The order of a row depends on its own length only: it is that of the next power of two, at least 64 frames.
    """
    return Strategy(
        Plan(Scheduled(num_steps, schedule)), HaltonInTime(num_streams), guide=guide or Plain(), name="halton_in_time"
    )
