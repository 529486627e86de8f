"""``image/dit``: the diffusion transformer, of pixels or latents, with classes, captions or both.

Peebles and Xie, DiT (arXiv:2212.09748); the network is in ``transformer.py``, with what differs. Trained by flow
matching as SiT (arXiv:2401.08740) unless the recipe says otherwise. Defaults are DiT-B/2 of 32 × 32 pixels.
"""

from dataclasses import fields, replace
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from unisono.errors import RecipeError
from unisono.graphs import Graphs
from unisono.nn.condition import Condition, ConditionSizes

from unisono_image.models.generator import ImageGenerator
from unisono_image.models.sizes import FLAT, DiTSizes, ObjectiveSpec
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
        network, condition, objective: see ``unisono_image.models.sizes``.
        guidance_scale: the default of requests with a label or prompt.
    """

    flat: ClassVar[dict[str, str]] = FLAT | {field.name: f"network.{field.name}" for field in fields(DiTSizes)}

    def __init__(
        self,
        *,
        channels: int = 3,
        downsampling: int = 1,
        network: DiTSizes = DiTSizes(),  # noqa: B008
        condition: ConditionSizes = ConditionSizes(),  # noqa: B008
        objective: ObjectiveSpec = ObjectiveSpec(),  # noqa: B008
        guidance_scale: float = 1.5,
    ):
        super().__init__(
            channels=channels,
            downsampling=downsampling,
            condition=replace(condition, dim=condition.dim or network.dim),
            objective=objective,
            guidance_scale=guidance_scale,
        )
        if network.patch_size < 1:
            raise RecipeError(
                f"model.network.patch_size={network.patch_size} must be at least 1",
                code="range",
                path="model.network.patch_size",
                value=network.patch_size,
            )
        if network.dim % network.num_heads or network.dim % 4:
            raise RecipeError(
                f"model.network.dim={network.dim} must be a multiple of num_heads={network.num_heads}, and of 4",
                code="shape",
                path="model.network.dim",
                value=network.dim,
            )
        self.sizes = network
        self.multiple = network.patch_size * downsampling

    def make_net(self) -> DiffusionTransformer:
        with_words = self.conditioner.text is not None
        return DiffusionTransformer(self.sizes, self.channels, self.condition_dim, with_words)

    def denoise(
        self, x: Float[Tensor, "n c h w"], time: Float[Tensor, " n"], condition: Condition
    ) -> Float[Tensor, "n c h w"]:
        return self.net(x, time, condition)

    def graph_modules(self) -> Graphs:
        """Return the graph ``step``, one evaluation of the network; see ``graphs``."""
        from unisono_image.models.graphs import step_graphs

        return step_graphs(self)
