"""Encoders: what is said, as a distribution that has forgotten the speaker, and who speaks, as a vector.

Shapes: b batch, t frames, m mel channels, s cells, z channels of the code, e channels of a voice, d channels.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.modules import Modules
from unisono.nn.pooling import AttentiveStatistics

from unisono_convert.networks.conformer import ConformerBlock, ConformerSizes, ContentBlock

__all__ = ["Code", "ContentEncoder", "SpeakerEncoder"]


class Code(NamedTuple):
    """What is said: a normal distribution in each cell; ``mask`` tells which cells hold frames."""

    mean: Float[Tensor, "b s z"]
    log_variance: Float[Tensor, "b s z"]
    mask: Bool[Tensor, "b s"]

    def drawn(self, noise: Float[Tensor, "b s z"]) -> Float[Tensor, "b s z"]:
        """Return a draw, for standard normal noise."""
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def divergence(self) -> Float[Tensor, "b s z"]:
        """Return the Kullback–Leibler divergence from the standard normal, in nats, channel by channel."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance)


class ContentEncoder(nn.Module):
    """::

    mel [b, t, m] ─ conv 5 ─ norm ─ content block, / factors[0] ─ … ─ Linear ─ mean, log variance [b, s, z]
    """

    def __init__(self, num_mels: int, sizes: ConformerSizes, factors: tuple[int, ...], code_dim: int):
        super().__init__()
        self.embed = nn.Conv1d(num_mels, sizes.dim, 5, padding=2)
        self.norm = nn.LayerNorm(sizes.dim)
        self.blocks: Modules[ContentBlock] = Modules(ContentBlock(sizes, factor) for factor in factors)
        self.out = nn.Linear(sizes.dim, 2 * code_dim)

    def forward(self, mel: Float[Tensor, "b t m"], mask: Bool[Tensor, "b t"]) -> Code:
        x = self.norm(self.embed((mel * mask[..., None]).mT).mT) * mask[..., None]
        for block in self.blocks:
            x, mask = block(x, mask)
        mean, log_variance = self.out(x).chunk(2, -1)
        return Code(mean, log_variance.clamp(-12, 6), mask)


class SpeakerEncoder(nn.Module):
    """::

    mel [b, t, m] ─ conv 5 ─ norm ─ conformer × num_layers ─ attentive statistics ─ Linear ─ length 1 [b, e]
    """

    def __init__(self, num_mels: int, sizes: ConformerSizes, voice_dim: int):
        super().__init__()
        self.embed = nn.Conv1d(num_mels, sizes.dim, 5, padding=2)
        self.norm = nn.LayerNorm(sizes.dim)
        self.blocks: Modules[ConformerBlock] = Modules(ConformerBlock(sizes) for _ in range(sizes.num_layers))
        self.pool = AttentiveStatistics(sizes.dim)
        self.out = nn.Linear(2 * sizes.dim, voice_dim)

    def forward(self, mel: Float[Tensor, "b t m"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b e"]:
        x = self.norm(self.embed((mel * mask[..., None]).mT).mT) * mask[..., None]
        for block in self.blocks:
            x = block(x, mask)
        return F.normalize(self.out(self.pool(x, mask)).float(), dim=-1)


def inside(lengths: Tensor, num_frames: int) -> Bool[Tensor, "b t"]:
    """Return which frames lie within lengths."""
    return torch.arange(num_frames, device=lengths.device) < lengths[:, None]
