"""Request: what can be asked, as typed fields; each is also a flag, a control of the page and a key of JSON."""

from typing import Literal

from pydantic import Field, model_validator
from unisono import Request
from unisono.errors import RequestError

from unisono_sketch.data import MAX_POINTS, MIN_POINTS


class SketchRequest(Request):
    """Which shape to draw, with how many points, and how it is sampled."""

    shape: str = Field(min_length=1, max_length=100, description="the name of the shape to draw")
    points: int = Field(default=24, ge=MIN_POINTS, le=MAX_POINTS, description="points of the outline")
    num_steps: int = Field(default=20, ge=1, le=256, description="steps of the sampler; fewer are faster")
    guidance_scale: float = Field(
        default=2.0, ge=0.0, le=20.0, description="how strictly the shape is followed; 1 is no guidance"
    )
    solver: Literal["serial", "parallel"] = Field(
        default="serial", description="one step after the other, or several at once with the same result"
    )

    @model_validator(mode="after")
    def _steps_for_the_solver(self) -> "SketchRequest":
        if self.solver == "parallel" and self.num_steps < 2:
            message = "solver='parallel' needs num_steps of at least 2: give more, or take solver='serial'"
            raise RequestError(message, code="conflict", path="num_steps", value=self.num_steps)
        return self
