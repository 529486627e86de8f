"""``image/unet``: diffusers' U-Net, of pixels or latents, with classes, captions or both.

Ho et al., DDPM (arXiv:2006.11239) and Dhariwal and Nichol (arXiv:2105.05233) in the form that diffusers'
UNet2DConditionModel has: residual blocks with attention at the lower resolutions. Time and condition are added to the
residual blocks; in attention every place also sees the condition's vector and the caption's words (Rombach et al.,
arXiv:2112.10752, §3.3).

Trained on noise by default; ``objective: edm`` makes it Karras et al.'s (arXiv:2206.00364). Differences: no dropout,
and their own network (DDPM++) has other residual blocks.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from unisono.errors import RecipeError

from unisono_image.models.condition import Condition
from unisono_image.models.generator import ImageGenerator, ObjectiveName


class UNet(ImageGenerator):
    """A convolutional U-Net.

    ::

        noise ─ conv ─┬─ [blocks, ↓] ─┬─ [blocks, ↓] ─ middle ─ [↑, blocks] ─┴─ [↑, blocks] ─┴─ conv ─ pictures
        time, vector ─┴───────────────┴─────── added in every block ─────────┘               │
        vector, words ──────────────────────── attended to where there is attention ─────────┘

    Args:
        channels: of what is denoised: 3 for pixels, or the vae's.
        downsampling: of the vae; 1 for pixels.
        block_channels: of each resolution; every further one halves height and width.
        layers_per_block: residual blocks at each resolution (published: 2).
        attention_levels: which resolutions have attention, counted from 0, the highest.
        head_dim: channels of a head.
        norm_groups: of the group norms; every one of block_channels must be a multiple.
        condition_dim: channels of the condition.
        text_encoder: ``small``, trained with the model, or ``clip:`` and a folder or hub id of a CLIP text tower.
        text_layers, text_heads: of the small encoder.
        spell_share: the share of words that are spelled while training, so that letters are learnt.
        condition_dropout: the share of items without label and caption, for guidance (published: 0.1).
        objective: ``flow``, ``eps``, ``x0``, ``v`` or ``edm``.
        schedule: beta schedule of ``eps``, ``x0`` and ``v``: ``linear``, ``scaled_linear`` or ``squaredcos_cap_v2``.
        min_snr: γ of min-SNR weighting of ``eps``, ``x0`` and ``v``; 0 counts all errors the same.
        shift: of ``flow``'s times to more noise, for large pictures.
        sigma_data: standard deviation of the data, for ``edm``.
        guidance_scale: the default of requests with a label or prompt.
    """

    def __init__(
        self,
        *,
        channels: int = 3,
        downsampling: int = 1,
        block_channels: tuple[int, ...] = (128, 256, 256, 256),
        layers_per_block: int = 2,
        attention_levels: tuple[int, ...] = (1,),
        head_dim: int = 64,
        norm_groups: int = 32,
        condition_dim: int = 256,
        text_encoder: str = "small",
        text_layers: int = 2,
        text_heads: int = 4,
        spell_share: float = 0.1,
        condition_dropout: float = 0.1,
        objective: ObjectiveName = "eps",
        schedule: str = "linear",
        min_snr: float = 5.0,
        shift: float = 1.0,
        sigma_data: float = 0.5,
        guidance_scale: float = 1.5,
    ):
        super().__init__(
            channels=channels,
            downsampling=downsampling,
            condition_dim=condition_dim,
            text_encoder=text_encoder,
            text_layers=text_layers,
            text_heads=text_heads,
            spell_share=spell_share,
            condition_dropout=condition_dropout,
            objective=objective,
            schedule=schedule,
            min_snr=min_snr,
            shift=shift,
            sigma_data=sigma_data,
            guidance_scale=guidance_scale,
        )
        if not block_channels or layers_per_block < 1:
            raise RecipeError(
                f"model.block_channels={list(block_channels)} and layers_per_block={layers_per_block}: "
                "at least one of each"
            )
        for width in block_channels:
            if width % norm_groups or width % head_dim:
                raise RecipeError(
                    f"model.block_channels: {width} must be a multiple of norm_groups={norm_groups} and of "
                    f"head_dim={head_dim}"
                )
        for level in attention_levels:
            if not 0 <= level < len(block_channels):
                raise RecipeError(
                    f"model.attention_levels: {level} must be from 0 to {len(block_channels) - 1}, the lowest"
                )
        self.block_channels, self.layers_per_block = tuple(block_channels), layers_per_block
        self.attention_levels, self.head_dim, self.norm_groups = tuple(attention_levels), head_dim, norm_groups
        self.multiple = downsampling * 2 ** (len(block_channels) - 1)

    def make_net(self) -> nn.Module:
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        attends = [level in self.attention_levels for level in range(len(self.block_channels))]
        make: Any = UNet2DConditionModel  # its types say less than it takes
        net = make(
            in_channels=self.channels,
            out_channels=self.channels,
            down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends),
            mid_block_type="UNetMidBlock2DCrossAttn",
            up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
            block_out_channels=self.block_channels,
            layers_per_block=self.layers_per_block,
            norm_num_groups=self.norm_groups,
            cross_attention_dim=self.condition_dim,
            attention_head_dim=tuple(width // self.head_dim for width in self.block_channels),
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
