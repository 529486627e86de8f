"""Fill a canvas: steps (`unisono.masked.run.step`) by an executor (`unisono.masked.run.execute`) until it is complete.

Letters: b batch, l positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from unisono.checks import fault_of, is_whole
from unisono.errors import UnisonoError
from unisono.masked.canvas import Canvas
from unisono.masked.run.execute import OnStep, one_by_one, sync, unrolled
from unisono.masked.run.handle import Handle
from unisono.masked.run.step import check_logits
from unisono.masked.strategy import Strategy


@dataclass(frozen=True, eq=False)
class Decoded:
    """What came out, and what it cost.

    `nfe` counts batched evaluations, `positions` what they computed over all rows, `steps` the steps of
    each row, `age` the step at which each token was committed (−1: given).
    """

    tokens: Int[Tensor, "b l"]
    nfe: int
    positions: int
    steps: Int[Tensor, " b"]
    age: Int[Tensor, "b l"]
    canvas: Canvas


def decode(
    model: Any,
    canvas: Canvas,
    strategy: Strategy,
    on_step: OnStep | None = None,
    max_steps: int | None = None,
    executor: Any = None,
) -> Decoded:
    """Fill the canvas with a model (see `unisono.masked.run.handle`) by a strategy.

    `on_step` gets the canvas after every step, for previews. At the last of `max_steps` everything left is
    committed at once. `executor` defaults to `unrolled` for strategies whose steps are known beforehand,
    on another device than a CPU, else `sync`; every executor gives the same tokens.

    Raises:
        UnisonoError: if the model's logits are NaN or infinite where a token is needed, or if steps pass in
            which nothing is committed.
    """
    handle = _begin(model, canvas, strategy, max_steps)
    nfe, positions = handle.nfe, handle.positions
    if executor is None:
        # On a CPU a look at the canvas waits for nothing, and costs less than a rehearsal.
        executor = unrolled if strategy.static and canvas.tokens.device.type != "cpu" else sync
    with torch.no_grad():
        done = executor(handle, canvas, strategy, on_step, max_steps)
    check_logits(done)
    return Decoded(done.tokens, handle.nfe - nfe, handle.positions - positions, done.step, done.age, done)


def steps(model: Any, canvas: Canvas, strategy: Strategy, max_steps: int | None = None) -> Iterator[Canvas]:
    """Fill the canvas as `decode` does, and yield it after each step; the last one is complete.

    For streams and live views, whose consumer says when the next step is taken. Hand over a `Handle` to read the
    bill. Nothing is yielded where nothing is to be filled. Raises as `decode` does.
    """
    return one_by_one(_begin(model, canvas, strategy, max_steps), canvas, strategy, max_steps)


def _begin(model: Any, canvas: Canvas, strategy: Strategy, max_steps: int | None) -> Handle:
    if max_steps is not None and not is_whole(max_steps, 1):
        raise UnisonoError(
            f"max_steps {max_steps!r}: give a whole number of at least 1, or None",
            code=fault_of(max_steps, whole=True),
            path="max_steps",
            value=max_steps,
        )
    strategy.check(canvas.layout)
    handle = model if isinstance(model, Handle) else Handle(model)
    for part in (handle.model, strategy.guide):
        begin = getattr(part, "begin", None)
        if begin is not None:
            begin(canvas)  # a cache forgets the canvas before
    return handle
