"""Sizes: the groups of a picture model's ``model:`` section in recipe format 2, and where format 1 had them."""

import math
from dataclasses import dataclass, fields
from typing import Literal

from unisono.errors import RecipeError

ObjectiveName = Literal["flow", "eps", "x0", "v", "edm"]


@dataclass(frozen=True, kw_only=True)
class DiTSizes:
    """Sizes of the diffusion transformer.

    patch_size: side of a patch (published: 2, 4, 8).
    dim, num_layers, num_heads: published, B: 768, 12, 12.
    smooth: whether a convolution follows, so that patches agree at their edges (U-ViT; published here: no).
    """

    patch_size: int = 2
    dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    smooth: bool = False


@dataclass(frozen=True, kw_only=True)
class UNetSizes:
    """Sizes of the U-Net.

    block_channels: of each resolution; every further one halves height and width.
    layers_per_block: residual blocks at each resolution (published: 2).
    attention_levels: which resolutions have attention, counted from 0, the highest.
    head_dim: channels of a head.
    norm_groups: of the group norms; every one of block_channels must be a multiple.
    """

    block_channels: tuple[int, ...] = (128, 256, 256, 256)
    layers_per_block: int = 2
    attention_levels: tuple[int, ...] = (1,)
    head_dim: int = 64
    norm_groups: int = 32


@dataclass(frozen=True, kw_only=True)
class ObjectiveSpec:
    """What the network is trained for.

    name: ``flow``, ``eps``, ``x0``, ``v`` or ``edm``.
    schedule: beta schedule of ``eps``, ``x0`` and ``v``: ``linear``, ``scaled_linear`` or ``squaredcos_cap_v2``.
    min_snr: γ of min-SNR weighting of ``eps``, ``x0`` and ``v``; 0 counts all errors the same.
    shift: of ``flow``'s times to more noise, for large pictures.
    sigma_data: standard deviation of the data, for ``edm``.
    """

    name: ObjectiveName = "flow"
    schedule: str = "linear"
    min_snr: float = 5.0
    shift: float = 1.0
    sigma_data: float = 0.5


@dataclass(frozen=True, kw_only=True)
class VAESizes:
    """Sizes of the autoencoder.

    latent_channels: of a latent (published: 4).
    block_channels: of each resolution; every further one halves height and width (published: 128, 256, 512, 512).
    layers_per_block: residual blocks at each resolution (published: 2).
    norm_groups: of the group norms (published: 32).
    """

    latent_channels: int = 4
    block_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_groups: int = 32

    def __post_init__(self):
        if not self.block_channels or any(width % self.norm_groups for width in self.block_channels):
            raise RecipeError(
                f"model.network.block_channels={list(self.block_channels)} must each be a multiple of "
                f"norm_groups={self.norm_groups}",
                code="shape",
                path="model.network.block_channels",
                value=list(self.block_channels),
            )


@dataclass(frozen=True, kw_only=True)
class VAEObjective:
    """Weights of the losses beside the game.

    kl_weight: of the divergence from a standard normal, per pixel's value (published: 1e-6).
    perceptual_weight: of the distance of a classifier's features (published, LPIPS: 1).
    """

    kl_weight: float = 1e-6
    perceptual_weight: float = 1.0

    def __post_init__(self):
        for name, value in (("kl_weight", self.kl_weight), ("perceptual_weight", self.perceptual_weight)):
            if not 0 <= value < math.inf:
                raise RecipeError(
                    f"model.objective.{name}={value} must be at least 0",
                    code="range",
                    path=f"model.objective.{name}",
                    value=value,
                )


@dataclass(frozen=True, kw_only=True)
class PatchGame:
    """The discriminator of patches and when it begins.

    adversarial_weight: of the generator's adversarial term (published: 0.5, balanced).
    channels: of the discriminator's first layer (published: 64).
    num_layers: of the discriminator that halve the picture (published: 3).
    pretrain_steps: steps without the game, at the beginning.
    balanced: whether the adversarial term is brought to the others' size by its gradient at the last layer (VQGAN).
    lecam_weight: of what keeps the discriminator's scores near their own averages (LeCam); 0 leaves it out.
    """

    adversarial_weight: float = 0.1
    channels: int = 64
    num_layers: int = 2
    pretrain_steps: int = 0
    balanced: bool = False
    lecam_weight: float = 0.0

    def __post_init__(self):
        for name, value, least in (
            ("channels", self.channels, 1),
            ("num_layers", self.num_layers, 1),
            ("pretrain_steps", self.pretrain_steps, 0),
        ):
            if value < least:
                raise RecipeError(
                    f"model.game.{name}={value} must be at least {least}",
                    code="range",
                    path=f"model.game.{name}",
                    value=value,
                )
        if not 0 <= self.lecam_weight < math.inf:
            raise RecipeError(
                f"model.game.lecam_weight={self.lecam_weight} must be at least 0",
                code="range",
                path="model.game.lecam_weight",
                value=self.lecam_weight,
            )
        if not 0 <= self.adversarial_weight < math.inf:
            raise RecipeError(
                f"model.game.adversarial_weight={self.adversarial_weight} must be at least 0",
                code="range",
                path="model.game.adversarial_weight",
                value=self.adversarial_weight,
            )


FLAT = {
    "condition_dim": "condition.dim",
    "condition_dropout": "condition.dropout",
    **{name: f"condition.{name}" for name in ("text_encoder", "text_layers", "text_heads", "spell_share")},
    "objective": "objective.name",
    **{name: f"objective.{name}" for name in ("schedule", "min_snr", "shift", "sigma_data")},
}
"""Where recipe format 1's arguments of both generators are."""
VAE_FLAT = {
    **{field.name: f"network.{field.name}" for field in fields(VAESizes)},
    **{field.name: f"objective.{field.name}" for field in fields(VAEObjective)},
    "adversarial_weight": "game.adversarial_weight",
    "discriminator_channels": "game.channels",
    "pretrain_steps": "game.pretrain_steps",
}
"""Where recipe format 1's arguments of the autoencoder are."""
