"""Discriminator losses: adversarial losses on discriminators' outputs; each returns one value per item.

Hinge losses and feature matching as in Vocos (arXiv:2306.00814, section 3.3), least squares as in
Parallel WaveGAN (arXiv:1910.11480, equations 1 and 2), logistic ones as in StyleTTS (arXiv:2205.15439): averaged over
discriminators, so that their number changes no weight. Means are taken in float32.

Shapes: b batch, k regions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from unisono.nn.wide import wide


class Judgement(NamedTuple):
    """What one discriminator says of a batch."""

    scores: Float[Tensor, "b k"]
    features: list[Tensor]
    """One tensor per layer, batch first."""

    def split(self, count: int) -> tuple["Judgement", "Judgement"]:
        """Part the first ``count`` items from the rest."""
        return (
            Judgement(self.scores[:count], [f[:count] for f in self.features]),
            Judgement(self.scores[count:], [f[count:] for f in self.features]),
        )

    def repeat(self, times: int) -> "Judgement":
        """Return what is said of the batch ``times`` times, one whole batch after the other."""
        if times == 1:
            return self
        return Judgement(torch.cat([self.scores] * times), [torch.cat([f] * times) for f in self.features])


def discriminator_hinge(real: Sequence[Judgement], fake: Sequence[Judgement]) -> Float[Tensor, "b"]:
    """``max(0, 1 − D(x)) + max(0, 1 + D(x̂))``, averaged over regions and discriminators."""
    return torch.stack(
        [
            (1 - wide(r.scores)).relu().mean(1) + (1 + wide(f.scores)).relu().mean(1)
            for r, f in zip(real, fake, strict=True)
        ]
    ).mean(0)


def generator_hinge(fake: Sequence[Judgement]) -> Float[Tensor, "b"]:
    """``max(0, 1 − D(x̂))``: a region that passes for real pulls no more."""
    return torch.stack([(1 - wide(f.scores)).relu().mean(1) for f in fake]).mean(0)


def discriminator_squares(real: Sequence[Judgement], fake: Sequence[Judgement]) -> Float[Tensor, "b"]:
    """``(1 − D(x))² + D(x̂)²``, averaged over regions and discriminators."""
    return torch.stack(
        [
            (1 - wide(r.scores)).square().mean(1) + wide(f.scores).square().mean(1)
            for r, f in zip(real, fake, strict=True)
        ]
    ).mean(0)


def generator_squares(fake: Sequence[Judgement]) -> Float[Tensor, "b"]:
    """``(1 − D(x̂))²``."""
    return torch.stack([(1 - wide(f.scores)).square().mean(1) for f in fake]).mean(0)


def discriminator_logistic(real: Sequence[Judgement], fake: Sequence[Judgement]) -> Float[Tensor, "b"]:
    """``−log σ(D(x)) − log(1 − σ(D(x̂)))``, averaged over regions and discriminators."""
    return torch.stack(
        [softplus(-wide(r.scores)).mean(1) + softplus(wide(f.scores)).mean(1) for r, f in zip(real, fake, strict=True)]
    ).mean(0)


def generator_logistic(fake: Sequence[Judgement]) -> Float[Tensor, "b"]:
    """``−log σ(D(x̂))``."""
    return torch.stack([softplus(-wide(f.scores)).mean(1) for f in fake]).mean(0)


def gradient_penalty(real: Sequence[Judgement], given: Float[Tensor, "b ..."]) -> Float[Tensor, "b"]:
    """``½ |∇ D(x)|²`` (R1, Mescheder et al., arXiv:1801.04406), scores summed over regions and averaged over
    discriminators; ``given`` is x, of which the judgements were made and which requires its gradient."""
    total = torch.stack([wide(r.scores).sum() for r in real]).mean()
    (slope,) = torch.autograd.grad(total, given, create_graph=True)
    return wide(slope).square().flatten(1).sum(1) / 2


def feature_matching(real: Sequence[Judgement], fake: Sequence[Judgement]) -> Float[Tensor, "b"]:
    """Mean absolute distance of features, summed over layers, averaged over discriminators."""
    total = torch.zeros(len(real[0].scores), device=real[0].scores.device)
    for r, f in zip(real, fake, strict=True):
        for x, y in zip(r.features, f.features, strict=True):
            # Not flattened: that would copy what lies channels last.
            distance = (x - y).abs()
            total = total + distance.mean(tuple(range(1, x.ndim)), dtype=torch.float32)
    return total / len(real)
