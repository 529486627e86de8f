"""Corruptions: hide some of the true tokens, so that training inputs look like the canvases of decoding.

A corruption takes a canvas and the true tokens. The canvas is blank, apart from prompts and padding. The result
is a canvas of which some positions are masked and the others hold their true tokens, the targets, and a weight
per position.

    corruption        what is hidden                                           used by
    PlanMasking       part of one group, by the plan's schedule, and all       MaskGIT, MMM, MoMask, SoundStorm,
                      later groups; earlier groups are known                   MaskGCT, G-IPD, VampNet, LLaDA (blocks)
    Diffusion         each position with probability 1 − α(t)                  MDLM, MD4, ReMDM, LLaDA, Dream
    BlockDiffusion    the same with one time per block; the network also       BD3-LM, Fast-dLLM v2
                      reads the clean text
    Counted           a random number of positions of each group               the evaluation of all diffusion models
    Complementary     two copies: each hides what the other one shows          Fast-dLLM v2
    Glancing          fewer positions, the better the first pass was           GLAT, Paraformer

`corruption_for(strategy)` derives `PlanMasking` or `Diffusion` from a decoding strategy, so that training and
decoding agree. Random numbers come from a counter and the canvas' seeds: use new seeds for every batch.

Letters: b batch, l positions, g groups, v vocabulary. Masks: True = keep (known). `window` is True at positions
that this corruption may hide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unisono.checks import fault_of, is_real
from unisono.errors import UnisonoError
from unisono.masked import random
from unisono.masked.canvas import Canvas, Layout
from unisono.masked.stages.plan import Plan
from unisono.masked.stages.schedules import linear
from unisono.masked.stages.select import Bernoulli, best
from unisono.masked.strategy import Strategy

# Sites below 0 belong to the whole row, so that a row gets the same numbers however far it is padded.
_GROUP, _RATIO, _PROMPT, _TIME, _STRATUM = -1, -2, -3, -4, -5
_BLOCK_TIME = -16  # the first of the blocks' sites; each further block has the next number below

Alpha = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Corrupted:
    """A training example: the network's input, its targets, and their weights in the loss.

    Attributes:
        canvas: what the network reads.
        targets: the true tokens.
        weights: float64; 0 at positions that are not learnt.
        window: the positions that the corruption could hide.
        time: the time of each position, of corruptions whose loss is a bound on the likelihood; else None.
        visible: the attention mask over noised and clean tokens, of corruptions that show both; else None.
    """

    canvas: Canvas
    targets: Int[Tensor, "b l"]
    weights: Float[Tensor, "b l"]
    window: Bool[Tensor, "b l"]
    time: Float[Tensor, "b l"] | None = None
    visible: Bool[Tensor, "2*l 2*l"] | None = None


class Corruption(Protocol):
    """Hides some of the true tokens of a canvas."""

    def __call__(self, canvas: Canvas, tokens: Int[Tensor, "b l"]) -> Corrupted: ...


@dataclass(frozen=True, eq=False)
class PlanMasking:
    """Hide the positions that a plan has not filled yet at a random step of decoding.

    First a group is drawn. Of its n open positions ceil(γ(r)·n) are hidden, where r is uniform and γ is the plan's
    schedule (MaskGIT, arXiv:2202.04200), or the linear one where the plan has none. Earlier groups are known. Later
    groups are hidden and not learnt (SoundStorm, arXiv:2305.09636, for residual levels; G-MLM, arXiv:2401.01099,
    for channel groups).

    Args:
        plan: the decoding plan.
        group_weights: how likely each group is drawn; all equal by default. MaskGCT favours coarse levels.
        prompt: keep a random number of leading frames as a prompt, as SoundStorm does.
        on_steps: hide exactly as many positions as before one of the plan's own steps, all steps equally likely,
            instead of a number from a continuous r.
    """

    plan: Plan
    group_weights: Sequence[float] | None = None
    prompt: bool = False
    on_steps: bool = False

    def __post_init__(self):
        weights = self.group_weights
        if weights is not None and not (all(is_real(weight, 0) for weight in weights) and any(weights)):
            raise UnisonoError(
                f"group weights {list(weights)}: give numbers of at least 0, not all 0",
                code="value",
                path="group_weights",
                value=list(weights),
            )

    def __call__(self, canvas: Canvas, tokens: Int[Tensor, "b l"]) -> Corrupted:
        """Raises `UnisonoError` for tokens outside of their positions' vocabularies; see also `Plan.check`."""
        _check(canvas, tokens)
        self.plan.check(canvas.layout)
        if self.prompt:
            canvas = _give_prompt(canvas, tokens)
        group_of = canvas.layout.group if self.plan.grouped else torch.zeros_like(canvas.layout.group)
        group, _ = _draw_group(canvas, group_of, self.group_weights)
        window = canvas.masked & (group_of == group[:, None])
        total = window.sum(1)
        u = _row_number(canvas, _RATIO)
        if self.on_steps:
            count = _planned_count(self.plan, group, total, u)
        else:
            schedule = getattr(self.plan.count, "schedule", linear)
            share = schedule(u, total.double())
            # 1e-9: a product that is a whole number up to rounding must not be rounded up
            count = (share * total - 1e-9).ceil().long().clamp_min(1)
        hidden = best(-_site_numbers(canvas), window, torch.minimum(count, total))
        later = canvas.masked & (group_of > group[:, None])
        return Corrupted(_show(canvas, tokens, hidden | later), tokens, hidden.double(), window)


@dataclass(frozen=True, eq=False)
class Diffusion:
    """Masked diffusion: at time t each open position is hidden with probability 1 − α(t) (MDLM, arXiv:2406.07524).

    With the weights −α′(t)/(1 − α(t)) the expected loss is the negative evidence lower bound, for every α. The
    weight is 1/t for the default α = 1 − t. Times are stratified over the batch: [min_time, 1] is cut into b equal
    parts, and each row gets a time from another part, in random order.

    Args:
        alpha: as in `select.Bernoulli`, from α(0) = 1 to α(1) = 0.
        min_time: the smallest time, in [0, 1). Above 0, the largest weights are left out, and with them a small
            share of the bound.
        grouped: for strategies that decode group after group. One group is drawn and diffused; earlier groups are
            known, later ones hidden. The weights are divided by the probability of the group that was drawn.
    """

    alpha: Alpha | None = None
    min_time: float = 1e-3
    grouped: bool = False

    def __post_init__(self):
        Bernoulli(self.alpha)  # checks alpha at both ends
        if not (is_real(self.min_time, 0, 1) and self.min_time < 1):
            raise UnisonoError(
                f"min_time {self.min_time!r}: give one in [0, 1)",
                code=fault_of(self.min_time),
                path="min_time",
                value=self.min_time,
            )

    def times(self, canvas: Canvas) -> Float[Tensor, " b"]:
        """Return a stratified time per row, in [min_time, 1)."""
        lot = _row_number(canvas, _STRATUM).argsort().argsort()
        u = (lot + _row_number(canvas, _TIME)) / max(1, len(lot))
        return self.min_time + (1 - self.min_time) * u

    def weight(self, time: Float[Tensor, ...]) -> Float[Tensor, ...]:
        """Return −α′(t)/(1 − α(t))."""
        return _rate(self.alpha, time)

    def at(self, canvas: Canvas, tokens: Int[Tensor, "b l"], time: Float[Tensor, " b"]) -> Corrupted:
        """Corrupt at the given times, each in (0, 1].

        Raises:
            UnisonoError: for tokens outside of their positions' vocabularies.
        """
        _check(canvas, tokens)
        time = time.double()[:, None].expand(canvas.tokens.shape)
        if not self.grouped:
            return _diffuse(canvas, tokens, canvas.masked, time, self.alpha)
        group_of = canvas.layout.group
        group, odds = _draw_group(canvas, group_of, None)
        window = canvas.masked & (group_of == group[:, None])
        return _diffuse(canvas, tokens, window, time, self.alpha, canvas.masked & (group_of > group[:, None]), 1 / odds)

    def __call__(self, canvas: Canvas, tokens: Int[Tensor, "b l"]) -> Corrupted:
        return self.at(canvas, tokens, self.times(canvas))


@dataclass(frozen=True, eq=False)
class BlockDiffusion:
    """Masked diffusion of all blocks of the layout in one pass (BD3-LM, arXiv:2503.09573).

    The network reads the noised tokens followed by the clean tokens, 2·l positions with the attention mask
    `visible`: a noised block sees itself and the clean blocks before it; a clean token sees its own and earlier
    clean blocks. So one pass trains every block in the situation in which it is decoded.

    Args:
        alpha: as in `Diffusion`.
        clip: the range of times (low, high). Each block has its own time, uniform in this range and stratified over
            rows and blocks. A range narrower than [0, 1] lowers the variance of the gradient; then the loss is no
            bound on the likelihood.
    """

    alpha: Alpha | None = None
    clip: tuple[float, float] = (1e-3, 1.0)

    def __post_init__(self):
        Bernoulli(self.alpha)
        low, high = self.clip
        if not (is_real(low, 0) and is_real(high, most=1) and low < high):
            raise UnisonoError(
                f"clip {self.clip}: give two times, 0 ≤ low < high ≤ 1", code="range", path="clip", value=self.clip
            )

    def times(self, canvas: Canvas) -> Float[Tensor, "b n"]:
        """Return a stratified time per row and block, in `clip`."""
        low, high = self.clip
        num = max(1, len(canvas.layout.group_sizes))
        sites = _BLOCK_TIME - torch.arange(2 * num, device=canvas.tokens.device)
        u, lot = random.uniform(canvas.seed, canvas.step, sites, random.CORRUPT).chunk(2, 1)
        lot = lot.flatten().argsort().argsort().reshape(lot.shape)
        return low + (high - low) * (lot + u) / max(1, lot.numel())

    def at(self, canvas: Canvas, tokens: Int[Tensor, "b l"], time: Float[Tensor, "b n"]) -> Corrupted:
        """Corrupt at the given times in (0, 1], one per block; to stratify over several processes, draw them outside.

        Raises:
            UnisonoError: for tokens outside of their positions' vocabularies, or fewer times than blocks.
        """
        _check(canvas, tokens)
        layout = canvas.layout
        num = len(layout.group_sizes)
        if time.dim() != 2 or len(time) != len(tokens) or time.shape[1] < num:
            raise UnisonoError(
                f"times of shape {tuple(time.shape)}: give {len(tokens)} rows of {num} blocks' times",
                code="shape",
                path="time",
                value=tuple(time.shape),
            )
        corrupted = _diffuse(canvas, tokens, canvas.masked, time.double()[:, layout.group], self.alpha)
        return replace(corrupted, visible=noised_and_clean(layout))

    def __call__(self, canvas: Canvas, tokens: Int[Tensor, "b l"]) -> Corrupted:
        return self.at(canvas, tokens, self.times(canvas))


@dataclass(frozen=True, eq=False)
class Counted:
    """Hide k of each group's n open positions, k uniform in 1 … n, with weights n/k (LLaDA, arXiv:2502.09992, eq. 14).

    The expected loss is that of `Diffusion` on all of [0, 1] (one group) or `BlockDiffusion` (several groups), for
    every α. It follows by integrating the distribution of k at time t, times the weight, over t. The variance is
    bounded, while it is infinite with weights 1/t. Use this corruption to measure a bound.

    Args:
        beside: the network reads the clean tokens as well, as with `BlockDiffusion`; `visible` is set.
    """

    beside: bool = False

    def at(self, canvas: Canvas, tokens: Int[Tensor, "b l"], u: Float[Tensor, "b n"]) -> Corrupted:
        """Hide k = floor(u·n) + 1 positions of each group, for given numbers u in [0, 1), one per group.

        Raises:
            UnisonoError: for tokens outside of their positions' vocabularies, or fewer numbers than groups.
        """
        _check(canvas, tokens)
        layout, open_ = canvas.layout, canvas.masked
        num = max(1, len(layout.group_sizes))
        if u.dim() != 2 or len(u) != len(tokens) or u.shape[1] < num:
            raise UnisonoError(
                f"numbers of shape {tuple(u.shape)}: give {len(tokens)} rows of {num} groups' numbers",
                code="shape",
                path="u",
                value=tuple(u.shape),
            )
        group = layout.group.expand_as(tokens)
        total = torch.zeros(len(tokens), num, dtype=torch.int64, device=tokens.device)
        total = total.scatter_add(1, group, open_.long())
        count = torch.minimum((u[:, :num].double() * total).floor().long() + 1, total)
        order = torch.where(open_, group + _site_numbers(canvas), num + 1.0).argsort(1)
        rank = order.argsort(1) - (total.cumsum(1) - total).gather(1, group)
        hidden = open_ & (rank < count.gather(1, group))
        share = (count.double() / total.clamp_min(1)).gather(1, group)
        weights = torch.where(hidden, 1 / share.clamp_min(1e-300), 0.0)
        shown, visible = _show(canvas, tokens, hidden), noised_and_clean(layout) if self.beside else None
        return Corrupted(shown, tokens, weights, open_, time=share, visible=visible)

    def __call__(self, canvas: Canvas, tokens: Int[Tensor, "b l"]) -> Corrupted:
        num = max(1, len(canvas.layout.group_sizes))
        sites = _BLOCK_TIME - torch.arange(num, device=canvas.tokens.device)
        return self.at(canvas, tokens, random.uniform(canvas.seed, canvas.step, sites, random.CORRUPT))


@dataclass(frozen=True, eq=False)
class Complementary:
    """The batch twice: the second copy hides what the first one shows, and shows what it hides.

    So each token of the window is learnt exactly once per batch (Fast-dLLM v2, arXiv:2509.26328). Rows b to 2b − 1
    of the result are the second copy. For corruptions whose weights are 0 and 1.
    """

    corruption: PlanMasking

    def __call__(self, canvas: Canvas, tokens: Int[Tensor, "b l"]) -> Corrupted:
        first = self.corruption(canvas, tokens)
        hidden = first.window & first.canvas.known
        later = first.canvas.masked & ~first.window
        second = _show(first.canvas, tokens, hidden | later)
        names = ("tokens", "known", "frozen", "age", "step", "seed", "length")
        both = {name: torch.cat([getattr(first.canvas, name), getattr(second, name)]) for name in names}
        return Corrupted(
            replace(first.canvas, **both),
            torch.cat([tokens, tokens]),
            torch.cat([first.weights, hidden.double()]),
            torch.cat([first.window, first.window]),
        )


@dataclass(frozen=True, eq=False)
class Glancing:
    """Show floor(ratio · wrong) of the true tokens, at random positions; `wrong` counts the errors of a first pass.

    GLAT (Qian et al., 2021, arXiv:2008.07905) and Paraformer's sampler (arXiv:2206.08317). The first pass reads the
    blank canvas and needs no gradient. The second pass is trained on the positions that stay hidden.

    Args:
        ratio: from 0 to 1.
    """

    ratio: float = 0.5

    def __post_init__(self):
        if not is_real(self.ratio, 0, 1):
            raise UnisonoError(
                f"glancing ratio {self.ratio!r}: give one from 0 to 1",
                code=fault_of(self.ratio),
                path="ratio",
                value=self.ratio,
            )

    def __call__(self, canvas: Canvas, tokens: Int[Tensor, "b l"], logits: Float[Tensor, "b l v"]) -> Corrupted:
        """Corrupt by the first pass' `logits`; raises `UnisonoError` for tokens outside of their vocabularies."""
        _check(canvas, tokens)
        window = canvas.masked
        logits = logits if canvas.layout.one_vocabulary else logits.masked_fill(canvas.layout.foreign(), -torch.inf)
        wrong = (window & (logits.argmax(-1) != tokens)).sum(1)
        count = (self.ratio * wrong.double() + 1e-9).floor().long()
        hidden = window & ~best(-_site_numbers(canvas), window, count)
        return Corrupted(_show(canvas, tokens, hidden), tokens, hidden.double(), window)


def corruption_for(strategy: Strategy, **options: Any) -> PlanMasking | Diffusion:
    """Return the corruption whose canvases look like those of a strategy; `options` go to its constructor.

    That is `Diffusion` for strategies that fill each position with some probability (MDLM, ReMDM, block diffusion),
    else `PlanMasking` with the strategy's plan.
    """
    if isinstance(strategy.select, Bernoulli):
        return Diffusion(strategy.select.alpha, grouped=strategy.plan.grouped, **options)
    return PlanMasking(strategy.plan, **options)


def block_causal(layout: Layout) -> Bool[Tensor, "l l"]:
    """Return the mask in which [i, j] says that j is in the block of i or an earlier one, so that i sees j."""
    return layout.group[:, None] >= layout.group


def noised_and_clean(layout: Layout) -> Bool[Tensor, "2*l 2*l"]:
    """Return the attention mask for training block diffusion; noised tokens come first, then clean ones (BD3-LM, §3).

    ::

                 noised          clean
        noised   own block       earlier blocks
        clean    nothing         own and earlier blocks
    """
    own, earlier = layout.group[:, None] == layout.group, layout.group[:, None] > layout.group
    return torch.cat([torch.cat([own, earlier], 1), torch.cat([torch.zeros_like(own), own | earlier], 1)])


def _check(canvas: Canvas, tokens: Tensor) -> None:
    if tokens.shape != canvas.tokens.shape:
        raise UnisonoError(
            f"tokens of shape {tuple(tokens.shape)}: this canvas has {tuple(canvas.tokens.shape)} [rows, positions]",
            code="shape",
            path="tokens",
            value=tuple(tokens.shape),
        )
    start, stop = canvas.layout.vocab.unbind(1)
    wrong = canvas.masked & ((tokens < start) | (tokens >= stop))
    if bool(wrong.any()):
        row, at = wrong.nonzero()[0].tolist()
        raise UnisonoError(
            f"row {row}: token {int(tokens[row, at])} at position {at}, "
            f"which may hold {int(start[at])} to {int(stop[at]) - 1}",
            code="range",
            path="tokens",
            value=int(tokens[row, at]),
        )


def _show(canvas: Canvas, tokens: Tensor, hidden: Tensor) -> Canvas:
    """Return the canvas with all tokens known except the hidden ones; frozen tokens keep their value."""
    shown = torch.where(canvas.frozen, canvas.tokens, tokens).masked_fill(hidden, 0)
    return replace(canvas, tokens=shown, known=~hidden)


def _row_number(canvas: Canvas, site: int) -> Float[Tensor, " b"]:
    sites = torch.tensor([site], device=canvas.tokens.device)
    return random.uniform(canvas.seed, canvas.step, sites, random.CORRUPT)[:, 0]


def _site_numbers(canvas: Canvas) -> Float[Tensor, "b l"]:
    return random.uniform(canvas.seed, canvas.step, canvas.sites, random.CORRUPT)


def _draw_group(
    canvas: Canvas, group_of: Int[Tensor, " l"], weights: Sequence[float] | None
) -> tuple[Int[Tensor, " b"], Float[Tensor, " b"]]:
    """Draw a group that has open positions; return it and its probability, or −1 and 1 for a row without one."""
    num = int(group_of.max()) + 1 if len(group_of) else 1
    if weights is None:
        weights = [1.0] * num
    if len(weights) != num:
        raise UnisonoError(
            f"weights of {len(weights)} groups, but the layout has {num}: give one per group",
            code="shape",
            path="group_weights",
            value=len(weights),
        )
    there = torch.zeros(len(canvas.tokens), num, device=group_of.device, dtype=torch.int64)
    there = there.scatter_add(1, group_of.expand_as(canvas.tokens), canvas.masked.long()) > 0
    share = there * torch.tensor(weights, dtype=torch.float64, device=group_of.device)
    total = share.sum(1, keepdim=True)
    reached = share.cumsum(1) > _row_number(canvas, _GROUP)[:, None] * total
    group = torch.where(total[:, 0] > 0, reached.int().argmax(1), -1)
    odds = (share / total.clamp_min(1e-300)).gather(1, group.clamp_min(0)[:, None])[:, 0]
    return group, torch.where(group >= 0, odds, 1.0)


def _planned_count(plan: Plan, group: Tensor, total: Tensor, u: Tensor) -> Int[Tensor, " b"]:
    """Return how many positions are masked before a random step of the plan; all steps are equally likely."""
    steps = plan.count.steps(group.clamp_min(0), total).clamp_min(1)
    left, before = total, []
    for i in range(int(torch.minimum(steps, total).max()) if len(total) else 0):
        before.append(left)
        step = torch.full_like(total, i)
        left = left - torch.minimum(plan.count.take(step, steps, total, left).clamp_min(1), left)
    if not before:
        return total
    masked = torch.stack(before, 1)
    at = (u * (masked > 0).sum(1)).long()
    return masked.gather(1, at[:, None])[:, 0]


def _give_prompt(canvas: Canvas, tokens: Tensor) -> Canvas:
    """Freeze the leading frames of each row, a uniform number from 0 to all but one."""
    frame = canvas.layout.coord[:, 0]
    frames = torch.where(canvas.padding, 0, frame + 1).amax(1) if len(frame) else canvas.length
    given = (_row_number(canvas, _PROMPT) * frames).long()
    where = canvas.masked & (frame < given[:, None])
    return canvas.freeze(torch.where(where, tokens, canvas.tokens), where)


def _diffuse(
    canvas: Canvas,
    tokens: Tensor,
    window: Tensor,
    time: Float[Tensor, "b l"],
    alpha: Alpha | None,
    later: Tensor | None = None,
    factor: Tensor | None = None,
) -> Corrupted:
    rate = time if alpha is None else 1 - alpha(time)
    hidden = window & (_site_numbers(canvas) < rate)
    weights = torch.where(hidden, _rate(alpha, time), 0.0)
    if factor is not None:
        weights = weights * factor[:, None]
    shown = _show(canvas, tokens, hidden if later is None else hidden | later)
    return Corrupted(shown, tokens, weights, window, time=time)


def _rate(alpha: Alpha | None, time: Tensor) -> Tensor:
    time = time.double()
    if alpha is None:
        return 1 / time
    with torch.enable_grad():
        t = time.detach().clone().requires_grad_()
        value = alpha(t)
        (slope,) = torch.autograd.grad(value.sum(), t)
    return -slope / (1 - value.detach())
