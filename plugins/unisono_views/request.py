"""Request: what can be asked of a model of views, and what its sampler needs to know.

Shapes: v views, s pixels a side.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from numpy import ndarray
from pydantic import Field, InstanceOf, model_validator
from pydantic.json_schema import SkipJsonSchema
from unisono import Image, Request
from unisono.data import Drop, words_of
from unisono.diffusion.named import SolverName
from unisono.errors import RequestError, did_you_mean
from unisono.media.pictures import code_of, read_image
from unisono.nn.captions import MAX_WORDS
from unisono.request import FILE

from unisono_views.data import grey, make_pair
from unisono_views.facts import BACKGROUND, ViewFacts
from unisono_views.media import COLUMNS, cut, has_more

Picture = Annotated[str, Field(json_schema_extra=FILE)] | SkipJsonSchema[InstanceOf[Image]]


class ViewRequest(Request):
    """Views of an object, degraded, and what they show."""

    prompt: str | None = Field(default=None, description="what the views show, in words of the training captions")
    sheet: str | SkipJsonSchema[InstanceOf[Image]] | None = Field(
        default=None,
        description="the degraded views in one picture, two columns, row by row: a path",
        json_schema_extra=FILE,
    )
    views: list[Picture] | None = Field(
        default=None, description="the degraded views, one path each, in the order of the cameras"
    )
    example: int | None = Field(
        default=None,
        ge=0,
        le=2**53,
        description="the degraded views of a made object, by its number; none is trained on from 1000000 on",
    )
    colours: Literal["given", "caption"] = Field(
        default="given", description="caption takes the colours off the given views, so that the prompt says them"
    )
    strength: float = Field(
        default=0.6,
        gt=0,
        le=1,
        description="the share of the noise schedule at which the degraded views are begun; 1 begins with noise alone",
    )
    num_steps: int = Field(default=10, ge=1, le=1000, description="steps of the scheduler over its whole schedule")
    guidance_scale: float | None = Field(
        default=None,
        ge=0,
        le=50,
        description="how much more the prompt counts; 1 is half the work; default: the model's",
    )
    scheduler: str | None = Field(default=None, description="how a step is taken, such as dpm++2m; default: flow-euler")
    solver: SolverName = Field(
        default="serial", description="serial takes one step after the other, the others several at once"
    )
    window: int | None = Field(
        default=None, description="steps that are open at once with a parallel solver; default 8"
    )
    tolerance: float = Field(default=0.01, description="relative movement at which a parallel solver accepts a step")

    @model_validator(mode="after")
    def _one_set(self) -> "ViewRequest":
        given = [name for name in ("sheet", "views", "example") if getattr(self, name) is not None]
        if not given:
            raise RequestError("no views are given: give sheet, views or example", code="missing", path="sheet")
        if len(given) > 1:
            raise RequestError(
                f"{' and '.join(given)} are given: give one of them", code="conflict", path=given[1], value=given
            )
        if self.colours == "caption" and self.prompt is None:
            raise RequestError("colours='caption' needs a prompt that says them", code="missing", path="prompt")
        return self


@dataclass(frozen=True)
class Task:
    """A request that was read: everything is known, and allowed by the model."""

    request: ViewRequest
    caption: str
    coarse: UInt8[ndarray, "v 3 s s"]
    guidance_scale: float

    @property
    def group(self) -> tuple[Any, ...]:
        """What requests must share to be sampled together."""
        asked = self.request
        solver = (asked.solver, asked.window, asked.tolerance)
        return asked.num_steps, asked.scheduler, *solver, asked.strength, self.guidance_scale != 1


def read_request(request: ViewRequest, facts: ViewFacts, guidance_scale: float, any_word: bool = False) -> Task:
    """Return the task of a request, the model's own ``guidance_scale`` where none is asked for.

    ``any_word`` says that the captions' encoder reads words that no training caption had.

    Raises ``RequestError`` that names what the model cannot do.
    """
    caption = "" if request.prompt is None else read_caption(request.prompt, facts, any_word)
    scale = request.guidance_scale
    if scale is None:
        scale = guidance_scale if caption else 1.0
    elif scale != 1 and not caption:
        raise RequestError(
            f"guidance_scale={scale:g} has nothing to guide by: give a prompt, or leave it out",
            code="conflict",
            path="guidance_scale",
            value=scale,
        )
    if request.num_steps < 2 and request.solver != "serial":
        raise RequestError(
            f"num_steps={request.num_steps} has nothing to run in parallel: give 2 or more, or solver=serial",
            code="conflict",
            path="num_steps",
            value=request.num_steps,
        )
    if request.example is not None:
        coarse = make_pair(request.example, size=facts.size, cameras=facts.cameras)[1].numpy()
    elif request.sheet is not None:
        coarse = _of_sheet(request.sheet, facts)
    else:
        coarse = _of_views(request.views or [], facts)
    if request.colours == "caption":
        coarse = grey(torch.from_numpy(coarse)).numpy()
    return Task(request, caption, coarse, float(scale))


def read_caption(caption: str, facts: ViewFacts, any_word: bool = False) -> str:
    """Return a caption, or raise ``RequestError`` where the model has not learnt all of its words."""
    words = words_of(caption)
    if not facts.words:
        raise RequestError(
            "this model knows no captions: leave the prompt out", code="unsupported", path="prompt", value=caption
        )
    if not words:
        raise RequestError(
            f"the prompt {caption.strip()[:40]!r} has no word: say what the views show, or leave it out",
            code="empty",
            path="prompt",
            value=caption,
        )
    if len(words) > MAX_WORDS:
        raise RequestError(
            f"the prompt has {len(words)} words, a caption at most {MAX_WORDS}: shorten it",
            code="limit",
            path="prompt",
            value=len(words),
        )
    for word in words:
        if word not in facts.words and not any_word:
            shown = word if len(word) <= 40 else f"{word[:40]}…"
            raise RequestError(
                f"the prompt has the word {shown!r}, which no training caption has{did_you_mean(shown, facts.words)}",
                code="unknown",
                path="prompt",
                value=word,
            )
    return caption


def pixels_of(picture: str | Image, path: str) -> UInt8[ndarray, "3 h w"]:
    """Return a given picture in 8 bits, transparent ones laid on white.

    Raises ``RequestError`` where a file cannot be read, or a picture in memory has numbers that are not in [0, 1].
    """
    if isinstance(picture, str):
        try:
            return read_image(picture, BACKGROUND)
        except Drop as drop:
            raise RequestError(
                f"{path}={picture!r} cannot be used, {drop.reason}: {drop}",
                code=code_of(drop),
                path=path,
                value=picture,
            ) from None
    if picture.pixels.dtype != np.uint8 and not ((picture.pixels >= 0) & (picture.pixels <= 1)).all():
        wrong = picture.pixels[~((picture.pixels >= 0) & (picture.pixels <= 1))].flat[0]
        raise RequestError(
            f"{path} has a pixel of {wrong}: floats must be in [0, 1]", code="range", path=path, value=float(wrong)
        )
    return picture.bytes.transpose(2, 0, 1)


def _of_sheet(picture: str | Image, facts: ViewFacts) -> UInt8[ndarray, "v 3 s s"]:
    count, size = len(facts.cameras), facts.size
    pixels = pixels_of(picture, "sheet")
    wanted = (-(-count // COLUMNS) * size, COLUMNS * size)
    if pixels.shape[1:] != wanted:
        raise RequestError(
            f"the sheet has {pixels.shape[2]} × {pixels.shape[1]} pixels: {count} views of {size} × {size} in "
            f"{COLUMNS} columns make {wanted[1]} × {wanted[0]}",
            code="shape",
            path="sheet",
            value=list(pixels.shape[1:]),
        )
    if has_more(pixels, count):
        raise RequestError(
            f"the sheet shows more views than the model's {count} cameras see: leave the rest white",
            code="shape",
            path="sheet",
            value=list(pixels.shape[1:]),
        )
    return np.ascontiguousarray(cut(pixels, count))


def _of_views(pictures: list[Any], facts: ViewFacts) -> UInt8[ndarray, "v 3 s s"]:
    count, size = len(facts.cameras), facts.size
    if len(pictures) != count:
        raise RequestError(
            f"{len(pictures)} views are given, the model sees {count} cameras: give one view of each",
            code="shape",
            path="views",
            value=len(pictures),
        )
    read = [pixels_of(picture, f"views.{number}") for number, picture in enumerate(pictures)]
    for number, pixels in enumerate(read):
        if pixels.shape[1:] != (size, size):
            raise RequestError(
                f"view {number} has {pixels.shape[2]} × {pixels.shape[1]} pixels, the model's have {size} × {size}: "
                "render or scale it so",
                code="shape",
                path=f"views.{number}",
                value=list(pixels.shape[1:]),
            )
    return np.stack(read)
