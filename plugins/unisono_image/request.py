"""Request: what can be asked of a picture generator, and what the sampler needs of it.

Shapes: c channels, h w height and width.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import UInt8
from numpy import ndarray
from pydantic import Field, InstanceOf
from pydantic.json_schema import SkipJsonSchema
from unisono import Image, Request
from unisono.data import Drop, words_of
from unisono.diffusion.named import SolverName
from unisono.errors import RequestError, did_you_mean
from unisono.nn.captions import MAX_LETTERS, MAX_WORDS
from unisono.nn.condition import NO_LABEL
from unisono.request import FILE

from unisono_image.corpus.files import MIN_SIDE, code_of, covered, read_image

STRENGTH = 0.6
LARGEST = 4
"""How many times as high or wide as the training pictures a picture may be."""


class ImageRequest(Request):
    """What can be asked of a picture generator."""

    prompt: str | None = Field(
        default=None, description="what the picture shows; the name of a class where the model knows classes alone"
    )
    label: str | int | None = Field(default=None, description="a class, by name or number")
    negative_prompt: str | None = Field(default=None, description="what guidance leads away from; default: no caption")
    height: int | None = Field(default=None, ge=1, le=65536, description="pixels; default: as the training pictures")
    width: int | None = Field(default=None, ge=1, le=65536, description="pixels; default: as the training pictures")
    num_steps: int = Field(default=25, ge=1, le=1000, description="steps of the scheduler")
    guidance_scale: float | None = Field(
        default=None,
        ge=0,
        le=50,
        description="how much more prompt or label count; 1 is half the work; default: the model's",
    )
    scheduler: str | None = Field(
        default=None, description="how a step is taken, such as dpm++2m; default: the model's first"
    )
    solver: SolverName = Field(
        default="serial", description="serial takes one step after the other, the others several at once"
    )
    window: int | None = Field(
        default=None, description="steps that are open at once with a parallel solver; default 8"
    )
    tolerance: float = Field(default=0.01, description="relative movement at which a parallel solver accepts a step")
    image: str | SkipJsonSchema[InstanceOf[Image]] | None = Field(
        default=None,
        description="a picture to start from: a path; scaled and cropped to the size that is made",
        json_schema_extra=FILE,
    )
    strength: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="how much of that picture is made anew: the share of the model's noise schedule at which it is "
        "begun, the same noise with every scheduler up to its steps; default 0.6",
    )


@dataclass(frozen=True)
class Task:
    """A request that was read: everything is known, and allowed by the model."""

    request: ImageRequest
    label: int
    caption: str
    height: int
    width: int
    guidance_scale: float
    start: UInt8[ndarray, "3 h w"] | None
    strength: float

    @property
    def group(self) -> tuple[Any, ...]:
        """What requests must share to be sampled together."""
        asked = self.request
        strength = self.strength if self.start is not None else None
        guided = self.guidance_scale != 1
        solver = (asked.solver, asked.window, asked.tolerance)
        return self.height, self.width, asked.num_steps, asked.scheduler, *solver, strength, guided


def read_request(model: Any, request: ImageRequest) -> Task:
    """Return the task of a request; raises ``RequestError`` that names what the model cannot do."""
    label, caption = subject_of(model, request)
    if request.negative_prompt is not None:
        if not model.facts.words:
            raise RequestError(
                "negative_prompt is for models that read captions; this one knows classes alone",
                code="unsupported",
                path="negative_prompt",
                value=request.negative_prompt,
            )
        read_caption(request.negative_prompt, "negative_prompt")
    told = label != NO_LABEL or bool(caption) or request.negative_prompt is not None
    scale = request.guidance_scale
    if scale is None:
        scale = model.guidance_scale if told else 1.0
    elif scale != 1 and not told:
        raise RequestError(
            f"guidance_scale={scale:g} has nothing to guide by: give {ways_of(model)}, or leave it out",
            code="conflict",
            path="guidance_scale",
            value=scale,
        )
    if request.negative_prompt is not None and scale == 1:
        raise RequestError(
            "negative_prompt needs a guidance_scale other than 1",
            code="conflict",
            path="negative_prompt",
            value=request.negative_prompt,
        )
    height, width = (_side(model, name, getattr(request, name)) for name in ("height", "width"))
    if request.num_steps < 2 and request.solver != "serial":
        raise RequestError(
            f"num_steps={request.num_steps} has nothing to run in parallel: give 2 or more, or solver=serial",
            code="conflict",
            path="num_steps",
            value=request.num_steps,
        )
    start = None
    if request.image is not None:
        start = start_pixels(request.image, model.facts.background, height, width)
    elif request.strength is not None:
        raise RequestError(
            f"strength={request.strength:g} says how far from a picture to go: give its path as image",
            code="missing",
            path="image",
            value=request.strength,
        )
    strength = STRENGTH if request.strength is None else request.strength
    return Task(request, label, caption, height, width, float(scale), start, strength)


def read_caption(caption: str, name: str = "prompt") -> str:
    """Return a caption, or raise ``RequestError`` where it has no word, too many, or one that is too long."""
    words = words_of(caption)
    if not words:
        raise RequestError(
            f"the {name} {caption.strip()[:40]!r} has no word: say what the picture shows",
            code="empty",
            path=name,
            value=caption,
        )
    if len(words) > MAX_WORDS:
        raise RequestError(
            f"the {name} has {len(words)} words, a caption at most {MAX_WORDS}: shorten it",
            code="limit",
            path=name,
            value=len(words),
        )
    longest = max(words, key=len)
    if len(longest) > MAX_LETTERS:
        raise RequestError(
            f"the {name} has the word {longest[:20] + '…'!r} of {len(longest)} letters, at most {MAX_LETTERS}: "
            "write words",
            code="limit",
            path=name,
            value=longest,
        )
    return caption


def subject_of(model: Any, request: Any) -> tuple[int, str]:
    """Return the number of the class that a request names and its caption, by ``label`` and ``prompt``.

    ``NO_LABEL`` and an empty caption where there is none. Raises ``RequestError`` for what the model does not know.
    """
    classes, words = list(model.facts.classes), model.facts.words
    named, caption = request.label, request.prompt
    if caption is not None and not words:
        if not classes:
            raise RequestError(
                "this model knows neither captions nor classes: leave the prompt out",
                code="unsupported",
                path="prompt",
                value=caption,
            )
        if named is not None:
            raise RequestError(
                "this model knows classes alone: give the prompt or the label, not both",
                code="conflict",
                path="label",
                value=named,
            )
        named, caption = caption, None
    if caption is not None:
        read_caption(caption)
    if named is None:
        return NO_LABEL, caption or ""
    if not classes:
        raise RequestError(
            f"label={named!r}: this model knows no classes: give {ways_of(model)}",
            code="unsupported",
            path="label",
            value=named,
        )
    return class_number(named, classes), caption or ""


def class_number(named: str | int, classes: Sequence[str]) -> int:
    """Return the number of a class that is asked for by its name, or by number.

    Where classes are named by numbers (folders 0 to 11), number 2 is the class "2" (or "02") whatever its place; a
    number that is no name is refused then. Else a number is a place in the list. Raises ``RequestError``.
    """
    text = str(named).strip()
    if text in classes:
        return list(classes).index(text)
    shown = text if len(text) <= 40 else f"{text[:40]}…"
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise RequestError(
            f"unknown class {shown!r}{did_you_mean(shown, classes)}", code="unknown", path="label", value=text
        )
    number = int(text)
    numbered = {int(name): place for place, name in enumerate(classes) if re.fullmatch(r"[0-9]{1,18}", name)}
    if numbered:
        if number in numbered:
            return numbered[number]
        raise RequestError(
            f"unknown class {shown!r}: classes are named by numbers here{did_you_mean(shown, classes)}",
            code="unknown",
            path="label",
            value=text,
        )
    if not 0 <= number < len(classes):
        raise RequestError(
            f"label={number} must be from 0 to {len(classes) - 1}, or one of {', '.join(classes[:12])}",
            code="range",
            path="label",
            value=number,
        )
    return number


def start_pixels(picture: str | Image, background: Any, height: int, width: int) -> UInt8[ndarray, "3 h w"]:
    """A picture to start from, scaled so that it covers the size, the middle cut out."""
    try:
        pixels = read_image(picture, background) if isinstance(picture, str) else picture.bytes.transpose(2, 0, 1)
    except Drop as drop:
        raise RequestError(
            f"image={str(picture)!r} cannot be used, {drop.reason}: {drop}",
            code=code_of(drop),
            path="image",
            value=str(picture),
        ) from None
    if min(pixels.shape[1:]) < MIN_SIDE:
        raise RequestError(
            f"the image to start from has {pixels.shape[2]} × {pixels.shape[1]} pixels: "
            f"at least {MIN_SIDE} a side are needed",
            code="range",
            path="image",
            value=list(pixels.shape[1:]),
        )
    return pixels if pixels.shape[1:] == (height, width) else covered(pixels, height, width)


def ways_of(model: Any) -> str:
    """Return how a model can be told what to show, as words."""
    ways = [name for name, known in (("a prompt", model.facts.words), ("a label", list(model.facts.classes))) if known]
    return " or ".join(ways) or "neither prompt nor label"


def _side(model: Any, name: str, asked: int | None) -> int:
    size, multiple = model.facts.size, model.multiple
    side = size if asked is None else asked
    if side % multiple or not multiple <= side <= LARGEST * size:
        raise RequestError(
            f"{name}={side} must be a multiple of {multiple}, at most {LARGEST * size}; "
            f"the model was trained on {size} × {size}",
            code="range",
            path=name,
            value=side,
        )
    return side
