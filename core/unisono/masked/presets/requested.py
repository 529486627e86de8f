"""Requested: fields in which a request says how its tokens are drawn, and the strategy that they make.

A request declares the fields that it has with their types, which hold limits and descriptions::

    class ShapeRequest(Request):
        sampler: str = Field(default="maskgit", description="...")
        temperature: TemperatureField = None
        top_k: TopKField = None

`Samplers` makes strategies of requests whose guidance is the core's scale. A model that asks otherwise stands on its
parts: `check_sampler` and `knobs_of`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from unisono.errors import RequestError, did_you_mean, raised_as
from unisono.masked.canvas import Layout
from unisono.masked.presets.registry import PRESETS, make_strategy
from unisono.masked.strategy import Strategy

TemperatureField = Annotated[
    float | None,
    Field(ge=0, le=10, description="of the tokens' draw; 0 takes the likeliest (default: the sampler's own)"),
]
"""A field ``temperature``; None is the preset's own."""
TopKField = Annotated[int | None, Field(ge=1, description="draw from so many of the likeliest tokens")]
"""A field ``top_k``; None is the preset's own."""
TopPField = Annotated[
    float | None, Field(gt=0, le=1, description="draw from the likeliest tokens with this probability")
]
"""A field ``top_p``; None is the preset's own."""
ChoiceTemperatureField = Annotated[
    float | None,
    Field(
        ge=0,
        le=1000,
        description="noise on which tokens come first, where a sampler has it (default: its own)",
    ),
]
"""A field ``choice_temperature``; None is the preset's own."""

KNOBS = ("num_steps", "choice_temperature")
"""Fields that not every preset takes; None where they are left out."""


def check_sampler(name: str, known: Collection[str]) -> None:
    """Raise ``RequestError`` for a sampler that is not known."""
    if name not in known:
        raise RequestError(
            f"unknown sampler {name!r}{did_you_mean(name, known)}", code="unknown", path="sampler", value=name
        )


def knobs_of(request: Any, preset: str, but: Collection[str] = ()) -> dict[str, Any]:
    """Return the `KNOBS` that a request gives, ``but`` some that the caller reads itself; raises ``RequestError`` for
    one that a preset does not take."""
    given = {knob: getattr(request, knob) for knob in KNOBS if knob not in but and getattr(request, knob) is not None}
    for knob, value in given.items():
        if knob not in PRESETS[preset].takes:
            raise RequestError(
                f"sampler {request.sampler} cannot take {knob}: leave it out, or take another sampler",
                code="conflict",
                path=knob,
                value=value,
            )
    return given


@dataclass(frozen=True)
class Samplers:
    """What the field ``sampler`` of a model's requests may be, and the strategy that their `fields` make.

    Attributes:
        fields: what of a request its strategy depends on, for ``MaskedModel.decoding_fields``.
        presets: the preset that stands behind each name.
        num_steps: where the request gives none; a number of steps is that of the first group, and each later one takes
            one step. Presets that decide by themselves how much to fill take none.
    """

    fields: ClassVar[tuple[str, ...]] = (
        "sampler", "num_steps", "guidance_scale", "temperature", "top_k", "top_p", "choice_temperature"
    )  # fmt: skip
    presets: Mapping[str, str]
    num_steps: int

    def check(self, request: Any) -> None:
        """Raise ``RequestError`` for an unknown sampler, or a setting that it does not take."""
        check_sampler(request.sampler, self.presets)
        with raised_as(RequestError):
            self.strategy(request, Layout.sequence(1, 2))

    def strategy(self, request: Any, layout: Layout, unconditional: Any = None) -> Strategy:
        """Return the strategy of a request, guided away from the ``unconditional`` model where the scale is above 1."""
        name = self.presets[request.sampler]
        given = knobs_of(request, name)
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
