"""Decoder: text, pitch, energy and a style to a mel (arXiv:2205.15439).

Difference: the curves are not instance-normalised on their way in. The published layers begin with that, which takes
the level and the range of the pitch out of the curve; a shift in semitones would then change nothing.

Shapes: b batch, t frames (even), h = t / 2 pairs of frames, c channels, m mel bins, s style.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from unisono.nn.norm import MaskedInstanceNorm

from unisono_tts.styletts.blocks import SLOPE, ResidualBlock, RisingBlock, StyledBlock, halved, pair_means, within
from unisono_tts.styletts.sizes import StyleSizes


class CurveEncoder(nn.Module):
    """A curve over frames to one over pairs of them: learnt halving on its way, the mean of each pair beside it."""

    def __init__(self, dim: int):
        super().__init__()
        self.into = weight_norm(nn.Conv1d(1, dim, 3, padding=1))
        self.halve = weight_norm(nn.Conv1d(dim, dim, 3, stride=2, padding=1, groups=dim))
        self.out = weight_norm(nn.Conv1d(dim, 1, 1))

    def forward(self, curve: Float[Tensor, "b t"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b 1 h"]:
        x = (curve * mask)[:, None]
        y = F.leaky_relu(self.into(x), SLOPE) * mask[:, None]
        y = self.out(F.leaky_relu(self.halve(y), SLOPE))
        return (pair_means(x, mask) + y) / math.sqrt(2)


class Decoder(nn.Module):
    """Half-rate text and curves to a standardised mel.

    ::

        text ─┬─ cat ─ 2 × residual ─ 2 × styled ─ rising ─ 2 × styled ─ mel
        curves ┘                       ↑ each is given text (residual_dim), pitch and energy again
    """

    def __init__(self, n_mels: int, sizes: StyleSizes):
        super().__init__()
        dim, wide, style_dim = sizes.dim, sizes.decoder_dim, sizes.style_dim
        self.pitch, self.energy = CurveEncoder(sizes.residual_dim), CurveEncoder(sizes.residual_dim)
        self.text = weight_norm(nn.Conv1d(dim, sizes.residual_dim, 1))
        self.text_norm = MaskedInstanceNorm(sizes.residual_dim)
        self.encode = nn.ModuleList(
            [
                ResidualBlock(dim + 2, wide, dropout=sizes.dropout),
                ResidualBlock(wide, wide, dropout=sizes.dropout),
            ]
        )
        given = wide + sizes.residual_dim + 2
        self.coarse = nn.ModuleList(StyledBlock(given, wide, style_dim) for _ in range(2))
        self.rise = RisingBlock(given, dim, style_dim)
        self.fine = nn.ModuleList(StyledBlock(dim, dim, style_dim) for _ in range(2))
        self.to_mel = weight_norm(nn.Conv1d(dim, n_mels, 1))

    def forward(
        self,
        text: Float[Tensor, "b h c"],
        pitch: Float[Tensor, "b t"],
        energy: Float[Tensor, "b t"],
        style: Float[Tensor, "b s"],
        lengths: Int[Tensor, " b"],
    ) -> Float[Tensor, "b t m"]:
        """``lengths`` are in frames; the mel is 0 beyond them."""
        fine = within(lengths, pitch.shape[1])
        mask = within(halved(lengths), text.shape[1])
        text = text.mT * mask[:, None]
        curves = torch.cat([self.pitch(pitch, fine), self.energy(energy, fine)], dim=1) * mask[:, None]
        again = torch.cat([self.text_norm(self.text(text), mask), curves], dim=1)
        x = torch.cat([text, curves], dim=1)
        for block in self.encode:
            x = block(x, mask)
        for block in self.coarse:
            x = block(torch.cat([x, again], dim=1), style, mask)
        x = self.rise(torch.cat([x, again], dim=1), style, mask, fine)
        for block in self.fine:
            x = block(x, style, fine)
        return self.to_mel(x).mT * fine[..., None]
