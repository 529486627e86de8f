"""Speculative ensembles: two models' joint law in fewer evaluations than both take (Fu et al., arXiv:2502.01662).

"Speculative Ensemble: Fast Large Language Model Ensemble via Speculation" (2025; ICML 2025 as "Fast Large Language
Model Collaborative Decoding via Speculation"). An ensemble evaluates both models for each token. Here the draft
proposes several tokens, and one evaluation of the target checks them, not with p but with the ensemble's law r:

    weighted      r = λ p + (1 − λ) q
    contrastive   r ∝ p^(1 + μ) / q^μ on the plausible tokens, those with p(v) ≥ β max p (Li et al., arXiv:2210.15097)

A draft from q is kept with min(1, r / q), which is nearer to 1 than p / q: the ensemble has a part of q in it. The
token after a whole draft is drawn from r too, see `unisono_text.lossless.pair`; from p it would be wrong.

r is made of the networks' own laws. Temperature, top-k and top-p are settings of the ensemble, as if it were one
model: they change r. So greedy decoding takes the likeliest token of r, where a mixture of two certain laws would toss
a coin. (The paper says nothing of it, and its code mixes the laws after temperature; at temperature 1 it is the same.)

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
from unisono.errors import UnisonoError
from unisono.verify import Cache, Draw, Method, Network

from unisono_text.lossless.entry import Entry, Means
from unisono_text.lossless.pair import Law, PairDraft, PairRule, draft_of


@dataclass(frozen=True)
class Weighted:
    """r = λ p + (1 − λ) q, with λ in [0, 1] the target's weight."""

    weight: float = 0.5

    def __post_init__(self):
        if not is_real(self.weight, 0, 1):
            raise UnisonoError(
                f"weight {self.weight!r} of the target in the ensemble: give a number in [0, 1]",
                code=fault_of(self.weight),
                path="weight",
                value=self.weight,
            )

    def __call__(
        self, target: Float[Tensor, "... v"], draft: Float[Tensor, "... v"], draw: Draw
    ) -> Float[Tensor, "... v"]:
        """Return r in float64 from both networks' logits."""
        p, q = target.double().softmax(-1), draft.double().softmax(-1)
        return draw.law((self.weight * p + (1 - self.weight) * q).log())


@dataclass(frozen=True)
class Contrastive:
    """r ∝ p^(1 + μ) / q^μ on the tokens with p(v) ≥ β max p: what the target knows better than the draft.

    Args:
        contrast: μ, at least 0.
        plausible: β, above 0 and at most 1.

    Raises:
        UnisonoError: for other numbers; when called, for a draft that rules out a plausible token: p / 0.
    """

    contrast: float = 0.5
    plausible: float = 0.1

    def __post_init__(self):
        fits = {
            "contrast": is_real(self.contrast, 0),
            "plausible": is_real(self.plausible, 0, 1) and self.plausible > 0,
        }
        for name in (name for name, fit in fits.items() if not fit):
            value = getattr(self, name)
            raise UnisonoError(
                f"contrast {self.contrast!r}, plausible {self.plausible!r}: give contrast ≥ 0 and 0 < plausible ≤ 1",
                code=fault_of(value),
                path=name,
                value=value,
            )

    def __call__(
        self, target: Float[Tensor, "... v"], draft: Float[Tensor, "... v"], draw: Draw
    ) -> Float[Tensor, "... v"]:
        """Return r in float64 from both networks' logits."""
        p, q = target.double().log_softmax(-1), draft.double().log_softmax(-1)
        fits = p >= p.amax(-1, keepdim=True) + math.log(self.plausible)
        if self.contrast and bool((fits & (q == -torch.inf)).any()):
            token = int((fits & (q == -torch.inf)).nonzero()[0, -1])
            raise UnisonoError(
                f"the draft gives probability 0 to token {token}, which the target finds plausible: "
                "a contrast divides by it; take weight instead",
                code="value",
                path="contrast",
                value=token,
            )
        score = (1 + self.contrast) * p - self.contrast * q
        return draw.law(score.masked_fill(~fits, -torch.inf))


def ensemble(
    network: Network,
    weight: float | None = None,
    contrast: float | None = None,
    alternate: bool = False,
    num_draft: int = 4,
    cache: Callable[[int], Cache] | None = None,
) -> Method:
    """A draft network and the ensemble of both: exact for the ensemble, which is another law than the target's.

    Args:
        weight: of the target, in [0, 1]; None is 0.5.
        contrast: instead of a weight, μ of the contrastive law.
        alternate: whether the target proposes the token after a draft that was kept whole.

    Raises:
        UnisonoError: for a weight and a contrast at once, or numbers outside their ranges.
    """
    if weight is not None and contrast is not None:
        raise UnisonoError(
            f"weight={weight!r} and contrast={contrast!r}: an ensemble is weighted or contrastive, give one of them",
            code="conflict",
            path="contrast",
            value=contrast,
        )
    law: Law = Weighted(0.5 if weight is None else weight) if contrast is None else Contrastive(contrast)
    name = "weighted" if contrast is None else "contrastive"
    return Method(f"ensemble ({name})", PairDraft(network, law, num_draft, cache, alternate), PairRule(law))


def _make(means: Means, options: Mapping[str, Any], cache: Any) -> Method:
    return ensemble(draft_of(means, "ensemble"), cache=cache, **options)


ENTRY = Entry(
    "ensemble",
    PairRule.exactness,
    _make,
    {"num_draft": 4, "weight": None, "contrast": None, "alternate": False},
    role="draft",
)
