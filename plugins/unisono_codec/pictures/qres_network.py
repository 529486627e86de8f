"""QRes-VAE's network: a ladder of latents, of which each is predicted from those above it.

Duan et al., "Lossy Image Compression with Quantized Hierarchical VAEs" (arXiv:2208.13056)::

    picture ─ patch ─ blocks ─ e₄ ─ blocks, ↓2 ─ e₈ ─ … ─ e₆₄            encoder, upwards
                        │              │              │
    picture ─ patch ─ latents ─ ↑2 ─ latents ─ ↑2 ─ latents ─ constant   decoder, downwards

    a latent block   state ─ block ─┬─ prior: mean, log scale ─┐
                                    └─(with e)─ posterior mean ─ z ─ project ─ (+) ─ block ─ state

Encoder and decoder go down the ladder by one function, ``descend``; what a latent is, its ``Reader`` says: in training
the posterior's mean and noise, in coding a whole number of steps from the prior's mean.

Differences from the published code: the gain of each latent's projection begins at √(1 / 3N) for N latent blocks, as
the paper means, not at √(N / 3).

Shapes: b batch, c d channels, y x height and width at a block's resolution.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from unisono_codec.pictures.blocks import Bottleneck, ConvNeXtBlock2d, patch_down, patch_up
from unisono_codec.pictures.latents import LatentNet, Reader

SHIFT, SCALE = -0.4546259594901961, 3.67572653978347
"""What is added to pictures from 0 to 1, and what they are multiplied by: of ImageNet, as published."""
LOWEST_LOG_SCALE = -2.3


@dataclass(frozen=True, kw_only=True)
class QResSizes:
    """Sizes of QRes-VAE; lists begin at the finest resolution. The published ones are those of qres34m.

    patch: side of the patches that the finest resolution is made of.
    channels: of each resolution; each is half the one before.
    kernel_sizes: of the blocks at each resolution.
    encoder_blocks: blocks at each resolution on the way up.
    latent_blocks: latents at each resolution; the coarsest is decoded first.
    latent_channels: of the latents at each resolution.
    layer_scale: gain that each block begins with.
    """

    patch: int = 4
    channels: tuple[int, ...] = (192, 384, 384, 384, 384)
    kernel_sizes: tuple[int, ...] = (7, 7, 5, 3, 1)
    encoder_blocks: tuple[int, ...] = (6, 6, 6, 4, 2)
    latent_blocks: tuple[int, ...] = (3, 3, 3, 2, 1)
    latent_channels: tuple[int, ...] = (8, 10, 12, 14, 16)
    layer_scale: float = 1e-6

    @property
    def stride(self) -> int:
        """Pixels, each way, of one place of the coarsest latent."""
        return self.patch * 2 ** (len(self.channels) - 1)


class LatentBlock(nn.Module):
    """One latent of the ladder: what it is expected to be, what it is, and the state that it changes."""

    def __init__(self, dim: int, latent_channels: int, kernel_size: int, num_blocks: int, layer_scale: float):
        super().__init__()
        hidden, kernel = dim // 4, min(kernel_size, 3)
        self.front = ConvNeXtBlock2d(dim, kernel_size, layer_scale=layer_scale)
        self.prior = Bottleneck(dim, hidden, 2 * latent_channels, kernel, zero_last=True)
        self.posterior = Bottleneck(2 * dim, hidden, latent_channels, kernel)
        last = nn.Conv2d(max(hidden // 2, 1), dim, 1)
        last.weight.data *= math.sqrt(1 / (3 * num_blocks))
        self.project = nn.Sequential(
            nn.Conv2d(latent_channels, max(hidden // 2, 1), kernel, padding=kernel // 2), nn.GELU(), last
        )
        self.end = ConvNeXtBlock2d(dim, kernel_size, layer_scale=layer_scale)

    def forward(
        self, state: Float[Tensor, "b c y x"], seen: Float[Tensor, "b c y x"] | None, number: int, reader: Reader
    ) -> Float[Tensor, "b c y x"]:
        state = self.front(state)
        mean, log_scale = self.prior(state).chunk(2, dim=1)
        log_scale = F.softplus(log_scale - LOWEST_LOG_SCALE) + LOWEST_LOG_SCALE

        def posterior() -> Float[Tensor, "b z y x"]:
            assert seen is not None
            return self.posterior(torch.cat([state, seen], dim=1))

        latent = reader(number, mean, log_scale, posterior)
        return self.end(state + self.project(latent))


class QResNet(LatentNet):
    """Encoder and decoder; see the module's docstring."""

    def __init__(self, sizes: QResSizes):
        super().__init__()
        self.sizes = sizes
        channels, kernels, gain = sizes.channels, sizes.kernel_sizes, sizes.layer_scale
        self.stem = patch_down(3, channels[0], sizes.patch)
        self.stages = nn.ModuleList(
            nn.Sequential(*(ConvNeXtBlock2d(dim, kernel, layer_scale=gain) for _ in range(count)))
            for dim, kernel, count in zip(channels, kernels, sizes.encoder_blocks, strict=True)
        )
        self.downs = nn.ModuleList(
            nn.Sequential(ConvNeXtBlock2d(dim, 7, layer_scale=gain), patch_down(dim, out, 2))
            for dim, out in pairwise(channels)
        )
        count = sum(sizes.latent_blocks)
        self.top = nn.Parameter(torch.zeros(1, channels[-1], 1, 1))
        self.latents = nn.ModuleList(
            nn.ModuleList(
                LatentBlock(channels[level], sizes.latent_channels[level], kernels[level], count, gain)
                for _ in range(sizes.latent_blocks[level])
            )
            for level in range(len(channels))
        )
        self.ups = nn.ModuleList(patch_up(dim, out, 2) for out, dim in pairwise(channels))
        self.head = patch_up(channels[0], 3, sizes.patch)

    def analyse(self, pictures: Float[Tensor, "b 3 y x"]) -> list[Float[Tensor, "b _c _y _x"]]:
        """Return what the encoder sees at each resolution of pictures from −1 to 1, the finest first."""
        x = self.stem(((pictures + 1) / 2 + SHIFT) * SCALE)
        seen = []
        for level, stage in enumerate(self.stages):
            x = stage(x if level == 0 else self.downs[level - 1](x))
            seen.append(x)
        return seen

    def descend(
        self, shape: tuple[int, int, int], reader: Reader, seen: list[Float[Tensor, "b _c _y _x"]] | None = None
    ) -> Float[Tensor, "b 3 y x"]:
        """Go down the ladder and return pictures, about −1 to 1.

        ``shape`` is batch, height and width of the coarsest latent; ``reader`` says what each latent is, the coarsest
        first; ``seen`` is what ``analyse`` returned, where a reader asks for posteriors.
        """
        batch, height, width = shape
        state, number = self.top.expand(batch, -1, height, width), 0
        for level in reversed(range(len(self.latents))):
            blocks = self.latents[level]
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                state = block(state, None if seen is None else seen[level], number, reader)
                number += 1
            if level:
                state = self.ups[level - 1](state)
        return self.head(state)

    @property
    def stride(self) -> int:
        return self.sizes.stride

    @property
    def num_latents(self) -> int:
        return sum(self.sizes.latent_blocks)
