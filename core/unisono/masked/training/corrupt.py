"""Training inputs that are what decoding will see: some tokens hidden, and what is to be learnt of them.

A corruption takes a canvas, blank but for what is given (prompts, padding), and the row's true tokens; it
returns the canvas with the rest revealed or masked, the targets, and a weight per position.

    corruption        hides                                                    for
    PlanMasking       as a plan does: one group by its schedule, all later     MaskGIT, MMM, MoMask, SoundStorm,
                      groups wholly; earlier ones are known                    MaskGCT, G-IPD, VampNet, LLaDA (blocks)
    Diffusion         each position with probability 1 − α(t)                  MDLM, MD4, ReMDM, LLaDA, Dream
    BlockDiffusion    the same, with a time per block, beside the clean text   BD3-LM, Fast-dLLM v2
    Counted           a number of each block's, drawn instead of a time        evaluating all of these
    Complementary     two views, of which one hides what the other shows       Fast-dLLM v2
    Glancing          less, the better a first pass was                        GLAT, Paraformer

`corruption_for(strategy)` reads the first two off a decoding strategy, so that the two cannot drift apart.
Randomness is by counter, from the canvas' seeds: draw new seeds for every batch.

Letters: b batch, l positions, g groups, v vocabulary. Masks: True = keep (known); `window` True = hidden
or could have been.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unisono.checks import is_real
from unisono.errors import UnisonoError
from unisono.masked import random
from unisono.masked.canvas import Canvas, Layout
from unisono.masked.stages.plan import Plan
from unisono.masked.stages.schedules import linear
from unisono.masked.stages.select import Bernoulli, best
from unisono.masked.strategy import Strategy

# Sites below 0 are a row's own numbers: they are the same however far the row is padded.
_GROUP, _RATIO, _PROMPT, _TIME, _STRATUM = -1, -2, -3, -4, -5
_BLOCK_TIME = -16  # and further down, one per block

Alpha = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Corrupted:
    """What the network reads (`canvas`), what it should say (`targets`), and how much that counts (`weights`).

    Weights are float64 and 0 where nothing is learnt. `window` is what was open to hiding. `time` is there
    for diffusion, whose weights make a bound on the likelihood. `visible` is the attention mask over
    noised and clean tokens side by side, for `BlockDiffusion`.
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
    """Hide what a plan would still have to fill at a random moment of decoding.

    A group g is drawn; of its n open positions ceil(γ(r)·n) are hidden, r uniform, γ the plan's schedule
    (MaskGIT, arXiv:2202.04200; linear where a plan has none); earlier groups are known, later ones are
    hidden and not learnt (SoundStorm, arXiv:2305.09636, for residual levels; G-MLM, arXiv:2401.01099, for
    channel groups). `group_weights` are the groups' odds (equal by default; MaskGCT favours coarse levels).
    `prompt` gives a random number of leading frames, as SoundStorm does. `on_steps` takes the counts that
    the plan passes through in its own steps, each step as often, in place of a continuous r.
    """

    plan: Plan
    group_weights: Sequence[float] | None = None
    prompt: bool = False
    on_steps: bool = False

    def __post_init__(self):
        weights = self.group_weights
        if weights is not None and not (all(is_real(weight, 0) for weight in weights) and any(weights)):
            raise UnisonoError(f"group weights {list(weights)}: give numbers of at least 0, not all 0")

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
            # 1e-9: a product that is a whole number but for rounding is that number
            count = (share * total - 1e-9).ceil().long().clamp_min(1)
        hidden = best(-_site_numbers(canvas), window, torch.minimum(count, total))
        later = canvas.masked & (group_of > group[:, None])
        return Corrupted(_show(canvas, tokens, hidden | later), tokens, hidden.double(), window)


@dataclass(frozen=True, eq=False)
class Diffusion:
    """Masked diffusion: at time t each open position is hidden with probability 1 − α(t) (MDLM, arXiv:2406.07524).

    Weights −α′(t)/(1 − α(t)) make the expected loss the negative evidence lower bound, whatever α is; 1/t for
    α = 1 − t, the default. `alpha` is the one of `select.Bernoulli`, from α(0) = 1 to α(1) = 0. Times are
    stratified over the batch, one in each of b equal parts of [min_time, 1], which rows get by lot; a
    `min_time` above 0 leaves out the least share of the bound, and with it the largest weights.

    `grouped` is for strategies that open groups one after the other: one group, drawn at random, is diffused,
    earlier ones are known, later ones hidden, and the weights make up for the groups not drawn.
    """

    alpha: Alpha | None = None
    min_time: float = 1e-3
    grouped: bool = False

    def __post_init__(self):
        Bernoulli(self.alpha)  # the same ends are asked of it
        if not (is_real(self.min_time, 0, 1) and self.min_time < 1):
            raise UnisonoError(f"min_time {self.min_time!r}: give one in [0, 1)")

    def times(self, canvas: Canvas) -> Float[Tensor, " b"]:
        """Stratified times of the rows, in (min_time, 1)."""
        lot = _row_number(canvas, _STRATUM).argsort().argsort()
        u = (lot + _row_number(canvas, _TIME)) / max(1, len(lot))
        return self.min_time + (1 - self.min_time) * u

    def weight(self, time: Float[Tensor, ...]) -> Float[Tensor, ...]:
        """−α′(t)/(1 − α(t))."""
        return _rate(self.alpha, time)

    def at(self, canvas: Canvas, tokens: Int[Tensor, "b l"], time: Float[Tensor, " b"]) -> Corrupted:
        """At given times in (0, 1].

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
    """Diffusion inside every block of the layout at once (BD3-LM, arXiv:2503.09573).

    The network reads noised and clean tokens side by side, 2·l positions under `visible`: a noised block
    sees itself and the clean blocks before it, clean tokens see clean blocks up to their own. One pass
    so trains all blocks, each as it will be decoded. Each block has a time of its own, uniform on `clip` and
    stratified over rows and blocks; a narrower `clip` than [0, 1] lowers the variance of the gradient, and
    makes the loss another one than the bound.
    """

    alpha: Alpha | None = None
    clip: tuple[float, float] = (1e-3, 1.0)

    def __post_init__(self):
        Bernoulli(self.alpha)
        low, high = self.clip
        if not (is_real(low, 0) and is_real(high, most=1) and low < high):
            raise UnisonoError(f"clip {self.clip}: give two times, 0 ≤ low < high ≤ 1")

    def times(self, canvas: Canvas) -> Float[Tensor, "b n"]:
        """Stratified times of the rows' blocks, in `clip`."""
        low, high = self.clip
        num = max(1, len(canvas.layout.group_sizes))
        sites = _BLOCK_TIME - torch.arange(2 * num, device=canvas.tokens.device)
        u, lot = random.uniform(canvas.seed, canvas.step, sites, random.CORRUPT).chunk(2, 1)
        lot = lot.flatten().argsort().argsort().reshape(lot.shape)
        return low + (high - low) * (lot + u) / max(1, lot.numel())

    def at(self, canvas: Canvas, tokens: Int[Tensor, "b l"], time: Float[Tensor, "b n"]) -> Corrupted:
        """At given times in (0, 1], one per block: who stratifies over several processes draws them himself.

        Raises:
            UnisonoError: for tokens outside of their positions' vocabularies, or fewer times than blocks.
        """
        _check(canvas, tokens)
        layout = canvas.layout
        num = len(layout.group_sizes)
        if time.dim() != 2 or len(time) != len(tokens) or time.shape[1] < num:
            raise UnisonoError(f"times of shape {tuple(time.shape)}: give {len(tokens)} rows of {num} blocks' times")
        corrupted = _diffuse(canvas, tokens, canvas.masked, time.double()[:, layout.group], self.alpha)
        return replace(corrupted, visible=noised_and_clean(layout))

    def __call__(self, canvas: Canvas, tokens: Int[Tensor, "b l"]) -> Corrupted:
        return self.at(canvas, tokens, self.times(canvas))


@dataclass(frozen=True, eq=False)
class Counted:
    """Of each group's n open positions hide k, uniform from 1 to n, with weights n/k (LLaDA, arXiv:2502.09992, eq. 14).

    The same expectation as `Diffusion` over the whole of [0, 1] (for one group) and `BlockDiffusion` (for several),
    whatever α is, since a time's law of k, integrated with its weight, is that. The variance is bounded, where
    weights 1/t have none: to measure a bound, draw this way. `beside` says that groups are read beside the clean
    text, as `BlockDiffusion`'s blocks are, and gives its attention mask.
    """

    beside: bool = False

    def at(self, canvas: Canvas, tokens: Int[Tensor, "b l"], u: Float[Tensor, "b n"]) -> Corrupted:
        """With k = floor(u·n) + 1 for given numbers in [0, 1), one per group.

        Raises:
            UnisonoError: for tokens outside of their positions' vocabularies, or fewer numbers than groups.
        """
        _check(canvas, tokens)
        layout, open_ = canvas.layout, canvas.masked
        num = max(1, len(layout.group_sizes))
        if u.dim() != 2 or len(u) != len(tokens) or u.shape[1] < num:
            raise UnisonoError(f"numbers of shape {tuple(u.shape)}: give {len(tokens)} rows of {num} groups' numbers")
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
    """Every hidden position shown, every shown one hidden, in a second copy of the batch (Fast-dLLM v2,
    arXiv:2509.26328): each token of the window is learnt exactly once per batch.

    Rows b … 2b − 1 of what comes out are the complements. For corruptions whose weights are 0 and 1.
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
    """Reveal floor(ratio · wrong) of the true tokens at random, wrong = how many a first pass got wrong.

    GLAT (Qian et al., 2021, arXiv:2008.07905) and Paraformer's sampler (arXiv:2206.08317). The first pass
    reads the blank canvas and needs no gradient; the second is trained on what stays hidden.
    """

    ratio: float = 0.5

    def __post_init__(self):
        if not is_real(self.ratio, 0, 1):
            raise UnisonoError(f"glancing ratio {self.ratio!r}: give one from 0 to 1")

    def __call__(self, canvas: Canvas, tokens: Int[Tensor, "b l"], logits: Float[Tensor, "b l v"]) -> Corrupted:
        """`logits` are the first pass' at every position. Raises `UnisonoError` as the others do."""
        _check(canvas, tokens)
        window = canvas.masked
        logits = logits if canvas.layout.one_vocabulary else logits.masked_fill(canvas.layout.foreign(), -torch.inf)
        wrong = (window & (logits.argmax(-1) != tokens)).sum(1)
        count = (self.ratio * wrong.double() + 1e-9).floor().long()
        hidden = window & ~best(-_site_numbers(canvas), window, count)
        return Corrupted(_show(canvas, tokens, hidden), tokens, hidden.double(), window)


def corruption_for(strategy: Strategy, **options: Any) -> PlanMasking | Diffusion:
    """The corruption that shows a network what this strategy will show it; `options` go to its constructor.

    `Diffusion` for strategies that fill each position by chance (MDLM, ReMDM, block diffusion), else
    `PlanMasking` of the strategy's plan.
    """
    if isinstance(strategy.select, Bernoulli):
        return Diffusion(strategy.select.alpha, grouped=strategy.plan.grouped, **options)
    return PlanMasking(strategy.plan, **options)


def block_causal(layout: Layout) -> Bool[Tensor, "l l"]:
    """[i, j]: position i sees j, in its own block or an earlier one."""
    return layout.group[:, None] >= layout.group


def noised_and_clean(layout: Layout) -> Bool[Tensor, "2*l 2*l"]:
    """The attention of block diffusion's training: the noised tokens, then the clean ones (BD3-LM, §3).

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
            f"tokens of shape {tuple(tokens.shape)}: this canvas has {tuple(canvas.tokens.shape)} [rows, positions]"
        )
    start, stop = canvas.layout.vocab.unbind(1)
    wrong = canvas.masked & ((tokens < start) | (tokens >= stop))
    if bool(wrong.any()):
        row, at = wrong.nonzero()[0].tolist()
        raise UnisonoError(
            f"row {row}: token {int(tokens[row, at])} at position {at}, "
            f"which may hold {int(start[at])} to {int(stop[at]) - 1}"
        )


def _show(canvas: Canvas, tokens: Tensor, hidden: Tensor) -> Canvas:
    """The canvas with everything known but what is hidden; frozen tokens stay as they were given."""
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
    """A group with something open, by weight, and the odds of that; −1 and 1 for a row that has none."""
    num = int(group_of.max()) + 1 if len(group_of) else 1
    if weights is None:
        weights = [1.0] * num
    if len(weights) != num:
        raise UnisonoError(f"weights of {len(weights)} groups, but the layout has {num}: give one per group")
    there = torch.zeros(len(canvas.tokens), num, device=group_of.device, dtype=torch.int64)
    there = there.scatter_add(1, group_of.expand_as(canvas.tokens), canvas.masked.long()) > 0
    share = there * torch.tensor(weights, dtype=torch.float64, device=group_of.device)
    total = share.sum(1, keepdim=True)
    reached = share.cumsum(1) > _row_number(canvas, _GROUP)[:, None] * total
    group = torch.where(total[:, 0] > 0, reached.int().argmax(1), -1)
    odds = (share / total.clamp_min(1e-300)).gather(1, group.clamp_min(0)[:, None])[:, 0]
    return group, torch.where(group >= 0, odds, 1.0)


def _planned_count(plan: Plan, group: Tensor, total: Tensor, u: Tensor) -> Int[Tensor, " b"]:
    """How many a plan still has masked before one of its steps, each step as often."""
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
    """Freeze a number of leading frames, uniform from none to all but one of a row's."""
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
