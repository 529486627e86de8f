"""Flow decoder: mels to latents of the same shape, and back (Kim et al., arXiv:2005.11129, section 3.2).

Shapes: b batch, t frames, w frames filled up to a multiple of ``squeeze``, m mel bins, g channels of the speaker.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from unisono.errors import UnisonoError
from unisono.nn.flow import (
    ActNorm,
    AffineCoupling,
    FlowLayer,
    FlowSequence,
    GatedNet,
    GatedSizes,
    InvertibleMixing,
    completed,
    squeeze,
    unsqueeze,
)

__all__ = ["FlowDecoder", "FlowSizes"]

FILL = 0.2
"""Deviation of the noise that an item's last frames are filled up with, of standardised mels."""


@dataclass(frozen=True, kw_only=True)
class FlowSizes(GatedSizes):
    """Sizes of the flow, as published; those of a gated net are of its couplings.

    num_blocks: blocks of three layers.
    squeeze: neighbouring frames that are one place of the flow.
    group_size: channels that are mixed with one another.
    """

    num_blocks: int = 12
    squeeze: int = 2
    group_size: int = 4

    def __post_init__(self):
        super().__post_init__()
        for name in ("num_blocks", "squeeze"):
            if (value := getattr(self, name)) < 1:
                raise UnisonoError(f"{name}={value} must be at least 1", code="range", path=name, value=value)


class FlowDecoder(nn.Module):
    """An invertible network between mels and latents.

    ::

        mel ─ squeeze ─ (ActNorm ─ mixing ─ affine coupling) × num_blocks ─ unsqueeze ─ latents

    Frames of a length that is no multiple of ``squeeze`` are filled up by the caller (``fill``), and have latents.

    Args:
        num_mels: m.
        condition_dim: g, of the vector that each coupling hears; 0 for none.
    """

    def __init__(self, num_mels: int, sizes: FlowSizes, condition_dim: int = 0):
        super().__init__()
        self.squeeze = sizes.squeeze
        channels = num_mels * sizes.squeeze
        layers: list[FlowLayer] = []
        for _ in range(sizes.num_blocks):
            net = GatedNet(channels // 2, channels, sizes, condition_dim)
            layers += [ActNorm(channels), InvertibleMixing(channels, sizes.group_size), AffineCoupling(net)]
        self.flow = FlowSequence(layers)

    def whole(self, lengths: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
        """Return lengths filled up."""
        return lengths + (-lengths) % self.squeeze

    def fill(
        self, mel: Float[Tensor, "b t m"], lengths: Int[Tensor, " b"], generators: list[torch.Generator] | None
    ) -> Float[Tensor, "b w m"]:
        """Return mels filled up with their last frame and noise, an item's from its own generator; None for no noise.

        Noise keeps the flow from a likelihood without bound; see ``unisono.nn.flow.squeeze``.
        """
        shape = (self.squeeze - 1, mel.shape[2])
        noise = torch.zeros(len(mel), *shape)
        if generators is not None:
            noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators]) * FILL
        return completed(mel, lengths, noise.to(mel))[0]

    def forward(
        self, mel: Float[Tensor, "b w m"], lengths: Int[Tensor, " b"], speaker: Float[Tensor, "b g"] | None
    ) -> tuple[Float[Tensor, "b w m"], Float[Tensor, " b"]]:
        """Return latents and log-determinants of standardised mels of filled ``lengths``."""
        x, mask = squeeze(mel, self._inside(mel, lengths), self.squeeze)
        z, log_det = self.flow(x, mask, None if speaker is None else speaker[:, None])
        return unsqueeze(z, mel.shape[1], self.squeeze), log_det

    def inverse(
        self, latents: Float[Tensor, "b w m"], lengths: Int[Tensor, " b"], speaker: Float[Tensor, "b g"] | None
    ) -> Float[Tensor, "b w m"]:
        """Return the mels of latents of filled ``lengths``."""
        z, mask = squeeze(latents, self._inside(latents, lengths), self.squeeze)
        x = self.flow.inverse(z, mask, None if speaker is None else speaker[:, None])
        return unsqueeze(x, latents.shape[1], self.squeeze)

    @staticmethod
    def _inside(x: Float[Tensor, "b w m"], lengths: Int[Tensor, " b"]) -> Tensor:
        return torch.arange(x.shape[1], device=x.device) < lengths[:, None]
