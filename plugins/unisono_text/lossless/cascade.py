"""Speculative cascades: the draft's own word where it will do, the target's elsewhere (arXiv:2405.19261).

Narasimhan et al., "Faster Cascades via Speculative Decoding" (ICLR 2025). A deferral law says at each position what of
the draft's law q may stand, and leaves the rest to the target's p. Decoding follows that law π exactly, by rejection
(`unisono_text.lossless.pair`), and keeps more of a draft than p would. It is exact for its own law, never lossless:
with α it moves from the target's text to the draft's.

    deferral   what stands                                      α                   α for p    equation
    chow       q, if max q ≥ 1 − α; else p                      [0, 1]              0          2
    diff       q, if max q ≥ max p − α; else p                  [−1, 1]             −1         5
    opt        q, if max q ≥ max p − α · TV(p, q); else p       any                 −∞         10
    token-v1   the tokens with q(v) ≥ max p − α                 [−1, 1]             −1         13
    token-v2   the tokens with p(v) ≥ max p − α                 [−1, 1]             −1         14
    token-v3   the tokens with p(v) ≥ (1 − α) max p             [0, 1]              0          15

The token rules let a token of q stand by itself, and draw what is left from the whole of p:
π(v) = q(v) 1[v stands] + p(v) (1 − Σ_u q(u) 1[u stands]).

What stands is decided by the networks' own confidence, before temperature, top-k and top-p, as in the authors' code;
so that greedy decoding, where every law is certain, can defer as well. The distance TV(p, q) is that of the laws drawn
from.

Letters: v vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.checks import fault_of, is_real
from unisono.errors import UnisonoError, did_you_mean
from unisono.verify import Cache, Draw, Method, Network

from unisono_text.lossless.entry import Entry, Means
from unisono_text.lossless.pair import PairDraft, PairRule, draft_of

Probabilities = Float[Tensor, "... v"]
DeferralLaw = Callable[[Any, Any, float, Any, Any], Any]


def chow(p: Probabilities, q: Probabilities, alpha: float, sure_p: Probabilities, sure_q: Probabilities):
    """Return q where the draft is sure enough of itself, else p."""
    return torch.where(_top(sure_q) >= 1 - alpha, q, p)


def diff(p: Probabilities, q: Probabilities, alpha: float, sure_p: Probabilities, sure_q: Probabilities):
    """Return q where the draft is as sure as the target, up to α, else p."""
    return torch.where(_top(sure_q) >= _top(sure_p) - alpha, q, p)


def opt(p: Probabilities, q: Probabilities, alpha: float, sure_p: Probabilities, sure_q: Probabilities):
    """Return q where the target is surer by less than what a refusal costs, α times their distance, else p."""
    distance = (q - p).clamp_min(0).sum(-1, keepdim=True)
    return torch.where(_top(sure_q) >= _top(sure_p) - alpha * distance, q, p)


def token_v1(p: Probabilities, q: Probabilities, alpha: float, sure_p: Probabilities, sure_q: Probabilities):
    """Return the law that keeps tokens of which the draft is about as sure as the target of its best."""
    return _stand(p, q, sure_q >= _top(sure_p) - alpha)


def token_v2(p: Probabilities, q: Probabilities, alpha: float, sure_p: Probabilities, sure_q: Probabilities):
    """Return the law that keeps tokens that the target holds for nearly its best, by a difference."""
    return _stand(p, q, sure_p >= _top(sure_p) - alpha)


def token_v3(p: Probabilities, q: Probabilities, alpha: float, sure_p: Probabilities, sure_q: Probabilities):
    """Return the law that keeps tokens that the target holds for nearly its best, by a ratio."""
    return _stand(p, q, sure_p >= (1 - alpha) * _top(sure_p))


@dataclass(frozen=True)
class Deferral:
    """A deferral law, the range of its α, and the one that decoding takes unless told otherwise."""

    law: DeferralLaw
    least: float
    most: float
    usual: float


DEFERRALS: dict[str, Deferral] = {
    "chow": Deferral(chow, 0, 1, 0.5),
    "diff": Deferral(diff, -1, 1, 0.0),
    "opt": Deferral(opt, -math.inf, math.inf, 0.3),
    "token-v1": Deferral(token_v1, -1, 1, 0.0),
    "token-v2": Deferral(token_v2, -1, 1, 0.3),
    "token-v3": Deferral(token_v3, 0, 1, 0.5),
}


@dataclass(frozen=True)
class Cascade:
    """The law of a cascade.

    Args:
        deferral: one of `DEFERRALS`.
        alpha: how much is left to the draft, see this module; None is the deferral's usual one.

    Raises:
        UnisonoError: for an unknown deferral, or an α outside its range.
    """

    deferral: str = "token-v3"
    alpha: float | None = None

    def __post_init__(self):
        if self.deferral not in DEFERRALS:
            raise UnisonoError(
                f"unknown deferral {self.deferral!r}{did_you_mean(str(self.deferral), list(DEFERRALS))}",
                code="unknown",
                path="deferral",
                value=self.deferral,
            )
        rule = DEFERRALS[self.deferral]
        if self.alpha is not None and not is_real(self.alpha, rule.least, rule.most):
            wanted = "any finite number" if math.isinf(rule.most) else f"a number in [{rule.least}, {rule.most}]"
            raise UnisonoError(
                f"alpha {self.alpha!r} with deferral {self.deferral!r}: give {wanted}",
                code=fault_of(self.alpha),
                path="alpha",
                value=self.alpha,
            )

    def __call__(
        self, target: Float[Tensor, "... v"], draft: Float[Tensor, "... v"], draw: Draw
    ) -> Float[Tensor, "... v"]:
        """Return π in float64 from both networks' logits."""
        rule = DEFERRALS[self.deferral]
        alpha = rule.usual if self.alpha is None else float(self.alpha)
        sure = (target.double().softmax(-1), draft.double().softmax(-1))
        return rule.law(draw.law(target), draw.law(draft), alpha, *sure)


def cascade(
    network: Network,
    deferral: str = "token-v3",
    alpha: float | None = None,
    num_draft: int = 4,
    cache: Callable[[int], Cache] | None = None,
) -> Method:
    """A draft network and a deferral law: exact for the cascade, which is another law than the target's."""
    law = Cascade(deferral, alpha)
    return Method(f"cascade ({deferral})", PairDraft(network, law, num_draft, cache), PairRule(law))


def _top(law: Probabilities) -> Float[Tensor, "... 1"]:
    return law.amax(-1, keepdim=True)


def _stand(p: Probabilities, q: Probabilities, stands: Tensor) -> Probabilities:
    kept = q * stands
    return kept + (1 - kept.sum(-1, keepdim=True)).clamp_min(0) * p


def _make(means: Means, options: Mapping[str, Any], cache: Any) -> Method:
    return cascade(draft_of(means, "cascade"), options["deferral"], options["alpha"], options["num_draft"], cache)


ENTRY = Entry(
    "cascade",
    PairRule.exactness,
    _make,
    {"num_draft": 4, "deferral": "token-v3", "alpha": None},
    role="draft",
)
