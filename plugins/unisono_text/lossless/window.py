"""Adaptive window: Jacobi iteration over as many positions as pay (Zhang et al., 2023, FastCoT, arXiv:2311.08263).

Jacobi iteration of a whole text evaluates all of its positions in each round, though few of them are about to
converge. FastCoT iterates a window of varying size. Here it grows by what happens: twice as wide after a round in
which a guess was accepted, half as wide after one in which none was, from 1 to `window` positions. A round whose first
position was never drawn before had no guess, and says nothing.

Differs from the paper, whose window is a given function of the position. What FastCoT adds, an answer that is read off
the iterate before it has converged, is not offered: it is lossy, and says something only of models that were trained
to reason in steps.

A row's window is its own, so that it is decoded alone as in a batch.

Letters: b batch. Masks: True = keep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from unisono.checks import fault_of, is_whole
from unisono.errors import UnisonoError
from unisono.verify import Draw, Matching, Method, Prefix, PreviousIterate, Proposal, Round, Target, jacobi

from unisono_text.lossless.entry import Entry, Means

BEGIN = 4
"""Positions of the first window."""


@dataclass(frozen=True, eq=False)
class Width:
    """Each row's window, and whether its first position was drawn before."""

    positions: Int[Tensor, " b"]
    guessed: Bool[Tensor, " b"]


@dataclass(frozen=True)
class AdaptiveWindow:
    """Propose the tokens of the last iterate, in a window that grows on success and shrinks on failure.

    Args:
        window: positions at most.

    Raises:
        UnisonoError: for a window without positions.
    """

    window: int = 16
    brings_law = False

    def __post_init__(self):
        if not is_whole(self.window, 1):
            raise UnisonoError(
                f"a window of {self.window!r} positions: give a whole number of at least 1",
                code=fault_of(self.window, whole=True),
                path="window",
                value=self.window,
            )

    def __call__(self, prefix: Prefix, last: Round | None, target: Target, draw: Draw) -> Proposal:
        iterate = PreviousIterate()(prefix, last, target, draw)
        if last is None:
            width = torch.full_like(prefix.length, min(BEGIN, self.window))
            guessed = torch.zeros_like(prefix.done)
        else:
            was, accepted = last.proposal.carry, last.verdict.accepted
            narrower = torch.where(was.guessed, was.positions // 2, was.positions)
            width = torch.where(accepted > 0, 2 * was.positions, narrower).clamp(1, self.window)
            guessed = accepted < last.proposal.real.sum(1)
        count = torch.minimum(prefix.room, width)
        n = int(count.max()) if len(count) else 0
        return Proposal.chain(iterate.tokens[:, :n], count, carry=Width(width, guessed))


def windowed_jacobi(window: int = 16) -> Method:
    """Jacobi iteration in an adaptive window: lossless token by token."""
    return Method("Jacobi, adaptive window", AdaptiveWindow(window), Matching())


def _make(means: Means, options: Mapping[str, Any], cache: Any) -> Method:
    return jacobi() if options["window"] is None else windowed_jacobi(options["window"])


ENTRY = Entry("jacobi", "token by token", _make, {"window": None})
