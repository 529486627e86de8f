"""``codec/qres``: QRes-VAE, pictures in a ladder of quantised latents (Duan et al., arXiv:2208.13056).

Training::

    loss = Σ −ln p(z | z above) / (3 · pixels) + distortion_weight · MSE,     z = posterior mean + U(−½, ½)

with pictures from −1 to 1, one model for each ``distortion_weight``. Coding: z is the prior's mean plus a whole number
of steps, which the ladder predicts by a Gaussian (see ``coding``). The first k latents alone make a coarse picture;
those that are left out count as what they were expected to be.

Differences from the published training: the mass is exact in the tails (see ``gaussian``), and means are rounded to
1/64 in coding.

Shapes: b batch, z channels of a latent, y x height and width.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.errors import RecipeError

from unisono_codec.pictures.gaussian import log_mass
from unisono_codec.pictures.picture_codec import PictureCodec
from unisono_codec.pictures.qres_network import QResNet, QResSizes


class QRes(PictureCodec):
    """A ladder of latents.

    Args:
        network: sizes of encoder and decoder.
        distortion_weight: λ, what the squared error (−1 to 1) counts beside the rate in nats per value (published: 16
            to 2048, one model each); larger is better and longer.
    """

    salt: ClassVar[str] = "qres"
    kept_whole: ClassVar[tuple[str, ...]] = ("net.top",)

    def __init__(self, *, network: QResSizes = QResSizes(), distortion_weight: float = 64.0):  # noqa: B008
        super().__init__(distortion_weight=distortion_weight)
        lengths = {
            name: len(getattr(network, name))
            for name in ("channels", "kernel_sizes", "encoder_blocks", "latent_blocks", "latent_channels")
        }
        if len(set(lengths.values())) > 1:
            raise RecipeError(
                f"model.network: lists of {lengths} resolutions must be equally long",
                code="shape",
                path="model.network",
                value=lengths,
            )
        for name, least in (("channels", 4), ("kernel_sizes", 1), ("latent_channels", 1), ("latent_blocks", 1)):
            if not getattr(network, name) or min(getattr(network, name)) < least:
                raise RecipeError(
                    f"model.network.{name}={list(getattr(network, name))}: each must be at least {least}",
                    code="range",
                    path=f"model.network.{name}",
                    value=getattr(network, name),
                )
        if any(size % 2 == 0 for size in network.kernel_sizes):
            raise RecipeError(
                f"model.network.kernel_sizes={list(network.kernel_sizes)} must be odd",
                code="value",
                path="model.network.kernel_sizes",
                value=network.kernel_sizes,
            )
        self.network = network

    def build(self, facts: Mapping[str, Any]) -> None:
        super().build(facts)
        self.net = QResNet(self.network)

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        pictures = self.checked_batch(batch)
        generators = [torch.Generator().manual_seed(seed) for seed in self.row_seeds(batch)]
        nats: list[Float[Tensor, " b"]] = []

        def reader(
            number: int, mean: Tensor, log_scale: Tensor, posterior: Callable[[], Tensor]
        ) -> Float[Tensor, "b z y x"]:
            mean, scale, middle = mean.float(), log_scale.float().exp(), posterior().float()
            if self.training:
                noise = torch.stack([torch.rand(mean.shape[1:], generator=g) for g in generators]).to(mean)
                latent = middle + noise - 0.5
            else:
                latent = mean + (middle - mean).round()
            nats.append(-log_mass(latent, mean, scale).flatten(1).sum(1))
            return latent

        made = self.net.descend(self.coarsest(pictures), reader, self.net.analyse(pictures))
        rate = torch.stack(nats).sum(0) / pictures[0].numel()
        return self.rate_and_distortion(rate, made, pictures, self.distortion_weight)
