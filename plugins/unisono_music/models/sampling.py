"""Samplers of grids: the presets of ``unisono.masked`` by the names that a request gives.

Left out are presets that need a critic, and orders that belong to one size of canvas.
"""

from typing import Any

from unisono.errors import RequestError, UnisonoError, did_you_mean
from unisono.masked import PRESETS, Layout, Strategy, make_strategy

NUM_STEPS = 32
SAMPLERS: dict[str, str] = {name: name for name, preset in PRESETS.items() if not (preset.needs or preset.whole_canvas)}
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
        if getattr(request, knob) is not None and knob not in PRESETS[request.sampler].takes:
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
    takes = PRESETS[request.sampler].takes
    settings = {"num_steps": request.num_steps, "choice_temperature": request.choice_temperature}
    given = {knob: value for knob, value in settings.items() if value is not None}
    if "num_steps" in takes:
        given.setdefault("num_steps", NUM_STEPS)
    return make_strategy(
        request.sampler,
        layout,
        temperature=request.temperature,
        top_k=request.top_k,
        top_p=request.top_p,
        guidance_scale=request.guidance_scale,
        unconditional=unconditional,
        **given,
    )
