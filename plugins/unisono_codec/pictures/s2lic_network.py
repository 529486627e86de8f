"""S2LIC's network: Swin transforms, and latents in slices whose halves on a checkerboard predict each other.

Wang et al., "S2LIC: Learned Image Compression with the SwinV2 Block, Adaptive Channel-wise and Global-inter Attention
Context" (arXiv:2403.14471)::

    picture ─ enhance ─ (conv ↓2 ─ Swin group) × 4 ─ y        y ─ conv ↓2 ─ Swin group ─ conv ↓2 ─ z
    picture ─ enhance ─ (Swin group ─ conv ↑2) × 4 ─ ŷ        ŷ₁ anchors, ŷ₁ others, ŷ₂ anchors, … ─ z

    slice i:  z and slices before ─ channel context (ACCTX) ─┬─ mean, scale of the anchors
                                                             └─(with anchors: local and global attention, AGCTX)─
                                                                        mean, scale of the others
              what was read and the contexts ─ residual in (−½, ½) ─ added (latent residual prediction)

Anchors are the places whose row and column add up to an even number. Others are read when all anchors of the slice are
there, and are conditioned on them, as the paper has it (the published code gives both halves the same context).

Differences: z is expected to be normal in each channel, with learnt mean and deviation, so that its tables are those of
y and need no second optimiser; the global attention is linear in the number of places (Shen et al., arXiv:1812.01243):
keys and queries from what is known before the slice, values its anchors. There are 128 tables for 64, which with such a
range cost more than half a percent.

Shapes: b batch, c channels, y x height and width, a places of one half.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from unisono_codec.pictures.latents import LatentNet, Reader
from unisono_codec.pictures.swin import SwinGroup

LOWEST_LOG_SCALE = math.log(0.11)


@dataclass(frozen=True, kw_only=True)
class S2LICSizes:
    """Sizes of S2LIC; the defaults are the published ones.

    channels: of the transforms.
    latent_channels: of y; a multiple of num_slices.
    num_slices: parts of y's channels that are read one after the other.
    depths: Swin blocks at each resolution, the last of the hyper-latents'.
    num_heads: likewise; each divides its channels.
    window: side of the windows.
    """

    channels: int = 192
    latent_channels: int = 320
    num_slices: int = 10
    depths: tuple[int, ...] = (1, 2, 3, 1, 1)
    num_heads: tuple[int, ...] = (4, 8, 16, 16, 16)
    window: int = 8


class Enhance(nn.Module):
    """Densely joined convolutions beside a short cut, on pixels."""

    def __init__(self, channels: int = 3, growth: int = 16):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels + n * growth, growth, 3, padding=1) for n in range(3))
        self.out = nn.Conv2d(channels + 3 * growth, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        parts = x
        for conv in self.convs:
            parts = torch.cat([parts, F.gelu(conv(parts))], dim=1)
        return x + self.out(parts)


class GlobalAttention(nn.Module):
    """Attention that is linear in the places: what is like what is judged by what was known, values are the anchors."""

    def __init__(self, known: int, channels: int, dim: int):
        super().__init__()
        self.query, self.key = nn.Conv2d(known, dim, 1), nn.Conv2d(known, dim, 1)
        self.value = nn.Conv2d(channels, dim, 1)

    def forward(
        self, known: Float[Tensor, "b k y x"], anchors: Float[Tensor, "b c y x"], at: Bool[Tensor, "y x"]
    ) -> Float[Tensor, "b d y x"]:
        q = self.query(known).flatten(2).softmax(1)
        k = self.key(known).masked_fill(~at, -1e4).flatten(2).softmax(2)
        v = self.value(anchors).flatten(2)
        return ((v @ k.mT) @ q).unflatten(2, known.shape[2:])


class LocalAttention(nn.Module):
    """Attention of each place over the anchors within two places of it."""

    def __init__(self, known: int, channels: int, dim: int, reach: int = 2):
        super().__init__()
        self.side = 2 * reach + 1
        self.query, self.key = nn.Conv2d(known, dim, 1), nn.Conv2d(channels, dim, 1)
        self.value = nn.Conv2d(channels, dim, 1)
        self.bias = nn.Parameter(torch.zeros(self.side**2))

    def forward(
        self, known: Float[Tensor, "b k y x"], anchors: Float[Tensor, "b c y x"], at: Bool[Tensor, "y x"]
    ) -> Float[Tensor, "b d y x"]:
        q = self.query(known).flatten(2)[:, :, None]
        k, v = (
            F.unfold(layer(anchors), self.side, padding=self.side // 2).unflatten(1, (-1, self.side**2))
            for layer in (self.key, self.value)
        )
        there = F.unfold(at[None, None].to(q.dtype), self.side, padding=self.side // 2) > 0.5
        scores = (q * k).sum(1) / math.sqrt(q.shape[1]) + self.bias[:, None]
        weights = scores.masked_fill(~there, -1e4).softmax(1) * there  # a map of one place has no anchor beside it
        return (v * weights[:, None]).sum(2).unflatten(2, known.shape[2:])


class Slice(nn.Module):
    """What predicts one slice: its channel context, the others' attention to the anchors, and the residuals."""

    def __init__(self, hyper: int, before: int, channels: int, dim: int):
        super().__init__()
        known = hyper + before
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(known, known, 1), nn.Sigmoid())
        self.context = _convs(known, dim, dim)
        self.anchors = _convs(dim, dim, 2 * channels, 1)
        self.local, self.globally = LocalAttention(dim, channels, dim), GlobalAttention(dim, channels, dim)
        self.others = _convs(3 * dim + channels, dim, 2 * channels, 1)
        self.residual = _convs(dim + channels, dim, channels)

    def forward(
        self, known: Float[Tensor, "b k y x"], number: int, reader: Reader, seen: Float[Tensor, "b c y x"] | None
    ) -> Float[Tensor, "b c y x"]:
        height, width = known.shape[2:]
        row, column = (torch.arange(size, device=known.device) for size in (height, width))
        at = (row[:, None] + column) % 2 == 0
        context = self.context(known * self.gate(known))
        slice_ = self._read(self.anchors(context), at, number, reader, seen)
        slice_ = slice_ + at * self._residual(context, slice_)
        attended = [self.local(context, slice_, at), self.globally(context, slice_, at)]
        others = self.others(torch.cat([context, *attended, _crossed(slice_)], dim=1))
        read = self._read(others, ~at, number + 1, reader, seen)
        return slice_ + read + ~at * self._residual(context, slice_ + read)

    def _residual(self, context: Tensor, slice_: Tensor) -> Tensor:
        return 0.5 * torch.tanh(self.residual(torch.cat([context, slice_], dim=1)))

    @staticmethod
    def _read(
        parameters: Float[Tensor, "b p y x"],
        at: Bool[Tensor, "y x"],
        number: int,
        reader: Reader,
        seen: Float[Tensor, "b c y x"] | None,
    ) -> Float[Tensor, "b c y x"]:
        """Read the latents of one half; elsewhere the result is 0."""
        mean, log_scale = parameters[:, :, at].chunk(2, dim=1)
        log_scale = F.softplus(log_scale - LOWEST_LOG_SCALE) + LOWEST_LOG_SCALE

        def posterior() -> Float[Tensor, "b c a"]:
            assert seen is not None
            return seen[:, :, at]

        values = reader(number, mean, log_scale, posterior)
        place = at.flatten().nonzero()[:, 0]
        empty = values.new_zeros(*values.shape[:2], at.numel())
        return empty.index_copy(2, place, values).unflatten(2, at.shape)


class S2LICNet(LatentNet):
    """Transforms, hyper-latents and slices; see the module's docstring."""

    scales: ClassVar[tuple[str, str, int]] = ("0.11", "256", 128)

    def __init__(self, sizes: S2LICSizes):
        super().__init__()
        self.sizes = sizes
        n, m, window = sizes.channels, sizes.latent_channels, sizes.window
        depths, heads = sizes.depths, sizes.num_heads
        widths = (n, n, n, m)
        self.enhance_in, self.enhance_out = Enhance(), Enhance()
        self.down = nn.ModuleList(_down(dim, out) for dim, out in zip((3, n, n, n), widths, strict=True))
        self.down_groups = nn.ModuleList(
            SwinGroup(dim, depths[level], heads[level], window) for level, dim in enumerate(widths)
        )
        self.up_groups = nn.ModuleList(
            SwinGroup(dim, depths[level], heads[level], window) for level, dim in enumerate(widths)
        )
        self.up = nn.ModuleList(_up(dim, out) for out, dim in zip((3, n, n, n), widths, strict=True))
        self.hyper_analysis = nn.Sequential(_down(m, n), SwinGroup(n, depths[4], heads[4], window), _down(n, n))
        self.hyper_synthesis = nn.Sequential(_up(n, n), SwinGroup(n, depths[4], heads[4], window), _up(n, m))
        self.hyper_mean = nn.Parameter(torch.zeros(1, n, 1, 1))
        self.hyper_log_scale = nn.Parameter(torch.zeros(1, n, 1, 1))
        part = m // sizes.num_slices
        self.slices = nn.ModuleList(Slice(m, part * i, part, n) for i in range(sizes.num_slices))

    @property
    def stride(self) -> int:
        return 64

    @property
    def num_latents(self) -> int:
        return 1 + 2 * self.sizes.num_slices

    def analyse(self, pictures: Float[Tensor, "b 3 y x"]) -> tuple[Tensor, Tensor]:
        """Return y and z."""
        x = self.enhance_in(pictures)
        for down, group in zip(self.down, self.down_groups, strict=True):
            x = group(down(x))
        return x, self.hyper_analysis(x)

    def descend(
        self, shape: tuple[int, int, int], reader: Reader, seen: tuple[Tensor, Tensor] | None = None
    ) -> Float[Tensor, "b 3 y x"]:
        """Read z, then the slices' halves one after the other; return pictures. See ``LatentNet``."""
        batch, height, width = shape

        def posterior() -> Tensor:
            assert seen is not None
            return seen[1]

        mean = self.hyper_mean.expand(batch, -1, height, width)
        log_scale = F.softplus(self.hyper_log_scale - LOWEST_LOG_SCALE) + LOWEST_LOG_SCALE
        hyper = self.hyper_synthesis(reader(0, mean, log_scale.expand_as(mean), posterior))
        parts: list[Float[Tensor, "b c y x"]] = []
        given = [None] * len(self.slices) if seen is None else seen[0].chunk(len(self.slices), dim=1)
        for number, (predict, part) in enumerate(zip(self.slices, given, strict=True)):
            parts.append(predict(torch.cat([hyper, *parts], dim=1), 1 + 2 * number, reader, part))
        x = torch.cat(parts, dim=1)
        for up, group in zip(reversed(self.up), reversed(self.up_groups), strict=True):
            x = up(group(x))
        return self.enhance_out(x)


def _crossed(anchors: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
    """The mean of the four anchors beside each place that is none; zeros beyond the border."""
    padded = F.pad(anchors, (1, 1, 1, 1))
    return (padded[:, :, 2:, 1:-1] + padded[:, :, :-2, 1:-1] + padded[:, :, 1:-1, 2:] + padded[:, :, 1:-1, :-2]) / 4


def _convs(dim: int, hidden: int, out: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(dim, hidden, kernel, padding=kernel // 2),
        nn.GELU(),
        nn.Conv2d(hidden, out, kernel, padding=kernel // 2),
    )


def _down(dim: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(dim, out, 5, stride=2, padding=2)


def _up(dim: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(dim, 4 * out, 3, padding=1), nn.PixelShuffle(2))
