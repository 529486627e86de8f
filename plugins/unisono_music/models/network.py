"""Grid network: sees a partly known grid of voices over time, its bars and controls, and predicts every cell.

A transformer over the steps, whose input is the sum of what all voices hold there. Local patterns are read by
depthwise convolutions in front of each block.

Shapes: b batch, n steps, q voices, d channels, v vocabulary. Masks are True where kept.
"""

from dataclasses import dataclass, fields

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from unisono.nn.convnext import ConvNeXtBlock
from unisono.nn.fft import sinusoids
from unisono.nn.transformer import Block

from unisono_music.models.sizes import GridSizes
from unisono_music.scores import CHORDS, DENSEST, PITCH_BINS

KERNEL = 9
UNTOLD = 0
"""The value of a control that is not told; others are one more than they are measured as."""


@dataclass(frozen=True, eq=False)
class GridCondition:
    """What is told of each step, and of the whole.

    ``place`` [b, n] is the step within its bar; ``chord`` [b, n], ``density`` and ``register`` [b, n, q] are controls,
    0 where they are not told, else one more than their number; ``length`` [b] is in steps; ``begins`` and ``ends`` [b]
    say whether the steps have the piece's beginning and end.
    """

    place: Int[Tensor, "b n"]
    chord: Int[Tensor, "b n"]
    density: Int[Tensor, "b n q"]
    register: Int[Tensor, "b n q"]
    length: Int[Tensor, " b"]
    begins: Bool[Tensor, " b"]
    ends: Bool[Tensor, " b"]

    def rows(self, index: Int[Tensor, " k"]) -> "GridCondition":
        """Some rows, in any order."""
        return GridCondition(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def untold(self) -> "GridCondition":
        """The same without controls: what guidance leads away from."""
        kept = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("chord", "density", "register"):
            kept[name] = torch.zeros_like(kept[name])
        return GridCondition(**kept)


class GridNetwork(nn.Module):
    """::

        tokens, known ─ Σ over voices ─┐
        place in the bar, chord ───────┤
        density, register of voices ───┼─ (conv ─ block) × num_layers ─ norm ─ a linear per voice ─ logits
        distance to begin and end ─────┘

    Args:
        sizes_of_voices: tokens of each voice.
        steps_per_bar: the longest bar.
    """

    def __init__(self, sizes_of_voices: list[int], steps_per_bar: int, sizes: GridSizes):
        super().__init__()
        dim, q = sizes.dim, len(sizes_of_voices)
        self.dim, self.num_voices, self.vocabulary = dim, q, max(sizes_of_voices)
        self.embedding = nn.Embedding(q * (self.vocabulary + 1), dim)
        self.place = nn.Embedding(steps_per_bar, dim)
        self.chord = nn.Embedding(len(CHORDS) + 1, dim)
        self.density = nn.Embedding(q * (DENSEST + 2), dim)
        self.register = nn.Embedding(q * (PITCH_BINS + 1), dim)
        for table in (self.embedding, self.place, self.chord, self.density, self.register):
            nn.init.normal_(table.weight, std=0.3)
        self.from_begin, self.from_end = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.convs = nn.ModuleList(
            ConvNeXtBlock(dim, dim, KERNEL, dropout=sizes.dropout) for _ in range(sizes.num_layers)
        )
        self.blocks = nn.ModuleList(Block(dim, sizes.num_heads, sizes.dropout) for _ in range(sizes.num_layers))
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(sizes.dropout)
        self.to_logits = nn.Linear(dim, q * self.vocabulary)

    def forward(
        self, tokens: Int[Tensor, "b n q"], known: Bool[Tensor, "b n q"], condition: GridCondition
    ) -> Float[Tensor, "b n q v"]:
        """Return the logits of every cell. Steps from a row's ``length`` on are padding: seen by nobody."""
        n = tokens.shape[1]
        voice = torch.arange(self.num_voices, device=tokens.device)
        x = self.embedding(torch.where(known, tokens, self.vocabulary) + voice * (self.vocabulary + 1)).sum(2)
        x = x + self.place(condition.place) + self.chord(condition.chord)
        x = x + self.density(condition.density + voice * (DENSEST + 2)).sum(2)
        x = x + self.register(condition.register + voice * (PITCH_BINS + 1)).sum(2)
        x = self.dropout(x + self._distances(condition, n).to(x.dtype))
        mask = torch.arange(n, device=x.device) < condition.length[:, None]
        for conv, block in zip(self.convs, self.blocks, strict=True):
            x = block(conv(x, mask), mask)
        return rearrange(self.to_logits(self.norm(x)), "b n (q v) -> b n q v", q=self.num_voices)

    def _distances(self, condition: GridCondition, n: int) -> Float[Tensor, "b n d"]:
        """What tells how far the beginning and the end of the piece are, where they are among the steps."""
        code = sinusoids(n, self.dim, condition.length.device)
        back = (condition.length[:, None] - 1 - torch.arange(n, device=code.device)).clamp(min=0)
        begun = self.from_begin(code.to(self.from_begin.weight.dtype)) * condition.begins[:, None, None]
        ended = self.from_end(code.to(self.from_end.weight.dtype))[back] * condition.ends[:, None, None]
        return code + begun + ended
