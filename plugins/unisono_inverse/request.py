"""Request: which picture, how it was measured, and how the chain is run."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, InstanceOf, model_validator
from pydantic.json_schema import SkipJsonSchema
from unisono import Image, Request
from unisono.diffusion import Anderson, Picard, Serial, Solver, Tolerance
from unisono.errors import RequestError
from unisono.request import FILE

__all__ = ["PictureRequest", "RestorationRequest"]

Rows = Annotated[list[list[list[float]]] | None, BeforeValidator(lambda x: x.tolist() if hasattr(x, "tolist") else x)]


class PictureRequest(Request):
    """A picture by its file or its pixels."""

    picture: str | SkipJsonSchema[InstanceOf[Image]] | None = Field(
        default=None, description="path of the damaged picture", json_schema_extra=FILE
    )
    pixels: Rows = Field(
        default=None, description="instead of a path: red, green and blue rows in [0, 1], [3][height][width]"
    )

    @model_validator(mode="after")
    def _one_picture(self):
        if (self.picture is None) == (self.pixels is None):
            raise RequestError(
                "give either picture, a path, or pixels, lists of numbers",
                code="missing" if self.picture is None else "conflict",
                path="picture",
            )
        if self.pixels is not None:
            rows = [len(row) for channel in self.pixels for row in channel]
            tall = {len(channel) for channel in self.pixels}
            if len(self.pixels) != 3 or len(tall) != 1 or not rows or len(set(rows)) != 1 or not rows[0]:
                raise RequestError(
                    "pixels must be [3][height][width], rows of one length: give red, green and blue",
                    code="shape",
                    path="pixels",
                    value=len(self.pixels),
                )
        return self


class RestorationRequest(PictureRequest):
    """What can be asked of a restorer of pictures whose damage is known."""

    task: Literal["inpaint", "super", "colour", "colour-super", "deblur", "compressed"] = Field(
        default="inpaint",
        description="what happened to the picture: pixels are missing, it is small, grey, grey and small, blurred, or "
        "measured by few Walsh–Hadamard coefficients",
    )
    mask: str | SkipJsonSchema[InstanceOf[Image]] | list[list[int]] | None = Field(
        default=None,
        description="inpaint: path of a black and white picture, white where a pixel is known, or rows of 1 and 0",
        json_schema_extra=FILE,
    )
    factor: int = Field(default=2, ge=2, le=16, description="super, colour-super: how many times larger it becomes")
    blur: float = Field(default=1.0, ge=0.3, le=8, description="deblur: standard deviation of the blur, in pixels")
    ratio: float = Field(default=0.25, gt=0, le=1, description="compressed: the share of coefficients that is measured")
    grey: Literal["luma", "mean"] = Field(
        default="luma", description="colour: how grey was made, as in files (0.299, 0.587, 0.114) or as the mean"
    )
    damage: bool = Field(
        default=False, description="the picture is whole: damage it first as the task says, to see what comes back"
    )
    noise_level: float = Field(
        default=0.0, ge=0, le=1, description="standard deviation of noise in the measurement, of values in [0, 1]"
    )
    num_steps: int = Field(default=100, ge=1, le=1000, description="noise levels of the chain")
    eta: float = Field(
        default=0.85, ge=0, le=1, description="share of fresh noise in each step (published: 0.85); 0 draws none"
    )
    travel_length: int = Field(default=1, ge=1, le=1000, description="time travel: steps that are walked again")
    travel_repeat: int = Field(default=1, ge=1, le=20, description="time travel: how often each is walked; 1 is never")
    method: Literal["serial", "parallel"] = Field(
        default="serial", description="one step after the other, or several at once with the same result"
    )
    solver: Literal["picard", "anderson"] = Field(default="picard", description="how parallel steps are solved")
    window: int | None = Field(default=None, ge=2, le=1000, description="parallel: steps open at once; default 8")
    tolerance: float = Field(
        default=0.001, gt=0, le=1, description="parallel: relative movement at which a step is accepted"
    )
    start_steps: int = Field(
        default=0, ge=0, le=200, description="steps of descent on the initial noise before, by implicit gradients"
    )
    overlap: int | None = Field(
        default=None,
        ge=0,
        le=4095,
        description="pixels that windows share where the picture is larger than the prior's; default: half of a window",
    )

    @model_validator(mode="after")
    def _fields_agree(self):
        wrong: list[tuple[str, str, Any]] = []
        if self.task == "inpaint" and self.mask is None:
            wrong.append(("mask", "task=inpaint needs the mask of what is known", "missing"))
        if self.task != "inpaint" and self.mask is not None:
            wrong.append(("mask", f"task={self.task} takes no mask", "conflict"))
        if self.method == "serial" and self.window is not None:
            wrong.append(("window", "window is for method=parallel", "conflict"))
        if self.task == "compressed" and not self.damage:
            wrong.append(
                (
                    "damage",
                    "task=compressed measures coefficients, which no picture shows: set damage, or call",
                    "missing",
                )
            )
        if self.start_steps and self.eta:
            wrong.append(
                (
                    "eta",
                    f"start_steps needs eta=0: with fresh noise (eta={self.eta:g}) the start is forgotten",
                    "conflict",
                )
            )
        for field, sentence, code in wrong:
            end = " the model's restore() with the numbers" if field == "damage" else ""
            raise RequestError(f"{sentence}{end}: give {field} accordingly", code=code, path=field)
        return self


def solver_of(request: Any, num_steps: int) -> tuple[Solver, Tolerance, int | None]:
    """Return solver, rule of acceptance and window of a request for a chain of so many steps."""
    accept = Tolerance(request.tolerance)
    if request.method == "serial" or num_steps < 2:
        return Serial(), accept, None
    window = min(request.window or 8, num_steps)
    return (Anderson() if request.solver == "anderson" else Picard()), accept, window
