"""PictureCodec: what the codecs of pictures share: sizes, losses, and a request that codes and decodes.

::

    picture ─ padded to whole strides ─ encoder, float64 ─ bytes ─ decoder, float64 ─ picture

A picture is coded by itself, whatever it shares a batch with; ``coder`` says how, and what another machine can rely on.

Shapes: b batch, y x height and width in pixels.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from pydantic import Field, InstanceOf
from pydantic.json_schema import SkipJsonSchema
from torch import Tensor
from unisono import Image, Model, Request
from unisono.batching import Progress
from unisono.errors import DataError, RecipeError, RequestError
from unisono.media.pictures import IMAGE_SUFFIXES
from unisono.model import OnStep
from unisono.request import file_of

from unisono_codec.pictures.data import PictureFacts, made_picture
from unisono_codec.pictures.latents import LatentNet
from unisono_codec.pictures.reading import read_picture_file


class PictureRequest(Request):
    """A picture to code and decode."""

    image: str | SkipJsonSchema[InstanceOf[Image]] | None = Field(
        default=None,
        description="path of a picture; default: a made one of two gradients",
        json_schema_extra=file_of(*IMAGE_SUFFIXES),
    )
    latents: int | None = Field(
        default=None, ge=1, le=1024, description="decode with the first so many latents; all, unless given"
    )


class PictureCodec(Model):
    """The base of picture codecs: a subclass builds ``net``, and says what its latents are."""

    Request: ClassVar[type[PictureRequest]] = PictureRequest
    Media: ClassVar[type[Image]] = Image
    Facts: ClassVar[type[PictureFacts]] = PictureFacts
    facts: PictureFacts
    text_field: ClassVar[str] = "image"
    pipeline_tag: ClassVar[str] = "image-to-image"
    deterministic: ClassVar[bool] = True
    net: LatentNet

    def __init__(self, *, distortion_weight: float):
        super().__init__()
        if not distortion_weight > 0:
            raise RecipeError(
                f"model.distortion_weight={distortion_weight} must be above 0",
                code="range",
                path="model.distortion_weight",
                value=distortion_weight,
            )
        self.distortion_weight = distortion_weight

    @property
    def stride(self) -> int:
        """Pictures are padded to multiples of so many pixels."""
        return self.net.stride

    @property
    def num_latents(self) -> int:
        """Latents in the order of decoding."""
        return self.net.num_latents

    # ---- training ------------------------------------------------------------------------------

    def checked_batch(self, batch: dict[str, Any]) -> Float[Tensor, "b 3 y x"]:
        """Return the pictures of a batch; raises ``DataError`` unless they are whole strides."""
        pictures = batch["image"]
        height, width = pictures.shape[-2:]
        if height % self.stride or width % self.stride:
            raise DataError(
                f"pictures of {width} × {height} pixels: this codec is trained on multiples of {self.stride}; "
                "set data.crop so",
                code="shape",
                path="data.crop",
                value=(width, height),
            )
        return pictures

    def coarsest(self, pictures: Float[Tensor, "b 3 y x"]) -> tuple[int, int, int]:
        """Return batch, and height and width in strides."""
        batch, _, height, width = pictures.shape
        return batch, height // self.stride, width // self.stride

    def rate_and_distortion(
        self, rate: Float[Tensor, "b"], made: Tensor, pictures: Tensor, weight: float
    ) -> dict[str, Tensor]:
        """Return the losses of pictures that take ``rate`` nats a value; ``bpp`` is bits a pixel, ``psnr`` in dB."""
        error = (made.float() - pictures).square().flatten(1).mean(1)
        everyone = torch.ones(len(rate), dtype=torch.bool, device=rate.device)
        mean = self.global_mean
        rate_mean, error_mean = mean(rate, everyone), mean(error, everyone)
        shown = made.detach().float().clamp(-1, 1)
        squared = ((shown - pictures) / 2).square().flatten(1).mean(1).clamp(min=1e-10)
        return {
            "loss": rate_mean + weight * error_mean,
            "bpp": mean(rate.detach(), everyone) * 3 / math.log(2),
            "mse": error_mean.detach(),
            "psnr": mean(-10 * squared.log10(), everyone),
        }

    # ---- use -----------------------------------------------------------------------------------

    def check_latents(self, latents: int | None) -> int:
        """Return the number of latents meant, all for None; raises ``RequestError`` where there are not so many."""
        if latents is None:
            return self.num_latents
        if not 1 <= latents <= self.num_latents:
            raise RequestError(
                f"latents={latents} must be from 1 to {self.num_latents}, the latents that this codec has",
                code="range",
                path="latents",
                value=latents,
            )
        return latents

    def synthesize(
        self,
        requests: Sequence[PictureRequest],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Image]:
        """Return what is decoded of each picture's own bytes. Deterministic."""
        from unisono_codec.pictures.coder import PictureCoder

        kept = [self.check_latents(request.latents) for request in requests]
        pixels = [self.pixels_of(request) for request in requests]
        coder, made, progress = PictureCoder(self), [], Progress(on_step, len(requests))
        for latents, picture in zip(kept, pixels, strict=True):
            made.append(Image(coder.encode(picture, latents, verify=False).pixels))
            progress.advance()
        return made

    def pixels_of(self, request: PictureRequest) -> UInt8[np.ndarray, "3 y x"]:
        """Return the picture that a request gives; raises ``RequestError`` where it cannot be read."""
        if request.image is None:
            return made_picture(3, 2 * self.stride - 3, self.stride + 5)
        if isinstance(request.image, Image):
            if not np.isfinite(request.image.pixels).all():
                raise RequestError(
                    "the picture holds NaN or infinite values: repair it first", code="value", path="image"
                )
            return np.ascontiguousarray(request.image.bytes.transpose(2, 0, 1))
        return read_picture_file(request.image).pixels

    def preview_requests(self) -> list[PictureRequest]:
        """A made picture by all latents, and by the first one."""
        return [self.Request(), self.Request(latents=1)]

    def check_requests(self) -> list[PictureRequest]:
        """The previews, and every number of latents up to one too many."""
        return [*self.preview_requests(), *(self.Request(latents=k) for k in (self.num_latents, self.num_latents + 1))]
