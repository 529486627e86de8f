"""Noise: a span of what is read becomes random earlier tokens (Wang et al., 2024, Make Some Noise, arXiv:2406.17404).

::

    text      T  o     b  e     o  r     n  o  t
    read      T  o     b  o  T  b  r     n  o  t       a span of 3, each token one of those before it
    learnt    T  o     b  e     o  r     n  o  t       nothing changes

A model that is tuned so says the right token although the last ones that it read are wrong. That is what Jacobi
iteration asks of it: more of its guesses hold in each round. Published with every row noised once, spans of 5 tokens
(§3.1), in supervised fine-tuning; here a share of the rows is noised, and the token that stands before a text is
none that may be drawn.

The weights change, and with them the law: what is lossless afterwards is so towards the tuned model.

Shapes: b batch, t tokens. Masks: True = keep.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from unisono.data import derive_seed
from unisono.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class NoiseSpec:
    """What is noised in training; nothing in validation.

    span: tokens of a span (published: 5); 0 is ordinary training.
    share: of the rows, in (0, 1].
    """

    span: int = 0
    share: float = 0.5

    def __post_init__(self):
        if self.span < 0:
            raise RecipeError(
                f"model.noise.span={self.span} must be at least 0 (0: no noise)",
                code="range",
                path="model.noise.span",
                value=self.span,
            )
        if not 0 < self.share <= 1:
            raise RecipeError(
                f"model.noise.share={self.share} must be above 0, at most 1; span=0 trains without noise",
                code="range",
                path="model.noise.share",
                value=self.share,
            )


def noised(
    tokens: Int[Tensor, "b t"],
    learnt: Bool[Tensor, "b t"],
    documents: Int[Tensor, "b t"] | None,
    seeds: Sequence[int],
    spec: NoiseSpec,
) -> Int[Tensor, "b t"]:
    """Return what is read in the place of the tokens: ``spec.share`` of the rows with one span of noise each.

    A span lies in the learnt tokens of one document, behind at least one token of it. Each of its tokens becomes one
    of those that stand before it there, noise among them, all equally likely. Rows without room for a span stay.
    """
    if not spec.span or spec.span > tokens.shape[1]:
        return tokens
    made = tokens.cpu().clone()
    owner = torch.zeros_like(made) if documents is None else documents.cpu()
    together = torch.zeros_like(made, dtype=torch.bool)
    together[:, 1:] = owner[:, 1:] == owner[:, :-1]
    whole = (learnt.cpu() & together).unfold(1, spec.span, 1).all(2)
    for row, seed in enumerate(seeds):
        u = torch.rand(2 + spec.span, generator=torch.Generator().manual_seed(derive_seed("noise", seed)))
        starts = whole[row].nonzero()[:, 0]
        if float(u[0]) >= spec.share or not len(starts):
            continue
        start = int(starts[int(float(u[1]) * len(starts))])
        first = int((~together[row, :start]).nonzero()[-1])  # of the document
        for place in range(start, start + spec.span):
            earlier = first + int(float(u[2 + place - start]) * (place - first))
            made[row, place] = made[row, earlier]
    return made.to(tokens.device)
