"""Conformer of converters: the core's block with silent padding, and its form that forgets the speaker.

Gulati et al., "Conformer" (arXiv:2005.08100); see ``unisono.nn.conformer`` for what differs.

Shapes: b batch, t frames, s cells of frames, d channels. Masks are True where a frame is kept.
"""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor
from unisono.errors import RecipeError
from unisono.nn import conformer
from unisono.nn.norm import MaskedInstanceNorm
from unisono.nn.rotary import Rotation

from unisono_convert.networks.pooling import pooled

__all__ = ["ConformerBlock", "ConformerSizes", "ContentBlock"]


@dataclass(frozen=True, kw_only=True)
class ConformerSizes:
    """Sizes of a block, and how many there are."""

    dim: int = 256
    num_layers: int = 4
    num_heads: int = 4
    filter_dim: int = 1024
    kernel_size: int = 15
    dropout: float = 0.1

    def __post_init__(self):
        if self.dim % (2 * self.num_heads):
            _refuse("dim", self.dim, f"must be a multiple of twice num_heads={self.num_heads}")
        if self.kernel_size % 2 == 0:
            _refuse("kernel_size", self.kernel_size, "must be odd, or frames move")

    @property
    def of_a_block(self) -> dict[str, Any]:
        """The arguments of ``unisono.nn.conformer``'s blocks."""
        return {name: getattr(self, name) for name in ("dim", "num_heads", "filter_dim", "kernel_size", "dropout")}


class ConformerBlock(conformer.ConformerBlock):
    """The core's block, padding zeroed behind it."""

    def __init__(self, sizes: ConformerSizes):
        super().__init__(**sizes.of_a_block)

    def forward(
        self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"], places: Rotation | None = None
    ) -> Float[Tensor, "b t d"]:
        return super().forward(x, mask, places) * mask[..., None]


class ContentBlock(conformer.ConformerParts):
    """A conformer block with instance normalisation, and averages of ``factor`` frames, behind its convolution module
    (Pureformer-VC): mean and spread of each channel, which tell the speaker, are gone.

    ``x ─ + ½ feed-forward ─ + attention ─ + convolution ─ norm ─ / factor ─ + ½ feed-forward ─ LayerNorm``
    """

    def __init__(self, sizes: ConformerSizes, factor: int):
        super().__init__(**sizes.of_a_block)
        self.factor = factor
        self.instance_norm = MaskedInstanceNorm(sizes.dim, affine=False)

    def forward(
        self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b s d"], Bool[Tensor, "b s"]]:
        x = self.instance_norm(self.mixed(x, mask).mT, mask).mT
        if self.factor > 1:
            x, mask = pooled(x, mask, self.factor)
        return self.norm(x + 0.5 * self.after(x)) * mask[..., None], mask


def _refuse(name: str, value: int, why: str) -> None:
    raise RecipeError(f"model: {name}={value} {why}", code="value", path=f"model.{name}", value=value)
