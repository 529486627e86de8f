"""Request: what can be asked, as typed fields; each is also a flag, a control of the page and a key of JSON."""

from typing import Literal

from pydantic import Field, model_validator
from unisono import Request
from unisono.errors import RequestError

from unisono_sketch.data import MAX_LENGTH


class SketchRequest(Request):
    """Which pattern to follow, how long the row is, and how it is filled."""

    pattern: str = Field(min_length=1, max_length=100, description="the name of the pattern to follow")
    length: int = Field(default=16, ge=1, le=MAX_LENGTH, description="tokens of the row")
    given: list[int] = Field(default=[], max_length=MAX_LENGTH, description="the first tokens, which stay as they are")
    sampler: Literal["maskgit", "mdlm", "left_to_right"] = Field(
        default="maskgit", description="which tokens are filled first: the surest, any, or from left to right"
    )
    num_steps: int = Field(default=8, ge=1, le=MAX_LENGTH, description="passes of the network; fewer are faster")
    temperature: float = Field(default=1.0, ge=0.0, le=4.0, description="0 takes the likeliest token, 1 draws")

    @model_validator(mode="after")
    def _given_fits(self) -> "SketchRequest":
        if len(self.given) > self.length:
            message = f"{len(self.given)} tokens are given for length={self.length}: give fewer, or more length"
            raise RequestError(message, code="conflict", path="given", value=self.given)
        return self
