"""Samplers of motion: the presets of ``unisono.masked`` by the names that a request gives.

``num_steps`` is for the base tokens, with one step for each residual level above. Presets that decide by themselves
how much to fill (thresholds, certificates) refuse it. Left out are Token-Critic, which needs a critic, and orders
that belong to one size of canvas.
"""

from typing import Any

from unisono.errors import RequestError, UnisonoError, did_you_mean
from unisono.masked import PRESETS, Layout, Strategy, make_strategy

NUM_STEPS = 10

SAMPLERS: dict[str, str] = {
    "halton": "halton_in_time",
    **{
        name: name
        for name, preset in PRESETS.items()
        if not (preset.needs or preset.whole_canvas or name == "halton_in_time")
    },
}
"""The preset that stands behind each sampler of a request."""


def check_sampler(request: Any) -> None:
    """Raise ``RequestError`` for an unknown sampler, or a setting that it does not take."""
    if request.sampler not in SAMPLERS:
        raise RequestError(
            f"unknown sampler {request.sampler!r}{did_you_mean(request.sampler, SAMPLERS)}",
            code="unknown",
            path="sampler",
            value=request.sampler,
        )
    for knob in ("num_steps", "choice_temperature"):
        if getattr(request, knob) is not None and knob not in PRESETS[SAMPLERS[request.sampler]].takes:
            raise RequestError(
                f"sampler {request.sampler} cannot take {knob}: leave it out, or take another sampler",
                code="conflict",
                path=knob,
                value=getattr(request, knob),
            )
    try:
        strategy_of(request, Layout.sequence(1, 2))
    except UnisonoError as error:
        raise RequestError(str(error), code=error.code, path=error.path, value=error.value) from None


def strategy_of(request: Any, layout: Layout, unconditional: Any = None) -> Strategy:
    """Return the strategy of a request, guided away from the ``unconditional`` model where the scale is above 1."""
    name = SAMPLERS[request.sampler]
    settings = {"num_steps": request.num_steps, "choice_temperature": request.choice_temperature}
    given = {knob: value for knob, value in settings.items() if value is not None}
    if "num_steps" in PRESETS[name].takes:
        steps = given.get("num_steps", NUM_STEPS)
        groups = max(len(layout.group_sizes), 1)
        given["num_steps"] = steps if groups == 1 else (steps, *[1] * (groups - 1))
    return make_strategy(
        name,
        layout,
        temperature=request.temperature,
        top_k=request.top_k,
        top_p=request.top_p,
        guidance_scale=request.guidance_scale,
        unconditional=unconditional,
        **given,
    )
