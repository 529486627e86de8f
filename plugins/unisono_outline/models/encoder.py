"""Encoder: a picture and a phrase as tokens of the picture that know the phrase, and where the centre is.

::

    picture ─ conv, stride 2, then residual convs, × log2(stride) ─ + place ─ × (1 + scale) + shift ─┐
    phrase ─ text encoder ─┬─ sentence ─ linear ─────────────────────────────────┘                   │
                           └─ words ─ cross-attention ──────────────────────────────── blocks ─ norm ┴─ tokens
    tokens ─ linear ─ a score of each cell, and where in it the centre is

The sentence scales and shifts all tokens alike, as in FiLM (Perez et al., arXiv:1709.07871): products of what is seen
and what is said are what finding is about.

Shapes: b batch, s pixels a side, k cells (tokens), g cells a side, w words, d channels. Masks are True where a word is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.captions import make_text_encoder
from unisono.nn.modules import Modules
from unisono.nn.transformer import Block

from unisono_outline.models.sizes import NetworkSizes

FREQUENCIES = 8
GROUPS = 8
"""Of group normalisation, whose statistics are each picture's own."""


@dataclass(frozen=True)
class Seen:
    """What is known of a picture and a phrase: ``tokens`` [b, k, d], and ``sentence`` [b, d]."""

    tokens: Float[Tensor, "b k d"]
    sentence: Float[Tensor, "b d"]

    def rows(self, index: Tensor) -> "Seen":
        """Some rows, in any order."""
        return Seen(self.tokens[index], self.sentence[index])


class ResidualConv(nn.Module):
    """Two convolutions added to what went in; normalised first."""

    def __init__(self, channels: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, channels) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        y = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = conv(F.silu(norm(y)))
        return x + y


class PictureEncoder(nn.Module):
    """Convolutions down to cells of ``stride`` pixels a side, and where each cell is."""

    def __init__(self, sizes: NetworkSizes):
        super().__init__()
        self.stride = sizes.stride
        layers: list[nn.Module] = []
        channels = 3
        for level in range(int(math.log2(sizes.stride))):
            wider = min(sizes.channels * 2**level, max(sizes.dim // GROUPS * GROUPS, GROUPS))
            layers.append(nn.Conv2d(channels, wider, 3, stride=2, padding=1))
            layers.append(ResidualConv(wider) if level else nn.SiLU())  # at the first size convolutions cost most
            channels = wider
        self.layers = nn.Sequential(*layers)
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.to_tokens = nn.Conv2d(channels, sizes.dim, 1)
        self.place = nn.Linear(4 * FREQUENCIES, sizes.dim)

    def forward(self, picture: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b k d"]:
        cells = self.to_tokens(F.silu(self.norm(self.layers(picture))))
        middles = cell_middles(cells.shape[-1], cells.device)
        return cells.flatten(2).mT + self.place(waves(middles / 2).to(cells.dtype))  # half a wave: ends differ


class PhraseReader(nn.Module):
    """Reads the phrase into the picture's tokens, each of which sees the others and all words."""

    def __init__(self, words: Sequence[str], sizes: NetworkSizes):
        super().__init__()
        self.picture = PictureEncoder(sizes)
        self.text: Any = make_text_encoder(
            sizes.text_encoder, words, sizes.dim, sizes.text_layers, sizes.num_heads, sizes.dropout
        )
        self.told = nn.Linear(sizes.dim, 2 * sizes.dim)
        self.blocks = Modules(
            Block(sizes.dim, sizes.num_heads, sizes.dropout, cross=True) for _ in range(sizes.fusion_layers)
        )
        self.norm = nn.LayerNorm(sizes.dim)

    def forward(
        self,
        picture: Float[Tensor, "b 3 s s"],
        phrases: Sequence[str],
        spell_share: float = 0.0,
        seeds: Sequence[int] = (),
    ) -> Seen:
        """Return what is seen; ``spell_share`` and ``seeds`` are for training, see ``unisono.nn.captions``."""
        words, mask, sentence = self.text.read(phrases, spell_share, seeds)
        scale, shift = self.told(sentence)[:, None].chunk(2, dim=-1)
        tokens = self.picture(picture) * (1 + scale) + shift
        everywhere = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        for block in self.blocks:
            tokens = block(tokens, everywhere, words, mask)
        return Seen(self.norm(tokens), sentence)


class CentreHead(nn.Module):
    """Where the centre is: which cell has it, and where within the cell.

    Scores are learnt by cross-entropy against the cell that has the centre, places by the squared error there.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.score = nn.Linear(dim, 1)
        self.within = nn.Linear(dim, 2)

    def forward(self, tokens: Float[Tensor, "b k d"]) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b k 2"]]:
        """Return scores of cells, and the centre that each cell names, in sides."""
        side = math.isqrt(tokens.shape[1])
        middles = cell_middles(side, tokens.device)
        return self.score(tokens)[..., 0].float(), middles + self.within(tokens).float() / side

    @staticmethod
    def best(scores: Float[Tensor, "b k"], places: Float[Tensor, "b k 2"]) -> Float[Tensor, "b 2"]:
        """Return the centre that the best cell names."""
        return places[torch.arange(len(places), device=places.device), scores.argmax(-1)]

    @staticmethod
    def losses(
        scores: Float[Tensor, "b k"], places: Float[Tensor, "b k 2"], centre: Float[Tensor, "b 2"]
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Return each item's cross-entropy, and its squared error in cells; none where the centre is outside."""
        side = math.isqrt(scores.shape[1])
        column, row = (centre * side).floor().clamp(0, side - 1).long().unbind(-1)
        cell = row * side + column
        own = places[torch.arange(len(places), device=places.device), cell]
        return F.cross_entropy(scores, cell, reduction="none"), ((own - centre) * side).square().mean(-1)


def cell_middles(side: int, device: torch.device | None = None) -> Float[Tensor, "k 2"]:
    """Return the middles of cells in rows from the top, as (x, y) in sides."""
    at = (torch.arange(side, device=device) + 0.5) / side
    return torch.stack([at.repeat(side), at.repeat_interleave(side)], dim=1)


def waves(turns: Float[Tensor, "*b c"]) -> Float[Tensor, "*b w"]:
    """Return sines and cosines of each number at 1, 2, … times its turns."""
    angle = 2 * torch.pi * turns[..., None].float() * torch.arange(1, FREQUENCIES + 1, device=turns.device)
    return torch.cat([angle.sin(), angle.cos()], dim=-1).flatten(-2)
