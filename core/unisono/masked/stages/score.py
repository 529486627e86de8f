"""Score (stage 4): which positions to commit first; the highest wins.

Scores that are worked out before tokens are drawn (choose, then draw) keep the model's joint law at one
token per step, whatever the order. Scores of drawn tokens (draw, then choose: MaskGIT, SoundStorm,
VampNet, MMM, LLaDA) do not, at any number of steps: they say ``uses_draw``. Scores that read no marginals
are ``blind``: their positions are known before the evaluation, which may then be asked for those alone.

Letters: b batch, l positions, v vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from unisono.checks import fault_of, is_real
from unisono.errors import UnisonoError
from unisono.masked import random
from unisono.masked.run.handle import select_rows
from unisono.masked.stages.context import StepContext
from unisono.masked.stages.orders import halton_order


class Score(Protocol):
    """A number per position, higher = sooner."""

    @property
    def uses_draw(self) -> bool: ...

    @property
    def blind(self) -> bool: ...

    def __call__(self, at: StepContext) -> Float[Tensor, "b l"]: ...


@dataclass(frozen=True)
class Random:
    """Another random order in every step, of each row's own."""

    uses_draw = False
    blind = True

    def __call__(self, at: StepContext) -> Tensor:
        return at.uniform(random.SCORE)


@dataclass(frozen=True, eq=False)
class Rank:
    """A given order: positions by ascending `rank`, int64 [l] (`unisono.masked.stages.orders`).

    `roll` starts each row at another point of the order, which then wraps around: rows differ, and a
    mixture of orders is no worse than one of them (Kullback–Leibler divergence is convex).
    """

    rank: Int[Tensor, " l"]
    roll: bool = False
    uses_draw = False
    blind = True

    def __call__(self, at: StepContext) -> Tensor:
        l_ = at.canvas.layout.length
        if self.rank.shape != (l_,):
            raise UnisonoError(
                f"an order of {tuple(self.rank.shape)} positions: this canvas has {l_}",
                code="shape",
                path="rank",
                value=tuple(self.rank.shape),
            )
        rank = self.rank.to(at.canvas.tokens).expand(at.canvas.tokens.shape)
        if self.roll:
            zero = torch.zeros_like(at.canvas.step)
            length = at.canvas.length.clamp_min(1)[:, None]  # the row's own, so that padding changes nothing
            start = random.uniform(at.canvas.seed, zero, zero[:, None], random.SCORE) * length
            rank = (rank - start.long()) % length
        return -rank.double()


@dataclass(frozen=True)
class HaltonInTime:
    """The base-3 Halton order of the row's frames; streams of a frame one after the other.

    The order is that of the next power of two of frames, at least 64, so that a row has the same order whatever the
    batch is padded to.
    """

    num_streams: int = 1
    uses_draw = False
    blind = True

    def __call__(self, at: StepContext) -> Tensor:
        frames = -(-at.canvas.layout.length // self.num_streams)
        sizes, ranks = _halton_ranks(frames, at.canvas.tokens.device)
        which = (-(-at.canvas.length // self.num_streams)[:, None] > sizes[:-1]).sum(1)
        rank = ranks[which] * self.num_streams
        stream = torch.arange(self.num_streams, device=rank.device)
        rank = rearrange(rank[:, :, None] + stream, "b t q -> b (t q)")
        return -rank[:, : at.canvas.layout.length].double()


class _OfMarginals:
    """A score of marginals, before anything is drawn."""

    uses_draw = False
    blind = False


@dataclass(frozen=True)
class MaxProb(_OfMarginals):
    """The largest probability."""

    def __call__(self, at: StepContext) -> Tensor:
        return at.marginals.top


@dataclass(frozen=True)
class Margin(_OfMarginals):
    """The largest probability less the second (Kim et al., 2025, arXiv:2502.06768)."""

    def __call__(self, at: StepContext) -> Tensor:
        return at.marginals.margin


@dataclass(frozen=True)
class NegativeEntropy(_OfMarginals):
    """−H: the most certain first."""

    def __call__(self, at: StepContext) -> Tensor:
        return -at.marginals.entropy


@dataclass(frozen=True)
class Drawn:
    """The drawn token's raw probability, or its logarithm (the default).

    The order is the same; under `Perturbed` it is not: Gumbel noise on log p picks position i with
    probability ∝ p_i^(1/temperature), on p itself (MaskGCT) it is nearly blind.
    """

    log: bool = True
    uses_draw = True
    blind = False

    def __call__(self, at: StepContext) -> Tensor:
        logp = at.drawn_logp
        return logp if self.log else logp.exp()


@dataclass(frozen=True, eq=False)
class Critic:
    """How real each token of the completed canvas looks to another network (Token-Critic, arXiv:2209.04439).

    `critic` is a callable (tokens, known, query) → [b, l, 1], higher = more real; one evaluation.
    """

    critic: Any
    uses_draw = True
    blind = False

    def __call__(self, at: StepContext) -> Tensor:
        return at.handle(at.canvas.commit(at.window, at.drawn), model=self.critic, width=1)[..., 0]

    def rows(self, index: Int[Tensor, " n"]) -> Critic:
        return Critic(select_rows(self.critic, index))


@dataclass(frozen=True)
class Credit(_OfMarginals):
    """The largest probability, raised for a token that stays the likeliest (dInfer, arXiv:2510.08666).

    A position's credit is c ← decay·c + p^gamma while its likeliest token stays the same, else p^gamma;
    that token's logit is raised by strength·log(1 + c). Published with a credit per token of the
    vocabulary; here per position, for the likeliest one only: no other can be committed by it.
    """

    strength: float = 0.7
    gamma: float = 0.2
    decay: float = 0.8

    def __call__(self, at: StepContext) -> Tensor:
        p, token = at.marginals.top, at.marginals.token
        before = at.remembered("credit.value", p)
        same = at.remembered("credit.token", token) == token + 1  # 0 means: none yet
        credit = torch.where(same, self.decay * before, 0) + p**self.gamma
        at.memo["credit.value"], at.memo["credit.token"] = credit, token + 1
        raised = p * (1 + credit) ** self.strength
        return raised / (1 - p + raised)


@dataclass(frozen=True, eq=False)
class Perturbed:
    """A score plus Gumbel noise: positions are then drawn without replacement, ∝ exp(score/temperature).

    `anneal` brings the temperature linearly to 0 in the group's last step (MaskGIT's choice temperature).
    """

    score: Any
    temperature: float
    anneal: bool = True

    def __post_init__(self):
        if not is_real(self.temperature, 0):
            raise UnisonoError(
                f"choice temperature {self.temperature!r}: give a number of at least 0",
                code=fault_of(self.temperature),
                path="temperature",
                value=self.temperature,
            )

    @property
    def uses_draw(self) -> bool:
        return self.score.uses_draw

    @property
    def blind(self) -> bool:
        return self.score.blind

    def __call__(self, at: StepContext) -> Tensor:
        t = torch.full_like(at.planned.progress, self.temperature)
        if self.anneal:
            t = t * (1 - at.planned.progress)
        return self.score(at).double() + t[:, None] * at.gumbel(random.SCORE)

    def rows(self, index: Int[Tensor, " n"]) -> Perturbed:
        inner = self.score.rows(index) if hasattr(self.score, "rows") else self.score
        return replace(self, score=inner)


@dataclass(frozen=True)
class RandomOrder:
    """One random order per row, kept through all steps (ARPG draws one for the whole batch)."""

    uses_draw = False
    blind = True

    def __call__(self, at: StepContext) -> Tensor:
        zero = torch.zeros_like(at.canvas.step)
        return random.uniform(at.canvas.seed, zero, at.canvas.sites, random.SCORE)


@lru_cache(maxsize=16)
def _halton_ranks(frames: int, device: torch.device) -> tuple[Int[Tensor, " n"], Int[Tensor, "n t"]]:
    """Powers of two from 64 to beyond a number of frames, and each one's order of these frames."""
    sizes = [64]
    while sizes[-1] < frames:
        sizes.append(2 * sizes[-1])
    ranks = torch.full((len(sizes), frames), sizes[-1])
    for row, size in zip(ranks, sizes, strict=True):
        row[:size] = halton_order(1, size)[:frames]
    return torch.tensor(sizes, device=device), ranks.to(device)
