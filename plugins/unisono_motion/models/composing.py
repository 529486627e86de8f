"""Composing: windows of tokens that are filled together, and motions that come out piece by piece.

A network sees ``max_tokens`` positions at a time. A longer span is filled window after window, each with the end
of the one before as frozen tokens, so that memory does not grow with its length. Where two captions meet, tokens
around the border are masked again and filled between frozen neighbours without a caption (MMM, arXiv:2312.03596,
§4.3). Tasks of one batch go in step: their current windows are filled in one decoding.

Tokens become features in pieces as well, with as much context on both sides as the decoder can see, and so
exactly as they would at once; pieces of motion go on where the last one ended.

Shapes: n token positions, q streams of tokens, t frames, d features.
"""

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from unisono.data import derive_seed
from unisono.masked import Canvas, cut
from unisono.masked.model import TaskWindow

from unisono_motion.models.request import Task
from unisono_motion.skeleton import Motion

OVERLAP = 4
"""A window begins with ``max_tokens // OVERLAP`` tokens of the one before."""


@dataclass(frozen=True)
class Window(TaskWindow):
    """Tokens to fill at once: what is known stays; see ``Condition`` for ``begins`` and ``ends``."""

    caption: str | None

    @property
    def begins(self) -> bool:
        return self.start == 0

    @property
    def ends(self) -> bool:
        return self.stop == len(self.task.tokens)


def windows(
    task: Task, limit: int, border: int, seed: int, kind: tuple[Any, ...]
) -> Generator[Window, Int[Tensor, "n q"], None]:
    """Yield the windows of a task one after the other; the filled tokens of each are to be sent back.

    ``limit`` is the longest window, ``border`` how many positions are made anew on each side of a border, ``kind``
    what `MaskedModel.settings` makes of the request.
    """
    count = 0

    def fill(start: int, stop: int, caption: str | None) -> Generator[Window, Int[Tensor, "n q"], None]:
        nonlocal count
        if not task.known[start:stop].all():
            count += 1
            task.tokens[start:stop] = yield Window(task, start, stop, derive_seed(seed, count), kind, caption)
            task.known[start:stop] = True

    for index, span in enumerate(task.spans):
        last_span = index + 1 == len(task.spans)
        for start, stop in cut(span.start, span.stop, limit, limit // OVERLAP):
            yield from fill(start, stop, span.caption)
            if index and start == span.start and border:
                before = task.spans[index - 1]
                left = min(border, (before.stop - before.start) // 3)
                right = min(border, (stop - start) // 3)
                if left + right:
                    anew = slice(span.start - left, span.start + right)
                    task.known[anew] &= task.frozen[anew]
                    context = (limit - left - right) // 2
                    low = max(before.start, span.start - left - context)
                    yield from fill(low, min(stop, span.start + right + context), None)
            task.final = max(task.final, stop if last_span else min(stop, span.stop - border))
    task.final = len(task.tokens)


class Composition:
    """A motion under way: the windows of its task, and what of it is final, as `unisono.masked.model.Task` has it."""

    def __init__(self, model: Any, task: Task, seed: int):
        self.model, self.task, self.seed = model, task, seed
        self.unroller = Unroller(model.tokenizer, task, model.max_tokens)

    @property
    def total(self) -> int:
        """Token positions."""
        return len(self.task.tokens)

    @property
    def done(self) -> int:
        return self.task.final

    def runs(self) -> list[Generator[Window, Int[Tensor, "n q"], None]]:
        tokenizer, limit = self.model.tokenizer, self.model.max_tokens
        half = self.task.request.transition * tokenizer.spec.fps / tokenizer.downsampling / 2
        kind = self.model.settings(self.task.request)
        return [windows(self.task, limit, min(round(half + 0.25), limit // 4), self.seed, kind)]

    def pieces(self) -> Iterator[Motion]:
        return self.unroller.pieces()

    def whole(self) -> Motion:
        return Motion.join(list(Unroller(self.model.tokenizer, self.task, self.model.max_tokens).pieces()))

    def view(self, canvas: Canvas, row: int) -> None:
        """A motion is shown when it is whole."""


class Unroller:
    """Turns tokens into motion, piece by piece, each going on where the last one ended."""

    def __init__(self, tokenizer: Any, task: Task, limit: int):
        self.tokenizer, self.task, self.limit = tokenizer, task, limit
        self.context = context_of(tokenizer)
        self.done = 0
        self.heading = 0.0
        self.root: np.ndarray | None = None
        self.last: Tensor | None = None

    def pieces(self) -> Iterator[Motion]:
        """Yield what the task's final tokens allow that has not been yielded yet."""
        length = len(self.task.tokens)
        while self.done < length:
            stop = min(self.done + self.limit, length)
            ahead = self.task.final if self.task.final == length else self.task.final - self.context
            stop = min(stop, ahead)
            if length - stop < 2:
                stop = length if ahead == length else min(stop, length - 2)
            if stop <= self.done:
                return
            yield self._place(self._features(self.done, stop))
            self.done = stop

    def _features(self, start: int, stop: int) -> Float[Tensor, "t d"]:
        down, length = self.tokenizer.downsampling, len(self.task.tokens)
        low, high = max(0, start - self.context), min(length, stop + self.context)
        tokens = self.task.tokens[None, low:high].to(self.tokenizer.device)
        frames = min(high * down, self.task.frames) - low * down
        made = self.tokenizer.decode(tokens, torch.tensor([frames]))[0].cpu()
        return made[(start - low) * down : min(stop * down, self.task.frames) - low * down]

    def _place(self, features: Float[Tensor, "t d"]) -> Motion:
        spec = self.tokenizer.spec
        joined = features if self.last is None else torch.cat([self.last, features])
        self.last = features[-1:]
        made = spec.decode(joined, self.task.caption)
        turns = -2 * joined[:-1, spec.slices["turn"]].double().sum().item()
        if self.root is None:
            positions, rotations = made.positions, made.local_rotations
        else:
            sine, cosine = math.sin(self.heading), math.cos(self.heading)
            turned = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
            positions = made.positions[1:].astype(np.float64) @ turned.T + self.root * [1, 0, 1]
            rotations = made.local_rotations[1:].astype(np.float64)
            rotations[:, 0] = turned @ rotations[:, 0]
        self.heading += turns
        self.root = positions[-1, 0].astype(np.float64)
        return Motion(
            positions.astype(np.float32), spec.skeleton, spec.fps, rotations.astype(np.float32), self.task.caption
        )


def context_of(tokenizer: Any) -> int:
    """Return how many positions to either side a frame's features depend on, at most.

    Counted over the decoder's convolutions of ``codec.py``, in units of token positions.
    """
    stages = tokenizer.downsampling.bit_length() - 1
    reach = 1.0 + 2.0 / tokenizer.downsampling
    for stage in range(stages):
        blocks = sum(tokenizer.network.dilation_growth**i for i in range(tokenizer.network.depth))
        reach += blocks / 2**stage + 1 / 2 ** (stage + 1)
    return math.ceil(reach) + 1
