"""``codec/s2lic``: S2LIC, pictures by Swin transforms and contexts of slices and halves (arXiv:2403.14471).

Training::

    loss = bits a pixel + distortion_weight · 255² · MSE (of pictures from 0 to 1)

The rate is of latents with uniform noise, the picture of rounded ones, straight through (Minnen & Singh,
arXiv:2007.08739). Decoding takes 1 + 2 · slices steps, one after the other, whatever the picture's size.

Shapes: b batch, *s the shape of a latent.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.errors import RecipeError

from unisono_codec.pictures.gaussian import log_mass
from unisono_codec.pictures.picture_codec import PictureCodec
from unisono_codec.pictures.s2lic_network import S2LICNet, S2LICSizes


class S2LIC(PictureCodec):
    """Slices on a checkerboard.

    Args:
        network: sizes of transforms and contexts.
        distortion_weight: λ, what 255² times the squared error counts beside bits a pixel (published: 0.0018 to 0.18,
        one
            model each); larger is better and longer.
    """

    salt: ClassVar[str] = "s2lic"
    kept_whole: ClassVar[tuple[str, ...]] = ("net.hyper_mean", "net.hyper_log_scale")

    def __init__(self, *, network: S2LICSizes = S2LICSizes(), distortion_weight: float = 0.0067):  # noqa: B008
        super().__init__(distortion_weight=distortion_weight)
        for name in ("depths", "num_heads"):
            if len(getattr(network, name)) != 5 or min(getattr(network, name)) < 1:
                raise RecipeError(
                    f"model.network.{name}={list(getattr(network, name))} must be five numbers of at least 1",
                    code="shape",
                    path=f"model.network.{name}",
                    value=getattr(network, name),
                )
        widths = (*[network.channels] * 3, network.latent_channels, network.channels)
        for heads, width in zip(network.num_heads, widths, strict=True):
            if width % heads:
                raise RecipeError(
                    f"model.network.num_heads={list(network.num_heads)}: {heads} heads do not divide {width} channels",
                    code="shape",
                    path="model.network.num_heads",
                    value=heads,
                )
        if network.num_slices < 1 or network.latent_channels % network.num_slices:
            raise RecipeError(
                f"model.network.num_slices={network.num_slices} must divide latent_channels={network.latent_channels}",
                code="shape",
                path="model.network.num_slices",
                value=network.num_slices,
            )
        self.network = network

    def build(self, facts: Mapping[str, Any]) -> None:
        super().build(facts)
        self.net = S2LICNet(self.network)

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        pictures = self.checked_batch(batch)
        generators = [torch.Generator().manual_seed(seed) for seed in self.row_seeds(batch)]
        nats: list[Float[Tensor, " b"]] = []

        def reader(
            number: int, mean: Tensor, log_scale: Tensor, posterior: Callable[[], Tensor]
        ) -> Float[Tensor, "*s"]:
            mean, scale, wanted = mean.float(), log_scale.float().exp(), posterior().float()
            apart = wanted - mean
            rounded = wanted + (apart.round() - apart).detach()
            counted = rounded
            if self.training:
                noise = torch.stack([torch.rand(mean.shape[1:], generator=g) for g in generators]).to(mean)
                counted = wanted + noise - 0.5
            nats.append(-log_mass(counted, mean, scale).flatten(1).sum(1))
            return rounded

        made = self.net.descend(self.coarsest(pictures), reader, self.net.analyse(pictures))
        rate = torch.stack(nats).sum(0) / pictures[0].numel()
        bits_of_nats = 3 / math.log(2)  # a value in nats is so many bits a pixel
        weight = self.distortion_weight * 255**2 / 4 / bits_of_nats  # the error is of pictures from −1 to 1
        parts = self.rate_and_distortion(rate, made, pictures, weight)
        return {**parts, "loss": parts["loss"] * bits_of_nats}
