"""Prosody: durations, pitch and energy from text and a style (arXiv:2205.15439).

Shapes: b batch, s symbols, h pairs of frames, t = 2h frames, d channels, e = d + the style's.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unisono_tts.styletts.blocks import Recurrence, RisingBlock, StyledBlock, halved, within
from unisono_tts.styletts.sizes import StyleSizes

FIRST_PAIRS = 3.0
"""What symbols last, in pairs of frames, before anything is learnt: a phoneme's usual length, not none at all."""


class StyledLayerNorm(nn.Module):
    """``(1 + γ(style)) · LayerNorm(x) + β(style)``."""

    def __init__(self, dim: int, style_dim: int):
        super().__init__()
        self.dim = dim
        self.affine = nn.Linear(style_dim, 2 * dim)

    def forward(self, x: Float[Tensor, "b s d"], style: Float[Tensor, "b k"]) -> Float[Tensor, "b s d"]:
        scale, shift = self.affine(style)[:, None].chunk(2, dim=2)
        return F.layer_norm(x, (self.dim,)) * (1 + scale) + shift


class CurvePredictor(nn.Module):
    """A number per frame from vectors per pair of frames."""

    def __init__(self, dim: int, style_dim: int, dropout: float):
        super().__init__()
        self.before = StyledBlock(dim, dim, style_dim, dropout=dropout)
        self.rise = RisingBlock(dim, dim // 2, style_dim, dropout=dropout)
        self.behind = StyledBlock(dim // 2, dim // 2, style_dim, dropout=dropout)
        self.out = nn.Conv1d(dim // 2, 1, 1)

    def forward(
        self, x: Float[Tensor, "b d h"], style: Float[Tensor, "b k"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b t"]:
        mask, fine = within(halved(lengths), x.shape[2]), within(lengths, 2 * x.shape[2])
        x = self.rise(self.before(x * mask[:, None], style, mask), style, mask, fine)
        return self.out(self.behind(x, style, fine))[:, 0] * fine


class ProsodyPredictor(nn.Module):
    """Durations from symbols, curves from symbols that lie on frames.

    ::

        text ─ prosody_layers × (LSTM ─ StyledLayerNorm ─ cat style) ─┬─ LSTM ─ Linear ─ durations
                                                                     └─ on frames ─ LSTM ─┬─ pitch
                                                                                          └─ energy
    """

    def __init__(self, sizes: StyleSizes):
        super().__init__()
        dim, style_dim = sizes.dim, sizes.style_dim
        both = dim + style_dim
        self.layers = nn.ModuleList(Recurrence(both, dim) for _ in range(sizes.prosody_layers))
        self.norms = nn.ModuleList(StyledLayerNorm(dim, style_dim) for _ in range(sizes.prosody_layers))
        self.dropout = nn.Dropout(sizes.dropout)
        self.lasting = Recurrence(both, dim)
        self.duration_dropout = nn.Dropout(sizes.duration_dropout)
        self.to_duration = nn.Linear(dim, 1)
        nn.init.constant_(self.to_duration.bias, FIRST_PAIRS)
        self.shared = Recurrence(both, dim)
        self.pitch = CurvePredictor(dim, style_dim, sizes.dropout)
        self.energy = CurvePredictor(dim, style_dim, sizes.dropout)

    def encode(
        self, text: Float[Tensor, "b s d"], style: Float[Tensor, "b k"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b s e"]:
        """Return symbols as they are to be said in a style, 0 beyond an item's end."""
        inside = within(lengths, text.shape[1])[..., None]
        beside = style[:, None].expand(-1, text.shape[1], -1)
        x = torch.cat([text, beside], dim=2) * inside
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = norm(self.dropout(layer(x, lengths)), style)
            x = torch.cat([x, beside], dim=2) * inside
        return x

    def durations(self, encoded: Float[Tensor, "b s e"], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b s"]:
        """Return durations in pairs of frames, as they come: of any sign."""
        return self.to_duration(self.duration_dropout(self.lasting(encoded, lengths)))[..., 0]

    def curves(
        self, encoded: Float[Tensor, "b h e"], style: Float[Tensor, "b k"], lengths: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t"]]:
        """Return standardised pitch and energy of each frame from symbols on pairs of frames; ``lengths`` in frames."""
        x = self.shared(encoded, halved(lengths)).mT
        return self.pitch(x, style, lengths), self.energy(x, style, lengths)
