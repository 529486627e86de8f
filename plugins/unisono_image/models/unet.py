"""``image/unet``: diffusers' U-Net, of pixels or latents, with classes, captions or both.

Ho et al., DDPM (arXiv:2006.11239) and Dhariwal and Nichol (arXiv:2105.05233) in the form that diffusers'
UNet2DConditionModel has: residual blocks with attention at the lower resolutions. Time and condition are added to the
residual blocks; in attention every place also sees the condition's vector and the caption's words (Rombach et al.,
arXiv:2112.10752, §3.3).

Trained on noise by default; ``objective: {name: edm}`` makes it Karras et al.'s (arXiv:2206.00364). Differences: no
dropout, and their own network (DDPM++) has other residual blocks.
"""

from dataclasses import fields
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from unisono.errors import RecipeError
from unisono.nn.condition import Condition, ConditionSizes

from unisono_image.models.generator import ImageGenerator
from unisono_image.models.sizes import FLAT, ObjectiveSpec, UNetSizes


class UNet(ImageGenerator):
    """A convolutional U-Net.

    ::

        noise ─ conv ─┬─ [blocks, ↓] ─┬─ [blocks, ↓] ─ middle ─ [↑, blocks] ─┴─ [↑, blocks] ─┴─ conv ─ pictures
        time, vector ─┴───────────────┴─────── added in every block ─────────┘               │
        vector, words ──────────────────────── attended to where there is attention ─────────┘

    Args:
        channels: of what is denoised: 3 for pixels, or the vae's.
        downsampling: of the vae; 1 for pixels.
        network, condition, objective: see ``unisono_image.models.sizes``.
        guidance_scale: the default of requests with a label or prompt.
    """

    flat: ClassVar[dict[str, str]] = FLAT | {field.name: f"network.{field.name}" for field in fields(UNetSizes)}

    def __init__(
        self,
        *,
        channels: int = 3,
        downsampling: int = 1,
        network: UNetSizes = UNetSizes(),  # noqa: B008
        condition: ConditionSizes = ConditionSizes(dim=256),  # noqa: B008
        objective: ObjectiveSpec = ObjectiveSpec(name="eps"),  # noqa: B008
        guidance_scale: float = 1.5,
    ):
        super().__init__(
            channels=channels,
            downsampling=downsampling,
            condition=condition,
            objective=objective,
            guidance_scale=guidance_scale,
        )
        widths = network.block_channels
        if not widths or network.layers_per_block < 1:
            raise RecipeError(
                f"model.network.block_channels={list(widths)} and layers_per_block={network.layers_per_block}: "
                "at least one of each",
                code="empty",
                path="model.network.block_channels",
                value=list(widths),
            )
        for width in widths:
            if width % network.norm_groups or width % network.head_dim:
                raise RecipeError(
                    f"model.network.block_channels: {width} must be a multiple of "
                    f"norm_groups={network.norm_groups} and of head_dim={network.head_dim}",
                    code="shape",
                    path="model.network.block_channels",
                    value=width,
                )
        for level in network.attention_levels:
            if not 0 <= level < len(widths):
                raise RecipeError(
                    f"model.network.attention_levels: {level} must be from 0 to {len(widths) - 1}, the lowest",
                    code="range",
                    path="model.network.attention_levels",
                    value=level,
                )
        self.sizes = network
        self.multiple = downsampling * 2 ** (len(widths) - 1)

    def make_net(self) -> nn.Module:
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        attends = [level in self.sizes.attention_levels for level in range(len(self.sizes.block_channels))]
        make: Any = UNet2DConditionModel  # its types say less than it takes
        net = make(
            in_channels=self.channels,
            out_channels=self.channels,
            down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends),
            mid_block_type="UNetMidBlock2DCrossAttn",
            up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
            block_out_channels=self.sizes.block_channels,
            layers_per_block=self.sizes.layers_per_block,
            norm_num_groups=self.sizes.norm_groups,
            cross_attention_dim=self.condition_dim,
            attention_head_dim=tuple(width // self.sizes.head_dim for width in self.sizes.block_channels),
            class_embed_type="simple_projection",
            projection_class_embeddings_input_dim=self.condition_dim,
        )
        nn.init.zeros_(net.conv_out.weight)
        nn.init.zeros_(net.conv_out.bias)
        return net

    def denoise(
        self, x: Float[Tensor, "n c h w"], time: Float[Tensor, " n"], condition: Condition
    ) -> Float[Tensor, "n c h w"]:
        vector = condition.vector
        seen = torch.cat([vector[:, None], condition.words.to(vector.dtype)], dim=1)
        mask = nn.functional.pad(condition.mask, (1, 0), value=True)
        return self.net(
            x, time, encoder_hidden_states=seen, class_labels=vector, encoder_attention_mask=mask, return_dict=False
        )[0]
