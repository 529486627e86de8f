"""Request: what can be asked of outline models, as typed fields; each is also a flag and a key of JSON."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from pydantic import Field, InstanceOf, model_validator
from pydantic.json_schema import SkipJsonSchema
from unisono import Image, Request
from unisono.data import Drop, words_of
from unisono.errors import RequestError
from unisono.media import code_of
from unisono.nn.captions import MAX_LETTERS, MAX_WORDS
from unisono.request import FILE

from unisono_outline.corpus.pictures import MIN_SIDE, Fitted, fitted, read_picture
from unisono_outline.corpus.scenes import SceneMaker

ASKED = "asked"
"""Purpose of scenes that requests name: none of them is trained on."""


class OutlineRequest(Request):
    """A picture, or the number of a made scene, and a phrase for what is outlined."""

    phrase: str | None = Field(
        default=None, description="what to outline, such as 'the red circle on the left'; default: the scene's own"
    )
    image: str | SkipJsonSchema[InstanceOf[Image]] | None = Field(
        default=None, description="the picture: a path", json_schema_extra=FILE
    )
    scene: int | None = Field(
        default=None, ge=0, lt=2**31, description="a made scene instead, by its number: to try a model without pictures"
    )

    @model_validator(mode="after")
    def _one_picture(self) -> "OutlineRequest":
        if (self.image is None) == (self.scene is None):
            raise RequestError(
                "give either image, a path, or scene, the number of a made one",
                code="missing" if self.image is None else "conflict",
                path="image",
            )
        if self.image is not None and self.phrase is None:
            raise RequestError("phrase is required with an image: say what to outline", code="missing", path="phrase")
        return self


class DiffusionRequest(OutlineRequest):
    """As above, and how the vertices are denoised."""

    num_steps: int = Field(default=6, ge=1, le=250, description="DDIM steps; 4 to 8 are enough")
    solver: Literal["serial", "picard"] = Field(
        default="serial", description="one step after the other, or several at once with the same result"
    )
    tolerance: float = Field(
        default=1e-3, ge=1e-6, le=0.5, description="relative movement at which solver=picard accepts a step"
    )

    @model_validator(mode="after")
    def _steps_for_the_solver(self) -> "DiffusionRequest":
        if self.solver != "serial" and self.num_steps < 2:
            message = f"num_steps={self.num_steps} has nothing to run in parallel: give 2 or more, or solver=serial"
            raise RequestError(message, code="conflict", path="num_steps", value=self.num_steps)
        return self


@dataclass(frozen=True, eq=False)
class Task:
    """A request that was read: its picture uint8 [3, h, w], the square that the model sees, and the phrase."""

    picture: UInt8[np.ndarray, "3 h w"]
    square: Fitted
    phrase: str


def read_request(request: OutlineRequest, facts: Any) -> Task:
    """Return the task of a request; raises ``RequestError`` that names what cannot be used."""
    if request.scene is not None:
        scene = SceneMaker(facts.size)(ASKED, request.scene)
        picture, phrase = scene.picture, scene.phrase if request.phrase is None else request.phrase
    else:
        picture, phrase = _pixels(request.image), str(request.phrase)
    check_phrase(phrase)
    return Task(picture, fitted(picture, facts.size), phrase)


def check_phrase(phrase: str) -> None:
    """Raise ``RequestError`` for a phrase without a word, of too many, or with one that is too long."""
    words = words_of(phrase)
    if not words:
        message = f"the phrase {phrase.strip()[:40]!r} has no word: say what to outline"
        raise RequestError(message, code="empty", path="phrase", value=phrase)
    if len(words) > MAX_WORDS:
        message = f"the phrase has {len(words)} words, at most {MAX_WORDS}: shorten it"
        raise RequestError(message, code="limit", path="phrase", value=len(words))
    longest = max(words, key=len)
    if len(longest) > MAX_LETTERS:
        message = f"the phrase has a word of {len(longest)} letters, at most {MAX_LETTERS}: {longest[:20] + '…'!r}"
        raise RequestError(message, code="limit", path="phrase", value=longest)


def _pixels(image: str | Image | None) -> UInt8[np.ndarray, "3 h w"]:
    """The pixels of a file, laid on white, or of a picture in memory."""
    if isinstance(image, Image):
        pixels = image.bytes.transpose(2, 0, 1)
        if min(pixels.shape[1:]) < MIN_SIDE:
            message = f"the image has {pixels.shape[2]} × {pixels.shape[1]} pixels: at least {MIN_SIDE} a side"
            raise RequestError(message, code="range", path="image", value=list(pixels.shape[1:]))
        return pixels
    try:
        return read_picture(str(image))
    except Drop as drop:
        message = f"image={str(image)!r} cannot be used, {drop.reason}: {drop}"
        raise RequestError(message, code=code_of(drop), path="image", value=str(image)) from None
