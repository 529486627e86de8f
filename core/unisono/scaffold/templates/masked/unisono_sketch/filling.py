"""Filling: a request under way, all of its tokens in one window.

A model whose rows are longer than its network sees yields several windows, one after the other.
"""

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from unisono.masked import Canvas

from unisono_sketch.media import OPEN, TokenRow
from unisono_sketch.request import SketchRequest

if TYPE_CHECKING:
    from unisono_sketch.model import Sketch


class Filling:
    """Both the task (``total``, ``done``, ``runs`` …) and its only window (``tokens``, ``known``, ``seed`` …).

    ``tokens`` and ``known`` are [n, 1]: one stream; ``known`` is True where a token is given.
    """

    def __init__(self, model: "Sketch", request: SketchRequest, seed: int):
        self.request, self.seed, self.kind = request, seed, model.settings(request)
        self.pattern = model.pattern_number(request.pattern)
        self.start, self.stop = 0, request.length
        self.tokens = torch.zeros(request.length, 1, dtype=torch.int64)
        self.known = torch.zeros_like(self.tokens, dtype=torch.bool)
        self.tokens[: len(request.given), 0] = torch.tensor(request.given, dtype=torch.int64)
        self.known[: len(request.given)] = True
        self.total, self.done, self.told = request.length, 0, False

    def runs(self) -> list[Generator[Any, Tensor, None]]:
        """Return the one run, which yields the one window and is sent its filled tokens."""
        return [self._run()]

    def _run(self) -> Generator[Any, Tensor, None]:
        self.tokens = yield self
        self.done = self.total

    def pieces(self) -> Iterator[TokenRow]:
        """Yield the row once, when it is filled."""
        if self.done and not self.told:
            self.told = True
            yield self.whole()

    def whole(self) -> TokenRow:
        """Return the filled row."""
        return TokenRow(tuple(self.tokens[:, 0].tolist()))

    def view(self, canvas: Canvas, row: int) -> TokenRow:
        """Return the row as it is in a canvas under way."""
        tokens = torch.where(canvas.known[row], canvas.tokens[row], OPEN)
        return TokenRow(tuple(tokens[: self.total].tolist()))
