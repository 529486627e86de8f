"""Token painting: a request for a picture under way, all of its tokens in one window.

Shapes: n tokens, s pixels a side.
"""

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from unisono import Image
from unisono.masked import Canvas

from unisono_image.models.token_request import TokenTask, frozen_tokens

if TYPE_CHECKING:
    from unisono_image.models.token_generator import TokenGenerator

GREY = 0.5
"""What is not known yet looks so in live views."""


class Painting:
    """Both the task (``total``, ``done``, ``runs`` …) and its only window (``tokens``, ``known``, ``seed`` …).

    ``tokens`` and ``known`` are [n, 1]: one stream; ``known`` is True where a token is the given picture's.
    """

    def __init__(self, model: "TokenGenerator", task: TokenTask, seed: int):
        self.model, self.task, self.request, self.seed = model, task, task.request, seed
        self.label, self.caption = task.label, task.caption
        self.kind: tuple[Any, ...] = model.settings(task.request)
        rows, columns = model.grid
        self.start, self.stop = 0, rows * columns
        self.tokens = torch.zeros(self.stop, 1, dtype=torch.int64)
        self.known = torch.zeros_like(self.tokens, dtype=torch.bool)
        if task.pixels is not None and task.mask is not None:
            self.known[:, 0] = frozen_tokens(task.mask, model.grid)
            picture = torch.from_numpy(task.pixels).to(model.device).float()[None] / 127.5 - 1
            own = model.tokenizer.tokens(picture)[0].cpu()
            self.tokens[:, 0] = torch.where(self.known[:, 0], own, 0)
        self.total, self.done, self.told = int((~self.known).sum()), 0, False

    def runs(self) -> list[Generator[Any, Tensor, None]]:
        """Return the one run, which yields the one window and is sent its filled tokens."""
        return [self._run()]

    def _run(self) -> Generator[Any, Tensor, None]:
        self.tokens = yield self
        self.done = self.total

    def pieces(self) -> Iterator[Image]:
        """Yield the picture once, when its tokens are filled."""
        if self.done and not self.told:
            self.told = True
            yield self.whole()

    def whole(self) -> Image:
        """Return the picture of the filled tokens."""
        return Image(self._kept(self.model.pictures_of(self.tokens[None, :, 0])[0]))

    def view(self, canvas: Canvas, row: int) -> Image | None:
        """Return the picture of the tokens that are known in a canvas under way; the others' squares are grey."""
        known = canvas.known[row, : self.stop]
        if known.all():
            return None  # the output comes next
        pixels = self.model.pictures_of(canvas.tokens[row, None, : self.stop])[0]
        rows, columns = self.model.grid
        side = pixels.shape[1] // rows, pixels.shape[2] // columns
        open_ = ~known.cpu().numpy().reshape(rows, columns).repeat(side[0], 0).repeat(side[1], 1)
        return Image(self._kept(np.where(open_, np.float32(GREY), pixels)))

    def _kept(self, pixels: np.ndarray) -> np.ndarray:
        """Lay the given picture's pixels over those outside of the mask, where that is asked for."""
        given, mask = self.task.pixels, self.task.mask
        if given is None or mask is None or not self.request.keep_pixels:
            return pixels
        return np.where(mask, pixels, given.astype(np.float32) / 255)
