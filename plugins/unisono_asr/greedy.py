"""Greedy: the likeliest label of each step, repetitions merged and blanks left out (CTC, Graves et al. 2006)."""

import torch

from unisono_asr.models.posteriors import Hypothesis, Posteriors

__all__ = ["greedy"]

BLANK = 0


def greedy(heard: Posteriors) -> list[Hypothesis]:
    """Return what CTC hears in each recording; a unit's confidence is its greatest probability among its steps."""
    found = []
    for rows, length in zip(heard.log_probs, heard.lengths.tolist(), strict=True):
        best, label = rows[:length].float().exp().max(-1)
        numbers, counts = torch.unique_consecutive(label, return_counts=True)
        ends = counts.cumsum(0).tolist()
        kept = [
            (number, end - count, end)
            for number, count, end in zip(numbers.tolist(), counts.tolist(), ends, strict=True)
            if number != BLANK
        ]
        sure = tuple(float(best[first:last].max()) for _, first, last in kept)
        found.append(Hypothesis(tuple(n for n, _, _ in kept), sure, tuple((a, b) for _, a, b in kept)))
    return found
