"""Networks: the trunks of the tutor, and what it hears.

Shapes: b batch, t frames, m mel channels, d channels, l letters with the blank.
"""

from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor, nn
from unisono.nn.convnext import ConvNeXtBlock
from unisono.nn.modules import Modules

__all__ = ["Heard", "Trunk"]


class Heard(NamedTuple):
    """What is heard in each frame; ``letters`` is None where the tutor knows none."""

    hertz: Float[Tensor, "b t"]
    voiced: Float[Tensor, "b t"]
    pitch_features: Float[Tensor, "b t d"]
    letters: Float[Tensor, "b t l"] | None
    letter_features: Float[Tensor, "b t d"] | None


class Trunk(nn.Module):
    """``mel [b, t, m] ─ conv 5 ─ LayerNorm ─ ConvNeXt × num_blocks ─ [b, t, d]``"""

    def __init__(self, num_mels: int, dim: int, num_blocks: int):
        super().__init__()
        self.embed = nn.Conv1d(num_mels, dim, 5, padding=2)
        self.norm = nn.LayerNorm(dim)
        self.blocks: Modules[ConvNeXtBlock] = Modules(
            ConvNeXtBlock(dim, 2 * dim, layer_scale=1 / num_blocks) for _ in range(num_blocks)
        )

    def forward(self, mel: Float[Tensor, "b t m"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        x = self.norm(self.embed((mel * mask[..., None]).mT).mT)
        for block in self.blocks:
            x = block(x, mask)
        return x * mask[..., None]
