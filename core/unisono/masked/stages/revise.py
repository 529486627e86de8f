"""Revise (stage 7): mask committed tokens again, or change them; frozen positions are never touched.

With a perfect model, revising keeps the law of a finished canvas only if the choice does not depend on
the tokens and one token at a time is drawn anew: a Gibbs step. Everything else moves the law away from
the model's, and is worth it only where the model errs: such revisers say ``keeps_law = False``.

Letters: b batch, l positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unisono.checks import fault_of, is_real, is_whole
from unisono.errors import UnisonoError
from unisono.masked import random
from unisono.masked.canvas import Canvas
from unisono.masked.stages.context import StepContext
from unisono.masked.stages.plan import Steps, check_steps, steps_of
from unisono.masked.stages.select import best


class Revise(Protocol):
    """From the canvas after the commits to the canvas that the next step sees."""

    @property
    def keeps_law(self) -> bool: ...

    @property
    def static(self) -> bool: ...

    def __call__(self, at: StepContext, canvas: Canvas) -> Canvas: ...

    def more(self, canvas: Canvas) -> Bool[Tensor, " b"]:
        """Which rows want another step although they are complete."""
        ...


class _NoExtraSteps:
    """Nothing more to do once the canvas is complete."""

    def more(self, canvas: Canvas) -> Tensor:
        return torch.zeros_like(canvas.step, dtype=torch.bool)


@dataclass(frozen=True)
class Never(_NoExtraSteps):
    """What is committed stays."""

    keeps_law = True
    static = True

    def __call__(self, at: StepContext, canvas: Canvas) -> Canvas:
        return canvas


@dataclass(frozen=True)
class KeepBest(_NoExtraSteps):
    """Of all tokens of the group, mask the worst again, as many as the plan leaves (Token-Critic)."""

    keeps_law = False
    static = True

    def __call__(self, at: StepContext, canvas: Canvas) -> Canvas:
        keep = at.window.sum(1) - at.planned.count
        return canvas.remask(best(-at.score, at.planned.members & ~canvas.frozen, keep))


@dataclass(frozen=True)
class Correct:
    """Once complete, mask `size` tokens again and fill them anew, `rounds` times (one evaluation each).

    ``how="random"`` with size 1 is random-scan Gibbs sampling: a perfect model's law stays as it is, and an
    imperfect start moves towards it. ``how="lowest"`` takes the least probable tokens by their probability
    when committed; it keeps no law.
    """

    rounds: int
    size: int = 1
    how: Literal["random", "lowest"] = "random"
    static = False

    def __post_init__(self):
        if self.how not in get_args(Literal["random", "lowest"]):
            raise UnisonoError(
                f"correct how={self.how!r}: random or lowest", code="unknown", path="how", value=self.how
            )
        for name, number in (("rounds", self.rounds), ("size", self.size)):
            if not is_whole(number, 1):
                raise UnisonoError(
                    f"{self.rounds!r} rounds of {self.size!r} tokens: whole numbers, at least 1 each",
                    code=fault_of(number, whole=True),
                    path=name,
                    value=number,
                )

    @property
    def keeps_law(self) -> bool:
        return self.how == "random" and self.size == 1

    def __call__(self, at: StepContext, canvas: Canvas) -> Canvas:
        done = at.remembered("correct.rounds", canvas.step)
        due = canvas.known.all(1) & (done < self.rounds)
        at.memo["correct.rounds"] = done + due
        score = at.uniform(random.REVISE) if self.how == "random" else -_confidence(at, canvas)
        chosen = best(score, ~canvas.frozen, torch.full_like(done, self.size))
        return canvas.remask(chosen & due[:, None])

    def more(self, canvas: Canvas) -> Tensor:
        """A complete canvas that was handed in as a draft still gets its rounds."""
        return canvas.memo.get("correct.rounds", torch.zeros_like(canvas.step)) < self.rounds


@dataclass(frozen=True)
class Edit(_NoExtraSteps):
    """Exchange committed tokens for the likeliest one where its probability is above `threshold`.

    Token-to-token editing as in LLaDA 2.1, among positions that were known before this step.
    """

    threshold: float
    keeps_law = False
    static = False

    def __post_init__(self):
        if not is_real(self.threshold):
            raise UnisonoError(
                f"edit threshold {self.threshold!r}: give a number",
                code=fault_of(self.threshold),
                path="threshold",
                value=self.threshold,
            )

    def __call__(self, at: StepContext, canvas: Canvas) -> Canvas:
        m = at.marginals
        where = at.canvas.known & (m.top > self.threshold) & (m.token != at.canvas.tokens)
        return canvas.commit(where, m.token)


@dataclass(frozen=True, eq=False)
class Remasking:
    """ReMDM (arXiv:2503.00307): masked diffusion whose tokens may be masked again, with rate σ.

    From time t to s, with α the share unmasked: a known token is masked with probability σ, a masked
    position is filled with probability (α_s − (1 − σ)·α_t)/(1 − α_t), so that the marginals at each time
    are those without remasking. σ is at most σ_max = min(1, (1 − α_s)/α_t).

    - cap: σ = min(eta, σ_max)
    - rescale: σ = eta·σ_max
    - conf: σ_i = eta·σ_max·softmax_i(−ψ), ψ a token's probability when it was committed; masked ones have σ = 0
    - loop: α rises to `alpha_on` until time `t_on`, is held there until `t_off` while min(eta, σ_max) of the
      tokens are exchanged in each step, and then rises to 1

    Time is per row (published code shares it over the batch). α(t) = 1 − t outside of the loop.
    """

    kind: Literal["cap", "rescale", "conf", "loop"]
    num_steps: Steps
    eta: float
    t_on: float = 0.55
    t_off: float = 0.05
    alpha_on: float = 0.9
    keeps_law = False
    static = False

    def __post_init__(self):
        check_steps(self.num_steps)
        if self.kind not in ("cap", "rescale", "conf", "loop"):
            raise UnisonoError(
                f"remasking {self.kind!r}: cap, rescale, conf or loop", code="unknown", path="kind", value=self.kind
            )
        if not is_real(self.eta, 0, 1):
            raise UnisonoError(
                f"remasking eta {self.eta!r}: give a number from 0 to 1",
                code=fault_of(self.eta),
                path="eta",
                value=self.eta,
            )
        if self.kind == "loop" and not (0 < self.t_off < self.t_on < 1 and 0 < self.alpha_on < 1):
            raise UnisonoError(
                f"loop from t_on = {self.t_on} to t_off = {self.t_off} at alpha_on = {self.alpha_on}: "
                "0 < t_off < t_on < 1 and 0 < alpha_on < 1",
                code="range",
                path="alpha_on" if 0 < self.t_off < self.t_on < 1 else "t_on",
                value=self.alpha_on if 0 < self.t_off < self.t_on < 1 else self.t_on,
            )

    def alpha(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """The share unmasked at time t."""
        if self.kind != "loop":
            return 1 - t
        rise = self.alpha_on * (1 - t) / (1 - self.t_on)
        fall = 1 - (1 - self.alpha_on) * t / self.t_off
        return torch.where(t > self.t_on, rise, torch.where(t > self.t_off, self.alpha_on, fall))

    def rates(self, at: StepContext) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """How likely each row masks a token again (σ; for conf, its sum over tokens) and fills a masked position."""
        step, steps = at.canvas.step, steps_of(self.num_steps, at.canvas.step)
        t = (1 - step.double() / steps).clamp_min(0)
        s = (1 - (step + 1).double() / steps).clamp_min(0)
        a_t, a_s = self.alpha(t), self.alpha(s)
        most = ((1 - a_s) / a_t.clamp_min(1e-300)).clamp_max(1)
        if self.kind in ("rescale", "conf"):
            sigma = self.eta * most
        else:
            sigma = most.clamp_max(self.eta)
            if self.kind == "loop":
                sigma = torch.where((t <= self.t_on) & (s >= self.t_off - 1e-9), sigma, 0)
        shared = 0 if self.kind == "conf" else sigma
        unmask = (a_s - (1 - shared) * a_t) / (1 - a_t).clamp_min(1e-300)
        return sigma, torch.where(step + 1 >= steps, 1.0, unmask.clamp(0, 1))

    def unmask_rate(self, at: StepContext) -> Float[Tensor, " b"]:
        return self.rates(at)[1]

    def __call__(self, at: StepContext, canvas: Canvas) -> Canvas:
        old = at.canvas.known & ~canvas.frozen
        sigma = self.rates(at)[0][:, None].expand(old.shape)
        if self.kind == "conf":
            sigma = sigma * (-_confidence(at, canvas)).masked_fill(~old, -torch.inf).softmax(1).nan_to_num(0)
        return canvas.remask(old & (at.uniform(random.REVISE) < sigma))

    def more(self, canvas: Canvas) -> Tensor:
        return canvas.step < steps_of(self.num_steps, canvas.step)

    def rows(self, index: Int[Tensor, " n"]) -> Remasking:
        steps = self.num_steps[index] if isinstance(self.num_steps, Tensor) else self.num_steps
        return Remasking(self.kind, steps, self.eta, self.t_on, self.t_off, self.alpha_on)


def _confidence(at: StepContext, canvas: Canvas) -> Float[Tensor, "b l"]:
    """Each token's raw probability when it was committed, remembered; 1 for what was given."""
    p = at.marginals.logp.gather(-1, canvas.tokens[..., None])[..., 0].exp().double()
    before = at.memo.get("commit.p", torch.ones_like(p))
    at.memo["commit.p"] = torch.where(at.commit, p, before)
    return at.memo["commit.p"]
