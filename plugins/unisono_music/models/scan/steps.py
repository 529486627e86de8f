"""Steps: pieces as the tokens of each step, and where each step stands in its piece.

Shapes: b batch, n steps, q voices. Masks are True where a step is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from unisono_music.corpus import ScoreFacts
from unisono_music.models.tokens import batch_tokens

BARS_TO_END = 3
"""What is told of the end: the last bar, the one before, any other."""
PLACES = 2 * BARS_TO_END
"""What is told of a bar: whether it is the first one of the piece, and how many follow."""


@dataclass(frozen=True, eq=False)
class Steps:
    """``tokens`` [b, n, q]; ``place`` within the bar; ``bar``: the first one or not, and how near the end is."""

    tokens: Int[Tensor, "b n q"]
    place: Int[Tensor, "b n"]
    bar: Int[Tensor, "b n"]
    length: Int[Tensor, " b"]

    @property
    def mask(self) -> Bool[Tensor, "b n"]:
        """Which steps are no padding."""
        return torch.arange(self.tokens.shape[1], device=self.tokens.device) < self.length[:, None]

    def cut(self, start: int, stop: int) -> "Steps":
        """Return the steps [start, stop) of all rows."""
        length = (self.length - start).clamp(0, stop - start)
        return Steps(self.tokens[:, start:stop], self.place[:, start:stop], self.bar[:, start:stop], length)


def whole_bars(num_steps: int, size: int, begins: bool = True, ends: bool = True) -> tuple[Tensor, Tensor]:
    """Return ``place`` and ``bar`` of a piece of bars of ``size`` steps, the last of which may be shorter."""
    return _where(np.append(np.arange(0, num_steps, size), num_steps), size, begins, ends)


def read_steps(batch: dict[str, Any], facts: ScoreFacts, device: torch.device) -> Steps:
    """Return the pieces of a batch, as `ScoreData` collates it."""
    lowest = torch.tensor([voice.lowest for voice in facts.voices])
    notes, lengths = batch["notes"].cpu(), batch["steps"].tolist()
    tokens = [batch_tokens(own, n, lowest, facts.repeats) for own, n in zip(notes, lengths, strict=True)]
    told = []
    for row, bars in enumerate(batch["bars"].cpu().numpy()):
        begins, ends = bool(batch["begins"][row]), bool(batch["ends"][row])
        told.append(_where(bars[bars >= 0], facts.steps_per_bar, begins, ends))
    place, bar = zip(*told, strict=True)
    return pad_steps(tokens, place, bar, device)


def pad_steps(
    tokens: Sequence[Int[Tensor, "n q"]],
    place: Sequence[Int[Tensor, " n"]],
    bar: Sequence[Int[Tensor, " n"]],
    device: torch.device,
) -> Steps:
    """Return pieces side by side."""
    padded = (nn.utils.rnn.pad_sequence(list(rows), batch_first=True).to(device) for rows in (tokens, place, bar))
    return Steps(*padded, length=torch.tensor([len(row) for row in tokens], device=device))


def _where(bars: Int[np.ndarray, " m+1"], size: int, begins: bool, ends: bool) -> tuple[Tensor, Tensor]:
    lengths = np.diff(bars)
    which = np.repeat(np.arange(len(lengths)), lengths)
    place = np.minimum(np.arange(len(which)) - bars[:-1][which], size - 1)
    left = np.minimum(len(lengths) - 1 - which, BARS_TO_END - 1) if ends else np.full(len(which), BARS_TO_END - 1)
    bar = left + BARS_TO_END * ((which == 0) & begins)
    return torch.from_numpy(place.astype(np.int64)), torch.from_numpy(bar.astype(np.int64))
