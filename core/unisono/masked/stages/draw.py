"""Draw (stage 6): one token per position from warped logits.

Categorical draws invert the distribution function in float64, at the chosen positions only. Two lotteries,
positions first and tokens second, replace the joint Gumbel over {mask} and the vocabulary: the same law
without its float32 tails, and k·v numbers instead of l·v.

Letters: b batch, k positions, v vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unisono.checks import fault_of, is_whole
from unisono.errors import UnisonoError
from unisono.masked import random
from unisono.masked.stages.context import StepContext


class Draw(Protocol):
    """Tokens at sites. `exact`: over random seeds, a token follows the softmax of its logits."""

    exact: ClassVar[bool]

    def __call__(
        self, logits: Float[Tensor, "b k v"], sites: Int[Tensor, "b k"], live: Bool[Tensor, "b k"], at: StepContext
    ) -> Int[Tensor, "b k"]: ...


@dataclass(frozen=True)
class Categorical:
    """From the softmax, with fresh numbers in every step."""

    exact: ClassVar[bool] = True

    def __call__(self, logits: Tensor, sites: Tensor, live: Tensor, at: StepContext) -> Tensor:
        return invert(logits, at.uniform(random.DRAW, sites))


@dataclass(frozen=True)
class Greedy:
    """The likeliest token; of equals the first."""

    exact: ClassVar[bool] = False

    def __call__(self, logits: Tensor, sites: Tensor, live: Tensor, at: StepContext) -> Tensor:
        return logits.max(-1).indices  # also the first of equals, and twice as fast as argmax


@dataclass(frozen=True)
class FixedNoise:
    """From the softmax, with one number per position for all steps: the canvas is a function of its marginals.

    What Jacobi iteration and self-verification need; a position drawn once follows the softmax.
    """

    exact: ClassVar[bool] = True

    def __call__(self, logits: Tensor, sites: Tensor, live: Tensor, at: StepContext) -> Tensor:
        return invert(logits, random.uniform(at.canvas.seed, torch.zeros_like(at.canvas.step), sites, random.DRAW))


@dataclass(frozen=True)
class ArithmeticCodes:
    """From the softmax, by one code per row (Vilnis et al., 2023, arXiv:2210.15458).

    A row is a number in [0, 1); each draw takes the token whose interval of the distribution function
    holds it, and stretches that interval to [0, 1). Rows with seeds m·n to m·n + n − 1, n = `num_samples`,
    start on a lattice of n numbers with one random shift, modulo 1: each row alone follows the model, and
    together they cover it evenly. Positions of one step are drawn in the order of their sites.

    Each token spends −log2 p bits of a code. Once log2 n + 8 are spent, no other row is left in the same
    interval, and a fresh number takes the code's place: the same law, and it never runs out (float32, as
    published, does after some 24 bits in all). It also ends the growth of rounding errors, which a code
    doubles with each bit: else a row alone and in a batch would soon part.
    """

    num_samples: int
    exact: ClassVar[bool] = True

    def __post_init__(self):
        if not is_whole(self.num_samples, 1):
            raise UnisonoError(
                f"arithmetic codes for {self.num_samples!r} samples: a whole number of at least 1",
                code=fault_of(self.num_samples, whole=True),
                path="num_samples",
                value=self.num_samples,
            )

    def __call__(self, logits: Tensor, sites: Tensor, live: Tensor, at: StepContext) -> Tensor:
        code, grain = at.memo.get("codes.code"), at.memo.get("codes.grain")
        if code is None or grain is None:
            zero = torch.zeros_like(at.canvas.seed)
            lattice = at.canvas.seed.div(self.num_samples, rounding_mode="floor")
            shift = random.uniform(lattice, zero, zero[:, None], random.CHOICE)[:, 0]
            # Over all of [0, 1): a shift within the row's own n-th would bind its first tokens to that.
            code = ((at.canvas.seed % self.num_samples).double() / self.num_samples + shift) % 1
            grain = torch.full_like(code, 2.0**-52)
        prob = logits.double().softmax(-1)
        cdf = prob.cumsum(-1)
        fresh = at.uniform(random.CHOICE, sites)
        tokens = []
        for j in range(sites.shape[1]):
            token = _locate(cdf[:, j], code)
            p = prob[:, j].gather(-1, token[:, None])[:, 0]
            low = cdf[:, j].gather(-1, token[:, None])[:, 0] - p
            after = ((code - low) / p).clamp(0, 1 - 2.0**-52)
            spent = grain / p
            renew = spent > self.num_samples * 2.0**-44
            after = torch.where(renew, fresh[:, j], after)
            spent = torch.where(renew, 2.0**-52, spent)
            code = torch.where(live[:, j], after, code)
            grain = torch.where(live[:, j], spent, grain)
            tokens.append(token)
        at.memo["codes.code"], at.memo["codes.grain"] = code, grain
        return torch.stack(tokens, 1) if tokens else sites


def invert(logits: Float[Tensor, "b k v"], u: Float[Tensor, "b k"]) -> Int[Tensor, "b k"]:
    """The token at which the distribution function passes u, in float64; never one of probability 0."""
    # In one place, and not divided by the total, which u is multiplied by: at this size memory is what costs.
    cdf = logits.to(torch.double, copy=True)
    cdf -= cdf.amax(-1, keepdim=True)
    cdf.clamp_min_(_NEVER)  # of −∞ the exponential takes ten times as long
    return _locate(cdf.exp_().cumsum_(-1), u, least=1e-290)


_NEVER = -700.0
"""exp(−700) is 1e−304: beside a token that can be drawn, nothing; before the first of them, less than `least`."""


def _locate(cdf: Float[Tensor, "*k v"], u: Float[Tensor, "*k"], least: float = 0.0) -> Int[Tensor, "*k"]:
    total = cdf[..., -1]
    # A product that rounds up to the total would point past the end.
    target = torch.minimum((u * total).clamp_min(least), torch.nextafter(total, torch.zeros_like(total)))
    token = torch.searchsorted(cdf.contiguous(), target[..., None].contiguous(), right=True)[..., 0]
    return token.clamp_max(cdf.shape[-1] - 1)  # NaN, at a site that is not live or will be reported
