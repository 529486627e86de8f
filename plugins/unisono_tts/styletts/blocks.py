"""Blocks: residual convolutions over time, with and without a style, and recurrence (arXiv:2205.15439).

Frames beyond an item's end are zero before every convolution, take no part in statistics, and are never seen by a
recurrent layer, so that an item alone and in a batch is the same.

Shapes: b batch, c channels, t frames, h = ⌈t / 2⌉ half as many, s style.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from unisono.nn.norm import AdaptiveInstanceNorm, MaskedInstanceNorm

SLOPE = 0.2


def within(lengths: Int[Tensor, " b"], size: int) -> Bool[Tensor, "b t"]:
    """Return the mask of the first ``lengths`` of ``size`` places."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def halved(lengths: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
    """Return how many pairs so many frames make; an odd one is a pair of its own."""
    return (lengths + 1) // 2


def pair_means(x: Float[Tensor, "b c t"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b c h"]:
    """Return the mean of each pair of frames, of the valid one where one is, 0 where none is."""
    pad = x.shape[-1] % 2
    inside = F.pad(mask.to(x.dtype), (0, pad))[:, None]
    total = F.avg_pool1d(F.pad(x, (0, pad)) * inside, 2)
    return total / F.avg_pool1d(inside, 2).clamp(min=0.5)


class ResidualBlock(nn.Module):
    """``x + conv(conv(x))``, each behind instance normalisation, at unit variance."""

    def __init__(self, in_channels: int, out_channels: int, *, dropout: float):
        super().__init__()
        self.norms = nn.ModuleList(MaskedInstanceNorm(in_channels) for _ in range(2))
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv1d(in_channels, width, 3, padding=1)) for width in (in_channels, out_channels)
        )
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else weight_norm(nn.Conv1d(in_channels, out_channels, 1, bias=False))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b c t"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b d t"]:
        y = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = conv(self.dropout(F.leaky_relu(norm(y, mask), SLOPE)))
        return (self.skip(x) + y) * mask[:, None] / math.sqrt(2)


class StyledBlock(nn.Module):
    """``x + conv(conv(x))``, each behind normalisation whose scale and shift come from the style."""

    def __init__(self, in_channels: int, out_channels: int, style_dim: int, *, dropout: float = 0.0):
        super().__init__()
        self.norms = nn.ModuleList(AdaptiveInstanceNorm(width, style_dim) for width in (in_channels, out_channels))
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv1d(width, out_channels, 3, padding=1)) for width in (in_channels, out_channels)
        )
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else weight_norm(nn.Conv1d(in_channels, out_channels, 1, bias=False))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "b c t"], style: Float[Tensor, "b s"], mask: Bool[Tensor, "b t"]
    ) -> Float[Tensor, "b d t"]:
        y = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = conv(self.dropout(F.leaky_relu(norm(y, style, mask), SLOPE)))
        return (self.skip(x) + y) * mask[:, None] / math.sqrt(2)


class RisingBlock(nn.Module):
    """A ``StyledBlock`` that makes two frames of each: learnt upsampling on its way, repetition beside it."""

    def __init__(self, in_channels: int, out_channels: int, style_dim: int, *, dropout: float = 0.0):
        super().__init__()
        self.norms = nn.ModuleList(AdaptiveInstanceNorm(width, style_dim) for width in (in_channels, out_channels))
        self.rise = weight_norm(
            nn.ConvTranspose1d(
                in_channels, in_channels, 3, stride=2, padding=1, output_padding=1, groups=in_channels
            )
        )  # fmt: skip
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv1d(width, out_channels, 3, padding=1)) for width in (in_channels, out_channels)
        )
        self.skip = weight_norm(nn.Conv1d(in_channels, out_channels, 1, bias=False))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "b c h"],
        style: Float[Tensor, "b s"],
        mask: Bool[Tensor, "b h"],
        fine: Bool[Tensor, "b t"],
    ) -> Float[Tensor, "b d t"]:
        """``fine`` is the mask of what comes out; its t is 2h."""
        y = self.rise(F.leaky_relu(self.norms[0](x, style, mask), SLOPE)) * fine[:, None]
        y = self.convs[0](self.dropout(y))
        y = self.convs[1](self.dropout(F.leaky_relu(self.norms[1](y, style, fine), SLOPE)))
        return (self.skip(x.repeat_interleave(2, dim=2)) + y) * fine[:, None] / math.sqrt(2)


class Recurrence(nn.Module):
    """A bidirectional LSTM of ``dim`` channels that reads an item's own places and nothing behind them."""

    def __init__(self, in_channels: int, dim: int):
        super().__init__()
        self.lstm = nn.LSTM(in_channels, dim // 2, batch_first=True, bidirectional=True)

    def forward(self, x: Float[Tensor, "b t c"], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b t d"]:
        """``lengths`` are at least 1; 0 beyond them."""
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        read, _ = self.lstm(packed)
        return nn.utils.rnn.pad_packed_sequence(read, batch_first=True, total_length=x.shape[1])[0]
