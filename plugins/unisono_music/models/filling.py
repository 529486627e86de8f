"""Filling: a grid under way, window after window, and the score that comes of it.

A network sees ``max_bars`` bars at a time. A longer grid is filled in windows that overlap: a window begins with the
end of the one before, which is known by then. Pieces of a stream are whole bars.

Shapes: s steps, n steps of a window, q voices.
"""

from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
from einops import rearrange
from jaxtyping import Int
from torch import Tensor
from unisono.data import derive_seed
from unisono.masked import Canvas, cut
from unisono.masked.model import TaskWindow

from unisono_music.models.request import Asked
from unisono_music.scores import SILENCE, Grid, Score, changes

OVERLAP = 4
"""A window begins with a fourth of the bars of the one before."""


class GridFilling:
    """A request under way, as `unisono.masked.model.Task` has it."""

    def __init__(self, model: Any, asked: Asked, seed: int):
        self.model, self.asked, self.seed = model, asked, seed
        self.total, self.done = len(asked.tokens), 0
        self.told = 0
        self.window: TaskWindow | None = None

    def runs(self) -> list[Generator[TaskWindow, Int[Tensor, "n q"], None]]:
        return [self._run()]

    def _run(self) -> Generator[TaskWindow, Int[Tensor, "n q"], None]:
        size, limit = self.model.facts.steps_per_bar, self.model.max_bars
        kind = self.model.settings(self.asked.request)
        for number, (first, last) in enumerate(cut(0, self.total // size, limit, limit // OVERLAP)):
            start, stop = first * size, last * size
            if not bool(self.asked.known[start:stop].all()):
                self.window = TaskWindow(self.asked, start, stop, derive_seed(self.seed, number), kind)
                self.asked.tokens[start:stop] = yield self.window
                self.asked.known[start:stop] = True
            self.done = stop

    def pieces(self) -> Iterator[Score]:
        if self.done > self.told:
            yield self._score(self.told, self.done)
            self.told = self.done

    def whole(self) -> Score:
        return self._score(0, self.total)

    def view(self, canvas: Canvas, row: int) -> Score:
        """The whole as far as it is known, with silence where it is not."""
        assert self.window is not None
        start, stop = self.window.start, self.window.stop
        tokens, known = self.asked.tokens.clone(), self.asked.known.clone()
        for whole, own in ((tokens, canvas.tokens), (known, canvas.known)):
            whole[start:stop] = rearrange(own[row].cpu(), "(n q) -> n q", q=tokens.shape[1])[: stop - start]
        grid = self.model.coding.decode(tokens)
        pitch = np.where(known.T.numpy(), grid.pitch, SILENCE)
        return self.asked.score(Grid(pitch, (grid.onset | changes(pitch)) & (pitch != SILENCE)))

    def _score(self, start: int, stop: int) -> Score:
        """The steps [start, stop): a note that goes on across a border of pieces is cut there."""
        whole = self.asked.score(self.model.coding.decode(self.asked.tokens))
        return whole if (start, stop) == (0, self.total) else whole.cut(start, stop)
