"""Execution: how the steps of a strategy are run; every executor gives the same tokens, cost and latency differ.

- `sync`: one step after the other, with a look at the canvas in between
- `unrolled`: the steps are rehearsed on counts alone, then run without waiting for the device once
- `Compact`: rows leave the batch when they are done, first done first out

An executor is ``(handle, canvas, strategy, on_step, max_steps) -> canvas``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unisono.errors import UnisonoError
from unisono.masked.canvas import Canvas
from unisono.masked.run.handle import Handle
from unisono.masked.run.step import check_logits, finished, step
from unisono.masked.strategy import Strategy
from unisono.stopping import may_stop

OnStep = Callable[[Canvas], None]


def sync(
    handle: Handle, canvas: Canvas, strategy: Strategy, on_step: OnStep | None = None, max_steps: int | None = None
) -> Canvas:
    """Step until every row is done, looking after each step."""
    done = canvas
    for done in one_by_one(handle, canvas, strategy, max_steps):
        if on_step is not None:
            on_step(done)
    return done


def one_by_one(handle: Handle, canvas: Canvas, strategy: Strategy, max_steps: int | None = None) -> Iterator[Canvas]:
    """Yield the canvas after each step of `sync`."""
    done = 0
    while done != max_steps and not bool(finished(canvas, strategy).all()):
        may_stop()
        _check_progress(canvas, strategy, done, max_steps)
        with torch.no_grad():  # a generator leaves its caller's mode alone
            canvas = step(handle, canvas, strategy, force=done + 1 == max_steps)
        check_logits(canvas)
        done += 1
        yield canvas


def unrolled(
    handle: Handle, canvas: Canvas, strategy: Strategy, on_step: OnStep | None = None, max_steps: int | None = None
) -> Canvas:
    """Run the steps that `rehearse` found, without a look in between.

    Raises:
        UnisonoError: for a strategy whose steps depend on what the model says.
    """
    if not strategy.static:
        raise UnisonoError(
            f"{strategy.name}: its steps depend on the model, so they cannot be unrolled; use sync",
            code="unsupported",
            path="strategy",
            value=strategy.name,
        )
    widths = rehearse(canvas, strategy)
    for i, width in enumerate(widths[:max_steps]):
        may_stop()
        last = i + 1 == max_steps
        canvas = step(handle, canvas, strategy, width=canvas.layout.length if last else width, force=last)
        if on_step is not None:
            on_step(canvas)
    return canvas


def rehearse(canvas: Canvas, strategy: Strategy) -> list[int]:
    """For each step of a static strategy, the most positions at which any row draws; found on counts alone."""
    canvas = replace(
        canvas,
        **{
            name: getattr(canvas, name).cpu() for name in ("tokens", "known", "frozen", "age", "step", "seed", "length")
        },
        layout=canvas.layout.to("cpu"),
        memo={key: value.cpu() for key, value in canvas.memo.items() if key.startswith("plan.")},
    )
    widths = []
    while bool(canvas.masked.any()):
        memo = dict(canvas.memo)
        planned = strategy.plan(canvas, memo)
        widths.append(int((planned.window.sum(1) if strategy.uses_draw else planned.count).max()))
        chosen = planned.window & (planned.window.cumsum(1) <= planned.count[:, None])
        canvas = replace(canvas.commit(chosen, canvas.tokens), memo=memo, step=canvas.step + 1)
    return widths


@dataclass(frozen=True)
class Compact:
    """Drop rows that are done and go on with the others: `positions` falls, and each is reported at once.

    `on_rows` gets the numbers of the rows that have just been done and their tokens. The model must have
    ``rows(index)``, or be wrapped in `Unconditional`. `on_step` sees the whole batch.
    """

    on_rows: Callable[[Tensor, Tensor], None] | None = None

    def __call__(
        self,
        handle: Handle,
        canvas: Canvas,
        strategy: Strategy,
        on_step: OnStep | None = None,
        max_steps: int | None = None,
    ) -> Canvas:
        whole, done = canvas, 0
        index = torch.arange(len(canvas.step), device=canvas.step.device)
        while True:
            over = finished(canvas, strategy)
            left = (~over).nonzero()[:, 0]
            if len(left) < len(index):
                if self.on_rows is not None:
                    self.on_rows(index[over], canvas.tokens[over])
                if not len(left):
                    return whole
                index, canvas = index[left], canvas.rows(left)
                handle, strategy = handle.rows(left), strategy.rows(left)
            if done == max_steps or not len(index):
                return whole
            may_stop()
            _check_progress(canvas, strategy, done, max_steps)
            canvas = step(handle, canvas, strategy, force=done + 1 == max_steps)
            check_logits(canvas)
            done += 1
            whole = _merge(whole, canvas, index)
            if on_step is not None:
                on_step(whole)


def _merge(whole: Canvas, part: Canvas, index: Tensor) -> Canvas:
    names = ("tokens", "known", "age", "step")
    return replace(whole, **{name: getattr(whole, name).index_copy(0, index, getattr(part, name)) for name in names})


def _check_progress(canvas: Canvas, strategy: Strategy, done: int, max_steps: int | None) -> None:
    """Raise if more steps were taken than the strategy could have meant to."""
    if max_steps is not None:
        return
    num_steps = getattr(strategy.plan.count, "num_steps", 1)
    if isinstance(num_steps, int):
        num_steps = [num_steps] * max(1, len(canvas.layout.group_sizes))
    planned = int(num_steps.max()) * len(canvas.layout.group_sizes) if isinstance(num_steps, Tensor) else sum(num_steps)
    revised = getattr(strategy.revise, "num_steps", getattr(strategy.revise, "rounds", 0))
    revised = int(revised.max()) if isinstance(revised, Tensor) else revised
    limit = planned + 2 * revised + canvas.layout.length + 1
    if done >= limit:
        stuck = int(canvas.masked.sum())
        raise UnisonoError(
            f"{strategy.name}: {stuck} positions are still masked after {done} steps, because steps commit nothing; "
            "wrap the selection in Fallback, or give max_steps to commit the rest at the end",
            code="failed",
            path="strategy",
            value=stuck,
        )
