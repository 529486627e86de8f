"""``image/vae``: pictures as latents and back, for generators that work on latents.

The KL autoencoder of latent diffusion (Rombach et al., arXiv:2112.10752, §3.1 and appendix G) on diffusers'
AutoencoderKL::

    autoencoder      |x − x̂| + perceptual_weight · LPIPS-like(x, x̂) + kl_weight · KL + adversarial terms
    discriminators   hinge on patches

Differences: those of `unisono_image.models.game`; the adversarial weight is fixed unless ``game.balanced`` says
otherwise. Latents are divided by their own spread, which training measures.

Shapes: b batch, c channels of latents, h w their height and width, y x those of pictures.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from pydantic import Field, InstanceOf
from pydantic.json_schema import SkipJsonSchema
from torch import Tensor
from unisono import Image, Model, Request
from unisono.errors import RecipeError
from unisono.model import OnStep
from unisono.nn.wide import wide
from unisono.peers import add_up
from unisono.request import FILE
from unisono.train.adversarial import Played

from unisono_image.corpus.facts import ImageFacts
from unisono_image.models.game import PictureGame
from unisono_image.models.sizes import VAE_FLAT, PatchGame, VAEObjective, VAESizes
from unisono_image.request import start_pixels


class VAERequest(Request):
    """A picture to send through the autoencoder."""

    image: str | SkipJsonSchema[InstanceOf[Image]] | None = Field(
        default=None,
        description="path of a picture; default: a made one, half dark and half light",
        json_schema_extra=FILE,
    )


class VAE(PictureGame, Model):
    """A KL autoencoder.

    ::

        picture ─ encoder, ↓ 2^(levels − 1) ─ mean, deviation ─ ·/spread ─ latents ─ · spread ─ decoder ─ picture

    Args:
        network: sizes of the autoencoder.
        objective: weights of the losses beside the game.
        game: the discriminator and when it begins.
    """

    Media: ClassVar[type[Image]] = Image
    Facts: ClassVar[type[ImageFacts]] = ImageFacts
    facts: ImageFacts
    Request: ClassVar[type[VAERequest]] = VAERequest
    kept_whole: ClassVar[tuple[str, ...]] = (
        *PictureGame.kept_whole,
        "net.decoder.conv_out.",
    )  # by which losses are balanced
    text_field: ClassVar[str] = "image"
    salt: ClassVar[str] = "vae"
    spread: Tensor
    deterministic: ClassVar[bool] = True
    flat: ClassVar[dict[str, str]] = VAE_FLAT

    def __init__(
        self,
        *,
        network: VAESizes = VAESizes(),  # noqa: B008
        objective: VAEObjective = VAEObjective(),  # noqa: B008
        game: PatchGame = PatchGame(),  # noqa: B008
    ):
        super().__init__()
        self.network, self.objective = network, objective
        self.set_game(game)
        self.latent_channels = network.latent_channels
        self.latent_downsampling = 2 ** (len(network.block_channels) - 1)

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build the network; pictures of any size that the lowest resolution divides go through it."""
        super().build(facts)
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        if self.facts.size % self.latent_downsampling:
            raise RecipeError(
                f"data.size={self.facts.size} must be a multiple of {self.latent_downsampling}",
                code="shape",
                path="data.size",
                value=self.facts.size,
            )
        levels = len(self.network.block_channels)
        make: Any = AutoencoderKL  # its types say less than it takes
        self.net: Any = make(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=tuple(self.network.block_channels),
            layers_per_block=self.network.layers_per_block,
            latent_channels=self.latent_channels,
            norm_num_groups=self.network.norm_groups,
            sample_size=self.facts.size,
        )
        self.register_buffer("spread", torch.ones(()))

    # ---- latents -------------------------------------------------------------------------------

    def posterior(self, images: Float[Tensor, "b 3 y x"]) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the latents, not yet divided by their spread."""
        mean, log_variance = self.net.quant_conv(self.net.encoder(images.to(self.spread.dtype))).chunk(2, dim=1)
        return mean, log_variance.clamp(-30, 20)

    def encode(
        self, images: Float[Tensor, "b 3 y x"], noise: Float[Tensor, "b c h w"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Return latents of pictures from −1 to 1: their mean, or, with ``noise``, a draw."""
        mean, log_variance = self.posterior(images)
        return (mean if noise is None else mean + (log_variance / 2).exp() * noise) / self.spread

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 y x"]:
        """Return pictures, about −1 to 1."""
        return self.net.decoder(self.net.post_quant_conv((latents * self.spread).to(self.spread.dtype)))

    # ---- training ------------------------------------------------------------------------------

    def last_layer(self) -> Tensor | None:
        return self.net.decoder.conv_out.weight if self.game.balanced else None

    def play(self, batch: dict[str, Any]) -> Played:
        real = batch["image"]
        mean, log_variance = self.posterior(real)
        mean, log_variance = wide(mean), wide(log_variance)
        generators = [torch.Generator().manual_seed(seed) for seed in self.row_seeds(batch)]
        noise = torch.stack([torch.randn(mean.shape[1:], generator=generator) for generator in generators]).to(mean)
        drawn = mean + (log_variance / 2).exp() * noise
        if self.training:
            self.measure(drawn.detach())
        fake = self.net.decoder(self.net.post_quant_conv(drawn))
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1) / real[0].numel()
        parts = {"distance": self.mean((wide(fake) - real).abs().flatten(1).mean(1)), "kl": self.mean(kl)}
        loss = parts["distance"] + self.objective.kl_weight * parts["kl"]
        parts |= self.perceptual(real, fake)
        if "perceptual" in parts:
            loss = loss + self.objective.perceptual_weight * parts["perceptual"]
        return Played(fake, real, {"loss": loss, **parts})

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return self.play(batch).parts

    @torch.no_grad()
    def measure(self, latents: Float[Tensor, "b c h w"]) -> None:
        """Move the spread to what the latents of all ranks have: a hundredth of the way, at first all of it."""
        square = torch.stack([latents.square().sum(), torch.tensor(float(latents.numel()), device=latents.device)])
        square = add_up(square)
        self.spread.lerp_((square[0] / square[1]).sqrt(), max(0.01, 1 / (self.global_step + 1)))

    # ---- use -----------------------------------------------------------------------------------

    def synthesize(
        self,
        requests: Sequence[VAERequest],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Image]:
        """Return what the autoencoder makes of pictures, scaled and cropped to the size that it was trained on."""
        size, background = self.facts.size, self.facts.background
        pixels = [
            half_light(size) if request.image is None else start_pixels(request.image, background, size, size)
            for request in requests
        ]
        images = torch.stack([torch.from_numpy(p) for p in pixels]).to(self.device).float() / 127.5 - 1
        made = ((self.decode(self.encode(images)).float() + 1) / 2).clamp(0, 1).cpu().numpy()
        if on_step is not None:
            on_step(len(requests), len(requests))
        return [Image(picture) for picture in made]

    def preview_requests(self) -> list[VAERequest]:
        return [self.Request()]


def half_light(size: int) -> UInt8[np.ndarray, "3 s s"]:
    """A made picture: dark above, light below."""
    picture = np.full((3, size, size), 40, np.uint8)
    picture[:, size // 2 :] = 215
    return picture
