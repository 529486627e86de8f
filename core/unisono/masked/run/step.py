"""One step: plan → guide → warp → score → select → draw → revise → stop.

A pure function from canvas to canvas that looks at no value, so that it can be traced, compiled and
captured in a graph; how steps are run is an executor's business (`unisono.masked.run.execute`).

Letters: b batch, l positions, k sites that are drawn, v vocabulary.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unisono.errors import UnisonoError
from unisono.masked.canvas import Canvas
from unisono.masked.run.handle import Handle, at_sites
from unisono.masked.stages.context import StepContext
from unisono.masked.stages.marginals import Marginals, readable
from unisono.masked.stages.revise import Never
from unisono.masked.stages.stop import Complete
from unisono.masked.strategy import Strategy


def step(handle: Handle, canvas: Canvas, strategy: Strategy, width: int | None = None, force: bool = False) -> Canvas:
    """One step of every unfinished row; the others stay as they are.

    `width` is the most positions at which any row draws, if known; else it is measured, which makes the
    host wait for the device. `force` commits everything that is masked.
    """
    active = ~finished(canvas, strategy)
    memo = dict(canvas.memo)
    planned = strategy.plan(canvas, memo)
    if force:
        planned = replace(planned, window=canvas.masked, count=canvas.masked.sum(1))
    planned = replace(planned, window=planned.window & active[:, None])
    at = StepContext(canvas, handle, planned, memo)

    def choose() -> Bool[Tensor, "b l"]:
        at._score = strategy.score(at)
        at._commit = at.window if force else strategy.select(at._score, at)
        return at._commit

    def draw(logits: Tensor, sites: Tensor, live: Tensor) -> Int[Tensor, "b l"]:
        return unpack(strategy.draw(strategy.warp(logits, planned), sites, live, at), sites, live, canvas)

    if strategy.query_only:
        sites, live = pack(choose(), width)
        tokens = draw(_guided(strategy, at, sites, live), sites, live)
    else:
        if strategy.uses_draw:
            sites, live = pack(at.window, width)
            logits = _guided(strategy, at, None, live, sites)
            tokens = at._drawn = draw(logits, sites, live)
            choose()
        else:
            logits = _guided(strategy, at, None, at.window)
            sites, live = pack(choose(), width)
            tokens = draw(at_sites(logits, sites), sites, live)

    keep = active[:, None]
    committed = canvas.commit(at.commit & keep, tokens)
    after = committed if force else strategy.revise(at, committed)
    if after is committed and isinstance(strategy.stop, Complete):  # so nothing has touched rows that are done
        return replace(committed, step=canvas.step + active, memo=memo)
    after = strategy.stop(replace(after, memo=memo))
    return replace(
        after,
        tokens=torch.where(keep, after.tokens, canvas.tokens),
        known=torch.where(keep, after.known, canvas.known),
        age=torch.where(keep, after.age, canvas.age),
        step=canvas.step + active,
    )


def finished(canvas: Canvas, strategy: Strategy) -> Bool[Tensor, " b"]:
    """Which rows need no more steps."""
    wanting = (canvas.masked.any(1) | strategy.revise.more(canvas)) & (~canvas.frozen).any(1)
    return ~wanting


def pack(where: Bool[Tensor, "b l"], width: int | None) -> tuple[Int[Tensor, "b k"], Bool[Tensor, "b k"]]:
    """The chosen positions side by side, in order, and which of them are real; `width` None: as many as needed."""
    if width is None:
        width = int(where.sum(1).max()) if where.numel() else 0
    # Each position's place is counted, which takes a fraction of a stable sort.
    before = where.cumsum(1)
    at = torch.arange(where.shape[1], device=where.device).expand_as(before)
    place = torch.where(where, before - 1, before[:, -1:] + at - before)
    sites = torch.empty_like(place).scatter_(1, place, at)[:, :width]
    return sites, where.gather(1, sites)


def unpack(
    tokens: Int[Tensor, "b k"], sites: Int[Tensor, "b k"], live: Bool[Tensor, "b k"], canvas: Canvas
) -> Int[Tensor, "b l"]:
    """Tokens back at their positions."""
    return canvas.tokens.scatter(1, sites, torch.where(live, tokens, canvas.tokens.gather(1, sites)))


def check_logits(canvas: Canvas) -> None:
    """Raise `UnisonoError` if a step met logits from which nothing can be drawn."""
    bad = canvas.memo.get("bad")
    if bad is not None and bool((bad > 0).any()):
        row = int((bad > 0).int().argmax())
        raise UnisonoError(
            f"row {row}, step {int(bad[row]) - 1}: the model's logits are NaN or infinite, or forbid every token, "
            "at a position that was to be filled",
            code="value",
            path="logits",
            value=row,
        )


def _guided(
    strategy: Strategy,
    at: StepContext,
    query: Int[Tensor, "b k"] | None,
    needed: Bool[Tensor, "b k"],
    sites: Int[Tensor, "b k"] | None = None,
) -> Float[Tensor, "b k v"]:
    """Ask the model: raw marginals go to the moment, logits for the draw come back, at `sites` if given.

    What is known needs no look at: with `sites` only those are worked on, if nothing but the draw's score reads them.
    """
    layout = at.canvas.layout
    foreign = None if layout.one_vocabulary else layout.foreign(query)
    raw, logits = strategy.guide(at.handle, at.canvas, at.planned, query)
    here = at._marginals = Marginals(readable(raw, foreign))
    if sites is not None:
        here = Marginals(at_sites(here.logits, sites))
        if isinstance(strategy.revise, Never):  # else scores of known positions may be asked for
            at._open = here, sites
    wrong = here.bad
    if logits is not raw:
        logits = at_sites(readable(logits, foreign), sites)
        wrong = wrong | Marginals(logits).bad
    else:
        logits = here.logits
    before = at.remembered("bad", at.canvas.step)
    now = torch.where((wrong & needed).any(1), at.canvas.step + 1, 0)
    at.memo["bad"] = torch.where(before > 0, before, now)
    return logits
