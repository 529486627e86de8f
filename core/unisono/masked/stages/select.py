"""Select (stage 5): which open positions to commit, from scores, counts and marginals.

Every rule works on one row at a time: a row's commits never depend on its neighbours. Equal scores are
settled by position, lower first, so that counts are exact.

Letters: b batch, l positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unisono.checks import fault_of, is_real, is_whole
from unisono.errors import UnisonoError
from unisono.masked import random
from unisono.masked.stages.context import StepContext


class Select(Protocol):
    """Scores to commits. `static`: how many is known from counts alone, so that it can be rehearsed."""

    @property
    def static(self) -> bool: ...

    def __call__(self, score: Float[Tensor, "b l"], at: StepContext) -> Bool[Tensor, "b l"]: ...


@dataclass(frozen=True)
class TopK:
    """As many as the plan says, from the highest score down."""

    static = True

    def __call__(self, score: Tensor, at: StepContext) -> Tensor:
        return best(score, at.window, at.planned.count)


@dataclass(frozen=True)
class All:
    """Everything that is open."""

    static = True

    def __call__(self, score: Tensor, at: StepContext) -> Tensor:
        return at.window


@dataclass(frozen=True)
class Threshold:
    """Every score above `value`: Fast-dLLM (arXiv:2505.22618), Dimple, dInfer."""

    value: float
    static = False

    def __post_init__(self):
        if not is_real(self.value):
            raise UnisonoError(
                f"threshold {self.value!r}: give a number", code=fault_of(self.value), path="value", value=self.value
            )

    def __call__(self, score: Tensor, at: StepContext) -> Tensor:
        return at.window & (score > self.value)


@dataclass(frozen=True)
class Factor:
    """The largest n with (n + 1)·(1 − c_n) < factor, c the top probabilities, descending (Fast-dLLM)."""

    factor: float
    static = False

    def __post_init__(self):
        if not is_real(self.factor, 0):
            raise UnisonoError(
                f"factor {self.factor!r}: give a number of at least 0",
                code=fault_of(self.factor),
                path="factor",
                value=self.factor,
            )

    def __call__(self, score: Tensor, at: StepContext) -> Tensor:
        def rule(error: Tensor) -> Tensor:
            n = torch.arange(1, error.shape[1] + 1, device=error.device)
            return (n + 1) * error < self.factor

        return prefix(at.marginals.top, 1 - at.marginals.top, at.window, rule)


@dataclass(frozen=True)
class Frechet:
    """The longest prefix in order of score with Σε + max ε ≤ 1 − slack, ε = 1 − top probability.

    By Fréchet's lower bound, the likeliest tokens of these positions are then their likeliest joint value
    too, whatever the dependence between them (Fast-dLLM++, arXiv:2606.02955). For greedy draws.
    """

    slack: float = 0.0
    static = False

    def __post_init__(self):
        if not (is_real(self.slack, 0, 1) and self.slack < 1):
            raise UnisonoError(
                f"slack {self.slack!r}: give a number in [0, 1)",
                code=fault_of(self.slack),
                path="slack",
                value=self.slack,
            )

    def __call__(self, score: Tensor, at: StepContext) -> Tensor:
        def rule(error: Tensor) -> Tensor:
            return error.cumsum(1) + error.cummax(1).values <= 1 - self.slack

        return prefix(score, 1 - at.marginals.top, at.window, rule)


@dataclass(frozen=True)
class EntropyBound:
    """The longest prefix in order of score with ΣH − max H ≤ gamma (EB-Sampler, arXiv:2505.24857).

    This bounds the total correlation of what is drawn at once, so the step's own share of the
    Kullback–Leibler divergence is at most gamma nats. The first position costs nothing.
    """

    gamma: float
    static = False

    def __post_init__(self):
        if not is_real(self.gamma, 0):
            raise UnisonoError(
                f"entropy bound {self.gamma!r}: give a number of nats, at least 0",
                code=fault_of(self.gamma),
                path="gamma",
                value=self.gamma,
            )

    def __call__(self, score: Tensor, at: StepContext) -> Tensor:
        def rule(entropy: Tensor) -> Tensor:
            # 1e-9: the sum of a single entropy less itself must be nothing, in any precision
            return entropy.cumsum(1) - entropy.cummax(1).values <= self.gamma + 1e-9

        return prefix(score, at.marginals.entropy.double(), at.window, rule)


@dataclass(frozen=True)
class KLStable:
    """Marginals that moved less than `epsilon` nats in each of the last `patience` steps, and are sure.

    KLASS (arXiv:2511.05664): KL(p_t ‖ p_{t−1}) < epsilon, `patience` times in a row, and top probability
    above `confidence`. Keeps the previous step's log-probabilities [b, l, v].
    """

    epsilon: float = 0.01
    confidence: float = 0.9
    patience: int = 2
    static = False

    def __post_init__(self):
        fits = {
            "epsilon": is_real(self.epsilon, 0),
            "confidence": is_real(self.confidence),
            "patience": is_whole(self.patience, 1),
        }
        for name in (name for name, fit in fits.items() if not fit):
            raise UnisonoError(
                f"epsilon {self.epsilon!r}, confidence {self.confidence!r}, patience {self.patience!r}: "
                "give numbers, epsilon at least 0, patience a whole number of at least 1",
                code=fault_of(getattr(self, name), whole=name == "patience"),
                path=name,
                value=getattr(self, name),
            )

    def __call__(self, score: Tensor, at: StepContext) -> Tensor:
        m = at.marginals
        before = at.memo.get("klass.logp")
        if before is None:
            calm = torch.zeros_like(at.canvas.tokens)
        else:
            # a token of probability 0 adds nothing, whatever it was before
            gain = torch.where(m.p > 0, m.p * (m.logp - before), 0).sum(-1)
            calm = torch.where(gain < self.epsilon, at.memo["klass.calm"] + 1, 0)
        at.memo["klass.logp"], at.memo["klass.calm"] = m.logp, calm
        return at.window & (calm >= self.patience) & (m.top > self.confidence)


@dataclass(frozen=True, eq=False)
class Bernoulli:
    """Each open position with probability (α_s − α_t)/(1 − α_t), all in the last step.

    The reverse step of masked diffusion from time t to s (MDLM, arXiv:2406.07524), t = 1 − step/steps of
    the plan. `alpha` is the share unmasked as a function of time, float64, falling from α(0) = 1 to
    α(1) = 0; the default is 1 − t. `remasking` (`unisono.masked.stages.revise`) gives rates that leave room for it.
    """

    alpha: Callable[[Tensor], Tensor] | None = None
    remasking: Any = None
    static = False

    def __post_init__(self):
        if self.alpha is not None:
            ends = self.alpha(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
            if abs(ends[0] - 1) > 1e-6 or abs(ends[1]) > 1e-6:
                raise UnisonoError(
                    f"alpha runs from α(0) = {ends[0]:.3g} to α(1) = {ends[1]:.3g}: it must be 1 and 0",
                    code="value",
                    path="alpha",
                    value=ends,
                )

    def __call__(self, score: Tensor, at: StepContext) -> Tensor:
        if self.remasking is not None:
            rate = self.remasking.unmask_rate(at)
        else:
            t = 1 - at.planned.step.double() / at.planned.steps
            s = (1 - (at.planned.step + 1).double() / at.planned.steps).clamp_min(0)
            a_t, a_s = (1 - t, 1 - s) if self.alpha is None else (self.alpha(t), self.alpha(s))
            rate = torch.where(at.planned.step + 1 >= at.planned.steps, 1.0, (a_s - a_t) / (1 - a_t))
        return at.window & (at.uniform(random.SELECT) < rate[:, None])

    def rows(self, index: Int[Tensor, " n"]) -> Bernoulli:
        return self if self.remasking is None else replace(self, remasking=self.remasking.rows(index))


@dataclass(frozen=True, eq=False)
class Fallback:
    """A rule, and where it commits nothing in a row, the `count` best scores instead (None: the plan's count)."""

    select: Any
    count: int | None = 1

    static = False

    def __post_init__(self):
        if self.count is not None and not is_whole(self.count, 1):
            raise UnisonoError(
                f"fallback count {self.count!r}: give a whole number of at least 1, or None",
                code=fault_of(self.count, whole=True),
                path="count",
                value=self.count,
            )

    def __call__(self, score: Tensor, at: StepContext) -> Tensor:
        chosen = self.select(score, at)
        count = at.planned.count if self.count is None else torch.full_like(at.planned.count, self.count)
        return torch.where(chosen.any(1, keepdim=True), chosen, best(score, at.window, count))


@dataclass(frozen=True, eq=False)
class AtMost:
    """A rule, and of what it commits the plan's count at most, best scores first."""

    select: Any
    static = False

    def __call__(self, score: Tensor, at: StepContext) -> Tensor:
        return best(score, self.select(score, at), at.planned.count)


def best(score: Float[Tensor, "b l"], window: Bool[Tensor, "b l"], count: Int[Tensor, " b"]) -> Bool[Tensor, "b l"]:
    """The `count` highest scores in the window, exactly (or the whole window, if it is smaller)."""
    return window & (_rank(score, window) < count[:, None])


def prefix(
    score: Float[Tensor, "b l"],
    values: Float[Tensor, "b l"],
    window: Bool[Tensor, "b l"],
    rule: Callable[[Tensor], Tensor],
) -> Bool[Tensor, "b l"]:
    """The longest prefix of the window in order of score of which `rule` holds, given its values in order."""
    rank = _rank(score, window)
    order = rank.argsort(1)
    inside = window.gather(1, order)
    ok = rule(values.gather(1, order).masked_fill(~inside, 0)) & inside
    return ok.long().cumprod(1).bool().gather(1, rank)


def _rank(score: Tensor, window: Tensor) -> Tensor:
    """Each position's place when ordered by score, the window first, equals by position."""
    lowest = torch.finfo(score.dtype).min  # a score of −inf in the window still comes before what is outside
    score = score.clamp_min(lowest).masked_fill(~window, -torch.inf)
    order = score.argsort(dim=1, descending=True, stable=True)
    place = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, place)
