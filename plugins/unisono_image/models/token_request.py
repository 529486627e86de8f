"""Token request: what can be asked of a generator of picture tokens, and what of a given picture stays.

::

    prompt or label                    ░░░░  all tokens are made
    picture, mask                      ██░█  in-painting: tokens that the mask touches are made, █ are the picture's own
    picture, mask, another label       ██░█  the same, with another class where the mask is
    picture, mask round the border     ░██░  out-painting: the middle stays

What happens at the mask's border: a token stands for a square of pixels, ``size / grid`` a side. It is frozen where its
square lies wholly outside of the mask, and made anew where the mask touches it, so that up to a square less one pixel
on each side of the border is drawn anew, too; and the tokenizer's decoder lets tokens reach further than their own
squares. With ``keep_pixels`` all pixels outside of the mask are returned as they were given, whatever the tokens say
there; without it the picture is as the tokenizer decodes it, everywhere.

Shapes: s pixels a side of the pictures that the model makes, g tokens a side.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from pydantic import Field, InstanceOf
from pydantic.json_schema import SkipJsonSchema
from torch import Tensor
from unisono import Image, Request
from unisono.data import Drop
from unisono.errors import RequestError
from unisono.masked import ChoiceTemperatureField, TemperatureField, TopKField, TopPField
from unisono.nn.condition import NO_LABEL
from unisono.request import FILE

from unisono_image.corpus.files import MIN_SIDE, code_of, read_image
from unisono_image.request import read_caption, start_pixels, subject_of, ways_of

WHITE = 128
"""A pixel of a mask is white from this brightness on."""


class TokenRequest(Request):
    """What can be asked of a generator of picture tokens."""

    prompt: str | None = Field(
        default=None, description="what the picture shows; the name of a class where the model knows classes alone"
    )
    label: str | int | None = Field(default=None, description="a class, by name or number")
    negative_prompt: str | None = Field(default=None, description="what guidance leads away from; default: no caption")
    num_steps: int | None = Field(
        default=None, ge=1, le=4096, description="steps of the sampler, where it counts them; default: as published"
    )
    guidance: float | None = Field(
        default=None,
        ge=0,
        le=50,
        description="g of c + g·(c − u), where c are the logits under prompt or label and u those without: how much "
        "more they count; 0 is half the work; default: the model's",
    )
    guidance_ramp: bool | None = Field(
        default=None, description="whether guidance grows linearly from 0 to its value; default: as the sampler has it"
    )
    sampler: str | None = Field(
        default=None, description="how tokens are chosen: a preset of masked decoding; default: the model's"
    )
    schedule: str | None = Field(
        default=None, description="how many tokens are open after each step, such as cosine; default: the sampler's"
    )
    temperature: TemperatureField = None
    top_k: TopKField = None
    top_p: TopPField = None
    choice_temperature: ChoiceTemperatureField = None
    image: str | SkipJsonSchema[InstanceOf[Image]] | None = Field(
        default=None,
        description="a picture to change: a path; scaled and cropped to the size that is made",
        json_schema_extra=FILE,
    )
    mask: str | SkipJsonSchema[InstanceOf[Image]] | None = Field(
        default=None,
        description="what of it is made anew: the path of a picture of the same size, white there and black elsewhere",
        json_schema_extra=FILE,
    )
    keep_pixels: bool = Field(
        default=True,
        description="return the pixels outside of the mask as they were given; else all are as the tokens say",
    )


@dataclass(frozen=True, eq=False)
class TokenTask:
    """A request that was read: everything is known, and allowed by the model.

    ``request`` has the sampler and the guidance filled in. ``pixels`` is the picture to change, None where there is
    none; ``mask`` is True where it is made anew.
    """

    request: Any
    label: int
    caption: str
    pixels: UInt8[np.ndarray, "3 s s"] | None = None
    mask: Bool[np.ndarray, "s s"] | None = None


def read_token_request(model: Any, request: Any) -> TokenTask:
    """Return the task of a request; raises ``RequestError`` that names what the model cannot do."""
    label, caption = subject_of(model, request)
    told = label != NO_LABEL or bool(caption) or request.negative_prompt is not None
    if request.negative_prompt is not None:
        if not model.facts.words:
            raise RequestError(
                "negative_prompt is for models that read captions; this one knows classes alone",
                code="unsupported",
                path="negative_prompt",
                value=request.negative_prompt,
            )
        read_caption(request.negative_prompt, "negative_prompt")
    guidance = request.guidance
    if guidance is None:
        guidance = model.guidance if told else 0.0
    elif guidance and not told:
        raise RequestError(
            f"guidance={guidance:g} has nothing to guide by: give {ways_of(model)}, or leave it out",
            code="conflict",
            path="guidance",
            value=guidance,
        )
    for name in ("negative_prompt", "guidance_ramp"):
        if getattr(request, name) and not guidance:
            raise RequestError(
                f"{name} needs a guidance above 0", code="conflict", path=name, value=getattr(request, name)
            )
    sampler = request.sampler or model.default_sampler
    request = request.model_copy(update={"guidance": float(guidance), "sampler": sampler})
    model.check_sampling(request)
    pixels, mask = _given(model, request)
    return TokenTask(request, label, caption, pixels, mask)


def frozen_tokens(mask: Bool[np.ndarray, "s s"], grid: tuple[int, int]) -> Bool[Tensor, "n"]:
    """Return which tokens stay, row by row: those whose square has no pixel of the mask.

    Squares tile the picture; the number of tokens a side divides its side.
    """
    rows, columns = grid
    height, width = mask.shape
    squares = mask.reshape(rows, height // rows, columns, width // columns)
    return torch.from_numpy(~squares.any(axis=(1, 3))).flatten()


def touched(mask: Bool[np.ndarray, "h w"], size: int) -> Bool[np.ndarray, "s s"]:
    """Scale a mask so that it covers a square and cut the middle out, as pictures are: a pixel is in it where any part
    of its place was, so that a thin line is not lost."""
    height, width = mask.shape
    scale = min(height, width) / size
    edges = []
    for side in (height, width):
        first = (side - scale * size) / 2 + scale * np.arange(size)
        low = np.floor(first + 1e-6).astype(int).clip(0, side - 1)
        edges.append((low, np.ceil(first + scale - 1e-6).astype(int).clip(low + 1, side)))
    (top, bottom), (left, right) = edges
    count = np.zeros((height + 1, width + 1), np.int64)  # of white pixels above and to the left
    count[1:, 1:] = mask.cumsum(0).cumsum(1)
    inside = count[bottom][:, right] - count[top][:, right] - count[bottom][:, left] + count[top][:, left]
    return inside > 0


def _given(model: Any, request: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The picture to change, and what of it is made anew."""
    if request.image is None:
        if request.mask is not None:
            raise RequestError(
                "mask says what of a picture is made anew: give its path as image",
                code="missing",
                path="image",
                value=str(request.mask),
            )
        if not request.keep_pixels:
            raise RequestError(
                "keep_pixels is of a picture that is given: give image and mask, or leave it out",
                code="conflict",
                path="keep_pixels",
                value=False,
            )
        return None, None
    if request.mask is None:
        raise RequestError(
            "what of the image is made anew? give a mask, white there and black where it stays",
            code="missing",
            path="mask",
        )
    size = model.facts.size
    if isinstance(request.mask, str):
        _no_clear_pixels(request.mask)
    picture, painted = (_pixels(getattr(request, name), name, model.facts.background) for name in ("image", "mask"))
    if picture.shape != painted.shape:
        raise RequestError(
            f"the mask has {painted.shape[2]} × {painted.shape[1]} pixels, the image {picture.shape[2]} × "
            f"{picture.shape[1]}: give a mask of the image's size",
            code="shape",
            path="mask",
            value=list(painted.shape[1:]),
        )
    pixels = start_pixels(Image(picture), model.facts.background, size, size)
    mask = touched(painted.max(0) >= WHITE, size)
    if not mask.any():
        raise RequestError(
            "the mask has no white pixel, so that nothing would be made: paint white what is to be made anew",
            code="empty",
            path="mask",
            value=str(request.mask),
        )
    return pixels, mask


def _no_clear_pixels(mask: str) -> None:
    """Refuse a mask that is transparent in places: some programs make what is clear, others what is white."""
    on_black, on_white = (_pixels(mask, "mask", (level, level, level)) for level in (0, 255))
    if (on_black != on_white).any():
        raise RequestError(
            f"mask={mask!r} is transparent in places: paint white what is to be made anew, black what stays",
            code="value",
            path="mask",
            value=mask,
        )


def _pixels(picture: str | Image, name: str, background: Any) -> UInt8[np.ndarray, "3 h w"]:
    if isinstance(picture, Image):
        found = picture.bytes.transpose(2, 0, 1)
    else:
        try:
            found = read_image(picture, background)
        except Drop as drop:
            raise RequestError(
                f"{name}={picture!r} cannot be used, {drop.reason}: {drop}",
                code=code_of(drop),
                path=name,
                value=picture,
            ) from None
    if min(found.shape[1:]) < MIN_SIDE:
        raise RequestError(
            f"the {name} has {found.shape[2]} × {found.shape[1]} pixels: at least {MIN_SIDE} a side are needed",
            code="range",
            path=name,
            value=list(found.shape[1:]),
        )
    return found
