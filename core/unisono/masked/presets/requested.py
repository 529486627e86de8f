"""Requested: the sampler that a request names, with the knobs that it gives, as a strategy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unisono.errors import RequestError, UnisonoError, did_you_mean
from unisono.masked.canvas import Layout
from unisono.masked.presets.registry import PRESETS, make_strategy
from unisono.masked.strategy import Strategy

KNOBS = ("num_steps", "choice_temperature")
"""Fields that not every preset takes; None where they are left out."""


@dataclass(frozen=True)
class Samplers:
    """What the field ``sampler`` of a model's requests may be.

    Attributes:
        presets: the preset that stands behind each name.
        num_steps: where the request gives none; a number of steps is that of the first group, and each later one takes
            one step. Presets that decide by themselves how much to fill take none.
    """

    presets: Mapping[str, str]
    num_steps: int

    def check(self, request: Any) -> None:
        """Raise ``RequestError`` for an unknown sampler, or a setting that it does not take."""
        if request.sampler not in self.presets:
            raise RequestError(
                f"unknown sampler {request.sampler!r}{did_you_mean(request.sampler, self.presets)}",
                code="unknown",
                path="sampler",
                value=request.sampler,
            )
        for knob in KNOBS:
            if getattr(request, knob) is not None and knob not in PRESETS[self.presets[request.sampler]].takes:
                raise RequestError(
                    f"sampler {request.sampler} cannot take {knob}: leave it out, or take another sampler",
                    code="conflict",
                    path=knob,
                    value=getattr(request, knob),
                )
        try:
            self.strategy(request, Layout.sequence(1, 2))
        except UnisonoError as error:
            raise RequestError(str(error), code=error.code, path=error.path, value=error.value) from None

    def strategy(self, request: Any, layout: Layout, unconditional: Any = None) -> Strategy:
        """Return the strategy of a request, guided away from the ``unconditional`` model where the scale is above 1."""
        name = self.presets[request.sampler]
        given = {knob: getattr(request, knob) for knob in KNOBS if getattr(request, knob) is not None}
        if "num_steps" in PRESETS[name].takes:
            steps = given.get("num_steps", self.num_steps)
            later = max(len(layout.group_sizes), 1) - 1
            given["num_steps"] = (steps, *[1] * later) if later else steps
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
