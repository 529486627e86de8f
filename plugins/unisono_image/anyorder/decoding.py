"""Decoding in an order: a plan of groups that each row has its own of, and guidance that grows token by token.

ARPG (arXiv:2503.10568) and LPD (arXiv:2507.01957) let the scale of guidance grow linearly with the tokens that are
there, ARPG's step by step, LPD's from token to token of a step; `unisono.masked.ClassifierFree` counts steps.

Shapes: b batch, l positions, k queries, v codes.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from unisono.masked import (
    Canvas,
    ClassifierFree,
    Handle,
    Plain,
    Plan,
    Planned,
    Rank,
    Scheduled,
    Strategy,
    left_to_right,
)
from unisono.masked.stages.guide import Guide


class RowGroups(Plan):
    """All that is open of each row's lowest unfinished group, in one step; ``groups`` are the rows' own, [b, l]."""

    def __init__(self, groups: Int[Tensor, "b l"]):
        super().__init__(Scheduled(1))
        self.groups = groups

    def __call__(self, canvas: Canvas, memo: dict[str, Tensor]) -> Planned:
        groups, masked = self.groups.to(canvas.tokens.device), canvas.masked
        beyond = groups.amax() + 1
        lowest = torch.where(masked, groups, beyond).amin(1)
        members = groups == lowest[:, None]
        window = masked & members
        count, one = window.sum(1), torch.ones_like(lowest)
        return Planned(window, members, count, lowest, torch.zeros_like(lowest), one, count, self.count)

    def rows(self, index: Int[Tensor, " n"]) -> "RowGroups":
        return RowGroups(self.groups[index])


@dataclass(frozen=True, eq=False)
class Growing(ClassifierFree):
    """c + (s − 1)·share·(c − u), where the share is that of the tokens that are there before.

    Without ``rank``, [b, l], the share is (known + 1) / positions, the same for all queries of a step; with it, that of
    the tokens known or of lower rank.
    """

    rank: Int[Tensor, "b l"] | None = None

    def __call__(
        self, handle: Handle, canvas: Canvas, planned: Planned, query: Int[Tensor, "b k"] | None
    ) -> tuple[Float[Tensor, "b k v"], Float[Tensor, "b k v"]]:
        logits = handle(canvas, query)
        without = handle(canvas, query, model=self.other)
        share = self.share(canvas)
        if query is not None:
            share = share.gather(1, query)
        more = (self.guidance_scale - 1) * share
        return logits, logits + more.to(logits)[..., None] * (logits - without)

    def share(self, canvas: Canvas) -> Float[Tensor, "b l"]:
        """Return the share of tokens that are there before each position's, float64."""
        known = (canvas.known & ~canvas.padding).sum(1, keepdim=True)
        if self.rank is None:
            done = (known + 1).expand_as(canvas.tokens)
        else:
            rank = torch.where(canvas.masked, self.rank.to(known.device), canvas.layout.length)
            done = known + rank.argsort(dim=1, stable=True).argsort(dim=1)
        return (done.double() / canvas.length[:, None].clamp_min(1)).clamp_max(1)

    def rows(self, index: Int[Tensor, " n"]) -> "Growing":
        part = super().rows(index)
        assert isinstance(part, Growing)
        return part if self.rank is None else replace(part, rank=self.rank[index])


def in_groups(groups: Int[Tensor, "b l"], guide: Guide | None = None) -> Strategy:
    """Return the strategy that asks for one group of each row after the other (LPD)."""
    order = Rank(left_to_right(groups.shape[1]))
    return Strategy(RowGroups(groups), order, guide=guide or Plain(), query_only=True, name="lpd")
