"""Plan (stage 1): which positions are open in this step, and how many of them to commit.

A plan opens the lowest unfinished group of the layout and asks a count rule how many tokens to commit
there. So blocks of a text, levels of a residual codec, channel groups and whole images are one thing: a
group id per position. Steps are counted per row and per group, from the number of masks that were there
when the group was opened, never from the canvas' length: an inpainting of 10 positions in 1000 is
scheduled as 10.

Counts depend on masks, never on values, so a plan can be rehearsed before the first evaluation.

Letters: b batch, l positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unisono.checks import is_whole
from unisono.errors import UnisonoError
from unisono.masked.canvas import Canvas, Layout
from unisono.masked.stages.schedules import Schedule, check_schedule, cosine

_NONE = 1 << 40  # beyond any group


@dataclass(frozen=True, eq=False)
class Planned:
    """What a plan says for one step of each row.

    `window` is what is open, `count` how many of it to commit, `group` the open group and `members` all its
    positions, `step` the row's step in this group from 0, `steps` how many its count was given, `total`
    the masks at its opening, `rule` the count.
    """

    window: Bool[Tensor, "b l"]
    members: Bool[Tensor, "b l"]
    count: Int[Tensor, " b"]
    group: Int[Tensor, " b"]
    step: Int[Tensor, " b"]
    steps: Int[Tensor, " b"]
    total: Int[Tensor, " b"]
    rule: Count

    @property
    def progress(self) -> Float[Tensor, " b"]:
        """The share of the group's steps that is done after this one, float64 in (0, 1].

        Of the steps that are run: with 20 steps for 5 tokens, the fifth is the last and its share is 1. Tokens that
        are masked again take further steps, whose share is 1, too.
        """
        run = self.steps
        if isinstance(self.rule, CountOfRuns):
            run = self.rule.runs(self.steps, self.total, max(self.window.shape[1], 1)).clamp_min(1)
        return ((self.step + 1).double() / run).clamp_max(1)


class Count(Protocol):
    """How many tokens to commit, as a function of counts alone."""

    def steps(self, group: Int[Tensor, " b"], total: Int[Tensor, " b"]) -> Int[Tensor, " b"]: ...

    def take(
        self, step: Int[Tensor, " b"], steps: Int[Tensor, " b"], total: Int[Tensor, " b"], left: Int[Tensor, " b"]
    ) -> Int[Tensor, " b"]: ...


@runtime_checkable
class CountOfRuns(Count, Protocol):
    """A count that may be done in fewer steps than it was given: each step commits at least one token."""

    def runs(self, steps: Int[Tensor, " b"], total: Int[Tensor, " b"], most: int) -> Int[Tensor, " b"]:
        """Return how many steps `total` masks take, if none is masked again; `most` bounds the total."""
        ...


@runtime_checkable
class CountOfRows(Count, Protocol):
    """A count that differs from row to row."""

    def rows(self, index: Int[Tensor, " n"]) -> Count:
        """Return the count of some rows."""
        ...


class Plan:
    """The lowest unfinished group, a count at a time; `grouped=False` opens every group at once."""

    def __init__(self, count: Count, grouped: bool = True):
        self.count = count
        self.grouped = grouped

    def __call__(self, canvas: Canvas, memo: dict[str, Tensor]) -> Planned:
        """Plan the next step of every row and remember it in `memo`; a row with nothing masked takes 0."""
        masked = canvas.masked
        group_of = canvas.layout.group if self.grouped else torch.zeros_like(canvas.layout.group)
        lowest = torch.where(masked, group_of, _NONE).amin(1) if group_of.numel() else canvas.step * 0 + _NONE
        before = memo.get("plan.group", torch.full_like(canvas.step, -1))
        group = torch.where(lowest < _NONE, lowest, before)
        members = group_of == group[:, None]
        window = masked & members
        left = window.sum(1)
        new = group != before
        step = torch.where(new, 0, memo.get("plan.step", torch.zeros_like(group)))
        total = torch.where(new, left, memo.get("plan.total", left))
        steps = self.count.steps(group.clamp_min(0), total).clamp_min(1)
        count = self.count.take(step, steps, total, left)
        memo["plan.group"], memo["plan.step"], memo["plan.total"] = group, step + 1, total
        return Planned(window, members, torch.minimum(count.clamp_min(1), left), group, step, steps, total, self.count)

    def check(self, layout: Layout) -> None:
        """Raise `UnisonoError` if steps are given per group and there are more groups than steps."""
        num_steps = getattr(self.count, "num_steps", 1)
        num_groups = len(layout.group_sizes) if self.grouped else 1
        if isinstance(num_steps, Sequence) and len(num_steps) != num_groups:
            raise UnisonoError(
                f"steps for {len(num_steps)} groups, but the layout has {num_groups}: give one per group",
                code="shape",
                path="num_steps",
                value=list(num_steps),
            )

    def rows(self, index: Int[Tensor, " n"]) -> Plan:
        count = self.count.rows(index) if isinstance(self.count, CountOfRows) else self.count
        return Plan(count, self.grouped)

    def __repr__(self) -> str:
        return f"Plan({self.count!r})" if self.grouped else f"Plan({self.count!r}, grouped=False)"


Steps = int | Sequence[int] | Tensor


@dataclass(frozen=True, eq=False)
class Scheduled:
    """Keep floor(γ(r)·total) masked after each step (MaskGIT): at least one token per step, all in the last.

    `num_steps` is one number, one per group, or an int64 tensor with one per row. With more steps than
    tokens, at most as many are run as there are tokens.
    """

    num_steps: Steps
    schedule: Schedule = cosine

    def __post_init__(self):
        check_steps(self.num_steps)
        check_schedule(self.schedule)

    def steps(self, group: Tensor, total: Tensor) -> Tensor:
        return steps_of(self.num_steps, group)

    def take(self, step: Tensor, steps: Tensor, total: Tensor, left: Tensor) -> Tensor:
        return _take(self.schedule, step, steps, total, left)

    def runs(self, steps: Tensor, total: Tensor, most: int) -> Tensor:
        return _runs(self.schedule, steps, total, most)

    def rows(self, index: Tensor) -> Scheduled:
        return Scheduled(_rows(self.num_steps, index), self.schedule)


@dataclass(frozen=True, eq=False)
class Proportional:
    """`Scheduled` with steps in proportion to the masks: round(num_steps·total/per), at least 1 (MMM)."""

    num_steps: int
    per: int
    schedule: Schedule = cosine

    def __post_init__(self):
        check_steps(self.num_steps)
        check_steps(self.per)
        check_schedule(self.schedule)

    def steps(self, group: Tensor, total: Tensor) -> Tensor:
        return ((total * self.num_steps).double() / self.per + 0.5).floor().long().clamp_min(1)

    def take(self, step: Tensor, steps: Tensor, total: Tensor, left: Tensor) -> Tensor:
        return _take(self.schedule, step, steps, total, left)

    def runs(self, steps: Tensor, total: Tensor, most: int) -> Tensor:
        return _runs(self.schedule, steps, total, most)


@dataclass(frozen=True, eq=False)
class Even:
    """total//num_steps tokens in each step and one more in the first total % num_steps (LLaDA)."""

    num_steps: Steps

    def __post_init__(self):
        check_steps(self.num_steps)

    def steps(self, group: Tensor, total: Tensor) -> Tensor:
        return steps_of(self.num_steps, group)

    def take(self, step: Tensor, steps: Tensor, total: Tensor, left: Tensor) -> Tensor:
        share = total // steps + (step < total % steps).long()
        return torch.where(step + 1 >= steps, left, share)

    def runs(self, steps: Tensor, total: Tensor, most: int) -> Tensor:
        return torch.minimum(steps, total)

    def rows(self, index: Tensor) -> Even:
        return Even(_rows(self.num_steps, index))


@dataclass(frozen=True, eq=False)
class Fixed:
    """`size` tokens in each step."""

    size: int = 1

    def __post_init__(self):
        check_steps(self.size)

    def steps(self, group: Tensor, total: Tensor) -> Tensor:
        return -(-total // self.size)

    def take(self, step: Tensor, steps: Tensor, total: Tensor, left: Tensor) -> Tensor:
        return torch.full_like(left, self.size)


@dataclass(frozen=True, eq=False)
class Sizes:
    """So many tokens in each step, in every group (LPD); the last one takes what is left."""

    sizes: tuple[int, ...]

    def __post_init__(self):
        check_steps(self.sizes)

    def steps(self, group: Tensor, total: Tensor) -> Tensor:
        return torch.full_like(total, len(self.sizes))

    def take(self, step: Tensor, steps: Tensor, total: Tensor, left: Tensor) -> Tensor:
        sizes = _table(self.sizes, left.device)
        return torch.where(step + 1 >= steps, left, sizes[step.clamp_max(len(self.sizes) - 1)])

    def runs(self, steps: Tensor, total: Tensor, most: int) -> Tensor:
        # A step is run if the sizes before it leave something.
        before = _table((0, *accumulate(self.sizes[:-1])), total.device)
        return (before < total[:, None]).sum(1)


@dataclass(frozen=True, eq=False)
class Everything:
    """All that is open, for a selection that decides itself; `num_steps` is what its rates count by."""

    num_steps: Steps = 1

    def __post_init__(self):
        check_steps(self.num_steps)

    def steps(self, group: Tensor, total: Tensor) -> Tensor:
        return steps_of(self.num_steps, group)

    def take(self, step: Tensor, steps: Tensor, total: Tensor, left: Tensor) -> Tensor:
        return left

    def rows(self, index: Tensor) -> Everything:
        return Everything(_rows(self.num_steps, index))


def check_steps(num_steps: Steps) -> None:
    """Raise `UnisonoError` unless every number is at least 1."""
    values = num_steps.tolist() if isinstance(num_steps, Tensor) else num_steps
    values = list(values) if isinstance(values, Sequence) and not isinstance(values, str) else [values]
    if not values or not all(is_whole(value, 1) for value in values):
        raise UnisonoError(
            f"{values} steps or tokens per step: give whole numbers of at least 1",
            code="range",
            path="num_steps",
            value=values,
        )


def steps_of(num_steps: Steps, group: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
    """The steps of each row's open group."""
    if isinstance(num_steps, int):
        return torch.full_like(group, num_steps)
    if isinstance(num_steps, Tensor):
        if num_steps.shape != group.shape:
            raise UnisonoError(
                f"{tuple(num_steps.shape)} numbers of steps for {len(group)} rows: give one per row",
                code="shape",
                path="num_steps",
                value=tuple(num_steps.shape),
            )
        return num_steps.to(group)
    table = _table(tuple(num_steps), group.device)
    return table[group.clamp_max(len(table) - 1)]


@lru_cache(maxsize=64)
def _table(values: tuple[int, ...], device: torch.device) -> Tensor:
    """On the device once and for all: a copy in each step would keep it from being graph-captured."""
    return torch.tensor(values, dtype=torch.int64, device=device)


def _rows(num_steps: Steps, index: Tensor) -> Steps:
    return num_steps[index] if isinstance(num_steps, Tensor) else num_steps


def _kept(schedule: Schedule, step: Tensor, steps: Tensor, total: Tensor) -> Tensor:
    """How many tokens a schedule leaves masked after a step that is not the last."""
    # Only a share that is exactly 0 may end early: MaskGIT keeps one mask until its last step.
    ratio = ((step + 1).double() / steps).clamp_max(1)
    return (schedule(ratio, total.double()) * total + 1e-9).floor().long().clamp_min(1)


def _take(schedule: Schedule, step: Tensor, steps: Tensor, total: Tensor, left: Tensor) -> Tensor:
    """How many tokens a schedule commits in a step: all but its share of the total, all in the last."""
    return torch.where(step + 1 >= steps, left, left - _kept(schedule, step, steps, total))


def _runs(schedule: Schedule, steps: Tensor, total: Tensor, most: int) -> Tensor:
    """How many steps a schedule is done in.

    At least one token is committed in each, so left[j] = min(left[j − 1] − 1, kept[j]), and nothing is left after
    min over j of j + kept[j] steps, with kept[0] = total and kept[steps] = 0.
    """
    j = torch.arange(1, most, device=total.device).repeat(len(total))  # flat: schedules may know vectors only
    given, masks = (n.repeat_interleave(most - 1) for n in (steps, total))
    ends = torch.where(j < given, j + _kept(schedule, j - 1, given, masks), given).view(len(total), most - 1)
    least = torch.minimum(steps, total)
    return torch.minimum(least, ends.amin(1)) if most > 1 else least
