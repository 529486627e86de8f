"""Tokens: a voice's pitch at a step as one number, and back.

    without repeats   0 silence · 1 + (pitch - lowest)
    with repeats      0 silence · 1 + 2 (pitch - lowest) where it is struck, one more where it is held

Data that cannot tell a repeat from a note that is held has the first form, in which equal pitches side by side are one
note. In the second, a held pitch behind another one, or behind silence, is read as struck.

Shapes: v voices, s steps; tokens are [s, v], as canvases have them.
"""

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from unisono.errors import RequestError

from unisono_music.corpus import ScoreFacts
from unisono_music.scores import SILENCE, Grid, changes


class Coding:
    """The tokens of the voices of some facts."""

    def __init__(self, facts: ScoreFacts):
        self.voices, self.repeats = facts.voices, facts.repeats
        self.lowest = np.array([voice.lowest for voice in facts.voices])[:, None]
        self.highest = np.array([voice.highest for voice in facts.voices])[:, None]
        self.sizes = [1 + voice.num_pitches * (2 if facts.repeats else 1) for voice in facts.voices]

    def encode(self, grid: Grid, field: str = "score") -> Int[Tensor, "s v"]:
        """Return a grid's tokens; raises ``RequestError`` for a pitch outside of its voice's range, of that field."""
        pitch, sounding = grid.pitch, grid.pitch != SILENCE
        wrong = sounding & ((pitch < self.lowest) | (pitch > self.highest))
        if wrong.any():
            row, step = (int(x) for x in np.argwhere(wrong)[0])
            voice = self.voices[row]
            raise RequestError(
                f"{voice.name} has the pitch {pitch[row, step]} at step {step}: this model knows {voice.lowest} to "
                f"{voice.highest} for it; transpose it, or give it to another voice",
                code="range",
                path=field,
                value=int(pitch[row, step]),
            )
        steps = pitch - self.lowest
        own = 1 + 2 * steps + ~grid.onset if self.repeats else 1 + steps
        return torch.from_numpy(np.where(sounding, own, 0).T.astype(np.int64))

    def decode(self, tokens: Int[Tensor, "s v"]) -> Grid:
        """Return the grid of tokens."""
        own = tokens.T.numpy()
        sounding = own > 0
        if not self.repeats:
            return Grid.of_pitches(np.where(sounding, own - 1 + self.lowest, SILENCE))
        steps, held = np.divmod(own - 1, 2)
        pitch = np.where(sounding, steps + self.lowest, SILENCE)
        return Grid(pitch, sounding & ((held == 0) | changes(pitch)))


def batch_tokens(
    notes: Int[Tensor, "n 5"], num_steps: int, lowest: Int[Tensor, " v"], repeats: bool
) -> Int[Tensor, "s v"]:
    """Return the tokens of an item's notes (track, onset, duration, pitch, velocity), of which -1 is padding.

    As `Coding.encode` of its grid, on a batch's own rows, without objects for notes.
    """
    notes = notes[notes[:, 0] >= 0]
    tokens = torch.zeros(num_steps, len(lowest), dtype=torch.int64, device=notes.device)
    track, onset, duration, pitch, _ = notes.unbind(1)
    count = int(duration.sum())
    which = torch.repeat_interleave(torch.arange(len(notes), device=notes.device), duration, output_size=count)
    into = torch.arange(count, device=notes.device) - torch.repeat_interleave(duration.cumsum(0) - duration, duration)
    steps = pitch[which] - lowest[track[which]]
    tokens[onset[which] + into, track[which]] = 1 + 2 * steps + (into > 0) if repeats else 1 + steps
    return tokens
