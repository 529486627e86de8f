"""Pieces: the grids of a batch as words, with the bar, the automaton's state and the target of each.

Shapes: n pieces, k tracks, p steps of a bar, s bars, t words of the longest track, v words of the vocabulary. Masks are
True where kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Int
from torch import Tensor

from unisono_music.models.band.grammar import Grammar
from unisono_music.models.band.words import BAR, EMPTY
from unisono_music.scores import Grid


@dataclass(frozen=True, eq=False)
class Pieces:
    """A batch of pieces. Pitches count from each track's lowest one.

    words: that are read, each track's from ``Edge`` on.
    targets: what follows each.
    legal: what may follow each.
    there: words that are no padding.
    bars: in which bar each word is.
    openings: where each bar's first word stands; 0 for bars that a piece does not have.
    kept: bars that a piece has.
    pitch, onset: the same as steps of bars; silence behind the end.
    sounding: steps that a piece has.
    """

    words: Int[Tensor, "k n t"]
    targets: Int[Tensor, "k n t"]
    legal: Bool[Tensor, "k n t v"]
    there: Bool[Tensor, "k n t"]
    bars: Int[Tensor, "k n t"]
    openings: Int[Tensor, "k n s"]
    kept: Bool[Tensor, "n s"]
    pitch: Int[Tensor, "k n s p"]
    onset: Bool[Tensor, "k n s p"]
    sounding: Bool[Tensor, "n s p"]

    @property
    def steps(self) -> Int[Tensor, " n"]:
        """How many steps each piece has."""
        return self.sounding.flatten(1).sum(1)

    def to(self, device: torch.device) -> "Pieces":
        """Return the same on a device."""
        return Pieces(**{name: value.to(device) for name, value in vars(self).items()})


def pieces_of(grids: Sequence[Grid], lowest: Sequence[int], grammar: Grammar, allowed: Bool[Tensor, "k v"]) -> Pieces:
    """Return grids as words; raises ``ValueError`` for a pitch outside of its track's range."""
    vocabulary, size = grammar.words, grammar.words.bar_steps
    k, n = len(lowest), len(grids)
    rows: list[list[Tensor]] = []
    num_bars = [-(-grid.pitch.shape[1] // size) for grid in grids]
    pitch = np.full((k, n, max(num_bars) * size), -1, dtype=np.int64)
    onset = np.zeros(pitch.shape, dtype=bool)
    sounding = np.zeros((n, pitch.shape[2]), dtype=bool)
    for number, grid in enumerate(grids):
        steps = grid.pitch.shape[1]
        relative = np.where(grid.pitch < 0, -1, grid.pitch - np.array(lowest)[:, None])
        if (relative < -1).any():
            raise ValueError(f"a pitch below the lowest of its track, {list(lowest)}")
        pitch[:, number, :steps], onset[:, number, :steps], sounding[number, :steps] = relative, grid.onset, True
        rows.append([torch.tensor(vocabulary.encode(*track)) for track in zip(relative, grid.onset, strict=True)])
    flat = [rows[number][track] for track in range(k) for number in range(n)]
    words = torch.nn.utils.rnn.pad_sequence(flat, batch_first=True).unflatten(0, (k, n))
    there = torch.zeros(words.shape, dtype=torch.bool)
    for track in range(k):
        for number in range(n):
            there[track, number, : len(rows[number][track])] = True
    begins = ((words == BAR) | (words == EMPTY)) & there
    bars = begins.cumsum(-1) - 1
    openings = torch.zeros(k, n, max(num_bars), dtype=torch.int64)
    track, number, place = begins.nonzero(as_tuple=True)
    openings[track, number, bars[track, number, place]] = place
    counts = torch.tensor(num_bars)
    size_of = torch.full((n, max(num_bars)), size)
    for number, grid in enumerate(grids):
        size_of[number, num_bars[number] - 1] = grid.pitch.shape[1] - (num_bars[number] - 1) * size
    length = size_of[torch.arange(n)[None, :, None], bars.clamp(min=0)]
    state = grammar.states(words, length)
    legal = grammar.legal((bars + 1 == counts[:, None])[..., :-1], length[..., :-1], state[..., :-1])
    return Pieces(
        words[..., :-1],
        words[..., 1:],
        legal & allowed[:, None, None].cpu(),
        there[..., 1:],
        bars.clamp(min=0)[..., :-1],
        openings,
        torch.arange(max(num_bars)) < counts[:, None],
        torch.from_numpy(rearrange(pitch, "k n (s p) -> k n s p", p=size)),
        torch.from_numpy(rearrange(onset, "k n (s p) -> k n s p", p=size)),
        torch.from_numpy(rearrange(sounding, "n (s p) -> n s p", p=size)),
    )
