"""``image/dit``: the diffusion transformer, of pixels or latents, with classes, captions or both.

Peebles and Xie, DiT (arXiv:2212.09748); the network is in ``transformer.py``, with what differs. Trained by flow
matching as SiT (arXiv:2401.08740) unless the recipe says otherwise. Defaults are DiT-B/2 of 32 × 32 pixels.
"""

from jaxtyping import Float
from torch import Tensor
from unisono.errors import RecipeError

from unisono_image.models.condition import Condition
from unisono_image.models.generator import ImageGenerator, ObjectiveName
from unisono_image.models.transformer import DiffusionTransformer


class DiT(ImageGenerator):
    """A diffusion transformer.

    ::

        noise ─┐
        time ──┼─ patches ─ DiTBlock × num_layers ─ pictures (or latents ─ vae ─ pictures)
        label ─┤
        caption┘

    Args:
        channels: of what is denoised: 3 for pixels, or the vae's.
        downsampling: of the vae; 1 for pixels.
        patch_size: side of a patch (published: 2, 4, 8).
        dim, num_layers, num_heads: of the transformer (published, B: 768, 12, 12).
        smooth: whether a convolution follows, so that patches agree at their edges (U-ViT; published here: no).
        condition_dim: channels of time and condition; 0 is ``dim``, as published.
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
        patch_size: int = 2,
        dim: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        smooth: bool = False,
        condition_dim: int = 0,
        text_encoder: str = "small",
        text_layers: int = 2,
        text_heads: int = 4,
        spell_share: float = 0.1,
        condition_dropout: float = 0.1,
        objective: ObjectiveName = "flow",
        schedule: str = "linear",
        min_snr: float = 5.0,
        shift: float = 1.0,
        sigma_data: float = 0.5,
        guidance_scale: float = 1.5,
    ):
        super().__init__(
            channels=channels,
            downsampling=downsampling,
            condition_dim=condition_dim or dim,
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
        if patch_size < 1:
            raise RecipeError(f"model.patch_size={patch_size} must be at least 1")
        if dim % num_heads or dim % 4:
            raise RecipeError(f"model.dim={dim} must be a multiple of num_heads={num_heads}, and of 4")
        self.sizes = (channels, patch_size, dim, num_layers, num_heads)
        self.smooth = smooth
        self.multiple = patch_size * downsampling

    def make_net(self) -> DiffusionTransformer:
        with_words = self.conditioner.text is not None
        return DiffusionTransformer(*self.sizes, self.condition_dim, with_words, self.smooth)

    def denoise(
        self, x: Float[Tensor, "n c h w"], time: Float[Tensor, " n"], condition: Condition
    ) -> Float[Tensor, "n c h w"]:
        return self.net(x, time, condition)
