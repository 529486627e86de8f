"""Masking: which tokens of a picture training hides, by a schedule of MaskGIT's or its ports'.

``count`` hides ⌈γ(r)·n⌉ of n tokens, r uniform (MaskGIT, arXiv:2202.04200); ``chance`` each token by itself with the
chance γ(r) (Halton-MaskGIT's published code), so that a picture may happen to have none. Either is a function of the
item's seed. Masks are never Halton's own order: one low-discrepancy set shows too little of what a sampler meets.

Shapes: b batch, n tokens.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from unisono.masked import SCHEDULES, Canvas, Corrupted, Diffusion, Plan, PlanMasking, Scheduled

from unisono_image.models.maskgit_sizes import Masked


def masked_by(masked: Masked, blank: Canvas, tokens: Int[Tensor, "b n"], uniform: Float[Tensor, " b"]) -> Corrupted:
    """Return canvases of which a share γ(r) is masked; r is ``uniform`` where it is by chance."""
    schedule = SCHEDULES[masked.schedule]
    if masked.masking == "count":
        return PlanMasking(Plan(Scheduled(1, schedule)))(blank, tokens)

    def seen(time: Tensor) -> Tensor:
        return 1 - schedule(1 - time, torch.ones_like(time))

    # At the time 1 − r a share γ(r) is masked; times are above 0.
    return Diffusion(seen).at(blank, tokens, (1 - uniform.double()).clamp(1e-9, 1))
