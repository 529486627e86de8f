"""Token sampling: the presets of ``unisono.masked`` for a grid of picture tokens, with a request's knobs.

Guidance is ``c + g·(c − u)`` here, g = 0 for none, in every sampler and with and without a ramp; the core's scale is 1
+ g, and so is that of papers that write ``u + s·(c − u)``.

Left out are presets that belong to other media, such as orders along time.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from unisono.errors import RequestError, did_you_mean, raised_as
from unisono.masked import (
    PRESETS,
    SCHEDULES,
    ClassifierFree,
    Layout,
    Plan,
    Scheduled,
    Strategy,
    check_sampler,
    knobs_of,
    make_strategy,
)

SAMPLERS = (
    "maskgit", "token_critic", "halton", "locality", "arpg", "random_order", "choose_then_draw", "left_to_right",
    "one_pass", "mdlm", "first_hitting", "remdm", "entropy_bounded", "frechet", "fast_dllm", "kl_stable", "credit",
)  # fmt: skip
LOCALITY_STEPS = 20
"""As published."""
DECODING_FIELDS = (
    "sampler", "num_steps", "schedule", "guidance", "guidance_ramp", "temperature", "top_k", "top_p",
    "choice_temperature",
)  # fmt: skip
"""What of a request its strategy is made of: requests that agree in it are decoded together."""
_ANYTHING: Any = object()


def check_sampling(model: Any, request: Any) -> None:
    """Raise ``RequestError`` for a sampler that the model does not have, or a setting that it does not take."""
    check_sampler(request.sampler, model.samplers)
    if "critic" in PRESETS[request.sampler].needs:
        model.component("critic")
    if request.schedule is not None and request.schedule not in SCHEDULES:
        raise RequestError(
            f"unknown schedule {request.schedule!r}{did_you_mean(request.schedule, SCHEDULES)}",
            code="unknown",
            path="schedule",
            value=request.schedule,
        )
    _check(tuple(model.grid), model.num_codes, tuple(getattr(request, field) for field in DECODING_FIELDS))


@lru_cache(maxsize=256)
def _check(grid: tuple[int, int], num_codes: int, fields: tuple[Any, ...]) -> None:
    """Make the strategy of some settings once: the orders of large grids take a while."""
    request = SimpleNamespace(**dict(zip(DECODING_FIELDS, fields, strict=True)))
    strategy_of(SimpleNamespace(grid=grid), request, Layout.grid(*grid, num_codes), _ANYTHING, _ANYTHING)


def strategy_of(model: Any, request: Any, layout: Layout, unconditional: Any = None, critic: Any = None) -> Strategy:
    """Return how a request's tokens are decoded; raises ``RequestError`` for a knob that its sampler does not take.

    ``unconditional`` is what guidance leads away from, ``critic`` what ranks tokens where the sampler asks one.
    """
    name = request.sampler
    preset = PRESETS[name]
    sized = "sizes" in preset.needs  # its steps are the core's sizes, made of a number
    given = knobs_of(request, name, but=("num_steps",) if sized else ())
    if sized:
        given["sizes"] = step_sizes(layout.length, request.num_steps or LOCALITY_STEPS)
    rows, columns = model.grid
    own = {"height": rows, "width": columns, "critic": critic}
    with raised_as(RequestError):
        strategy = make_strategy(
            name,
            layout,
            temperature=request.temperature,
            top_k=request.top_k,
            top_p=request.top_p,
            guidance_scale=1 + request.guidance,
            unconditional=unconditional,
            **given,
            **{key: value for key, value in own.items() if key in preset.needs},
        )
    if request.guidance_ramp is not None and isinstance(strategy.guide, ClassifierFree):
        strategy = replace(strategy, guide=replace(strategy.guide, ramp=request.guidance_ramp))
    if request.schedule is not None:
        count = strategy.plan.count
        if not isinstance(count, Scheduled):
            raise RequestError(
                f"sampler {name} cannot take schedule: leave it out, or take another sampler",
                code="conflict",
                path="schedule",
                value=request.schedule,
            )
        strategy = replace(strategy, plan=Plan(Scheduled(count.num_steps, SCHEDULES[request.schedule])))
    return strategy


def step_sizes(num_tokens: int, num_steps: int) -> Sequence[int]:
    """Return how many tokens each of ``num_steps`` steps takes, few at first, by the schedule of arccos; none is 0."""
    num_steps = min(num_steps, num_tokens)
    left = [math.floor(num_tokens * 2 / math.pi * math.acos(i / num_steps) + 1e-9) for i in range(num_steps + 1)]
    for i in range(1, num_steps + 1):  # at least one in each step, and enough for those that follow
        left[i] = max(num_steps - i, min(left[i], left[i - 1] - 1))
    return [before - after for before, after in itertools.pairwise(left)]
