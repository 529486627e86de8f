"""Likelihood: a bound on how likely pieces are to a grid model, by any order of cells."""

from collections.abc import Sequence
from typing import Any

import torch
from unisono.data import collate_items, derive_seed
from unisono.masked import Canvas
from unisono.masked.training.corrupt import Counted
from unisono.masked.training.losses import negative_elbo

from unisono_music.corpus.stored import PADDING, Stored

DRAWS = 4
"""Numbers of hidden cells that the bound of a window is averaged over."""
AT_ONCE = 16


@torch.no_grad()
def nats_per_step(model: Any, pieces: Sequence[Stored], given: int | None = None, draws: int = DRAWS) -> float:
    """Return the bound on -log p of pieces by any order of cells, for each step, all voices together, in nats.

    Pieces are cut at every ``max_bars`` bars; ``given`` is a voice that is known. No control is told. The number of
    hidden cells is drawn (LLaDA's estimator, `Counted`), ``draws`` times for each window.
    """
    windows = []
    for piece in pieces:
        for first in range(0, piece.num_bars, model.max_bars):
            last = min(first + model.max_bars, piece.num_bars)
            part = piece.cut(first, last).item()
            windows.append({**part, "begins": first == 0, "ends": last == piece.num_bars})
    q = len(model.facts.voices)
    total, steps = 0.0, 0
    for at in range(0, len(windows), AT_ONCE):
        batch = {k: v.to(model.device) for k, v in collate_items(windows[at : at + AT_ONCE], PADDING).items()}
        tokens, condition = model.read_batch(batch)
        condition = condition.untold()
        known = torch.zeros_like(tokens, dtype=torch.bool)
        if given is not None:
            known[..., given] = torch.arange(tokens.shape[1]) < condition.length.cpu()[:, None]
        steps += int(condition.length.sum())
        for draw in range(draws):
            seeds = [derive_seed("likelihood", at + row, draw) for row in range(len(tokens))]
            canvas = Canvas.blank(model.layout(tokens.shape[1]), seeds, condition.length * q, model.device)
            corrupted = Counted()(canvas.freeze(tokens.flatten(1), known.flatten(1)), tokens.flatten(1))
            total += float(negative_elbo(model.seen(corrupted, condition), corrupted).sum()) / draws
    return total / steps
