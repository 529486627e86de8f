"""PictureCodec: what the codecs of pictures share: sizes, padding, losses, and a request that codes and decodes.

::

    picture ─ padded to whole strides ─ analyse ─ seen
                                                   │
    file ─ reader: one latent after the other ─ descend ─ picture

``descend`` is the decoder, and the encoder's way too: what a latent is, a *reader* says. The one that writes takes it from
what ``analyse`` saw, the one that decodes from the file; both are asked in the same order with the same numbers.

Shapes: b batch, y x height and width in pixels.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, InstanceOf
from pydantic.json_schema import SkipJsonSchema
from torch import Tensor
from torch.nn import functional as F
from unisono import Image, Model, Request
from unisono.batching import Progress
from unisono.errors import DataError, RequestError
from unisono.media.pictures import IMAGE_SUFFIXES
from unisono.model import OnStep
from unisono.request import file_of


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
    text_field: ClassVar[str] = "image"
    pipeline_tag: ClassVar[str] = "image-to-image"
    deterministic: ClassVar[bool] = True
    net: Any

    # ---- what a codec defines ------------------------------------------------------------------

    @property
    def stride(self) -> int:
        """Pictures are padded to multiples of so many pixels."""
        raise TypeError(f"{type(self).__name__} defines no stride")

    @property
    def num_latents(self) -> int:
        """Latents in the order of decoding, as a reader is asked for them."""
        raise TypeError(f"{type(self).__name__} defines no num_latents")

    def analyse(self, pictures: Float[Tensor, "b 3 y x"]) -> Any:
        """Return what the encoder sees of pictures from −1 to 1 whose sides are multiples of ``stride``."""
        raise TypeError(f"{type(self).__name__} defines no analyse()")

    def descend(
        self, shape: tuple[int, int, int], reader: Callable[..., Tensor], seen: Any = None
    ) -> Float[Tensor, "b 3 y x"]:
        """Return pictures from latents; ``shape`` is batch and how many strides they have each way.

        ``reader(number, mean, log_scale, posterior)`` returns each latent; ``posterior()``, for which ``seen`` is
        needed, what the encoder would have it be.
        """
        raise TypeError(f"{type(self).__name__} defines no descend()")

    # ---- training ------------------------------------------------------------------------------

    def checked_batch(self, batch: dict[str, Any]) -> Float[Tensor, "b 3 y x"]:
        """Return the pictures of a batch; raises ``DataError`` unless they are whole strides."""
        pictures = batch["image"]
        height, width = pictures.shape[-2:]
        if height % self.stride or width % self.stride:
            raise DataError(
                f"pictures of {width} × {height} pixels: this codec is trained on multiples of {self.stride}; "
                "set data.crop (data.size) so",
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

    def padded(self, pictures: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b 3 _y _x"]:
        """Repeat the last row and column until both sides are whole strides."""
        height, width = pictures.shape[-2:]
        return F.pad(pictures, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")

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

    @torch.no_grad()
    def synthesize(
        self,
        requests: Sequence[PictureRequest],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Image]:
        raise NotImplementedError

    def preview_requests(self) -> list[PictureRequest]:
        return []
