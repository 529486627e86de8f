"""Token sizes: the groups of ``model:`` of generators of picture tokens, and of what judges them."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from unisono.errors import RecipeError

ScheduleName = Literal["cosine", "arccos", "linear", "square", "cubic", "square_root"]
"""Of ``unisono.masked.SCHEDULES``, those whose values do not depend on the number of tokens."""


@dataclass(frozen=True, kw_only=True)
class TokenNetSizes:
    """Sizes of the transformer over all tokens of a picture.

    dim, num_layers, num_heads, dropout: MaskGIT's as published.
    block: ``plain``, with the condition as a token in front (MaskGIT), or ``adaln``, whose blocks are shifted, scaled
        and gated by it and change nothing at the start (Halton-MaskGIT).
    qk_norm: whether queries and keys are normalised (Halton-MaskGIT: yes; MaskGIT: no).
    tied_head: whether the table of tokens is the head's matrix, too (both of them: yes; the 1d-tokenizer's port: no).
    registers: learnt vectors in front, which see all and stand for nothing (Halton-MaskGIT: 4; MaskGIT: 0).
    """

    dim: int = 768
    num_layers: int = 24
    num_heads: int = 8
    dropout: float = 0.1
    block: Literal["plain", "adaln"] = "plain"
    qk_norm: bool = False
    tied_head: bool = True
    registers: int = 0

    def __post_init__(self):
        if self.num_heads < 1 or self.dim < 1 or self.dim % self.num_heads:
            raise RecipeError(
                f"model.network.dim={self.dim} must be a multiple of num_heads={self.num_heads}",
                code="shape",
                path="model.network.dim",
                value=self.dim,
            )
        check_range("network.num_layers", self.num_layers, 1)
        check_range("network.registers", self.registers, 0)
        check_range("network.dropout", self.dropout, 0, 1)


@dataclass(frozen=True, kw_only=True)
class Masked:
    """How much is masked while training, and how.

    schedule: γ of the share that is masked, γ(r) with r uniform: ``cosine`` (MaskGIT) or ``arccos`` (Halton-MaskGIT and
        the 1d-tokenizer's port), or another one of ``unisono.masked.SCHEDULES``.
    masking: ``count`` masks ⌈γ·n⌉ of n tokens (MaskGIT), ``chance`` each token by itself with the chance γ (Halton).
    """

    schedule: ScheduleName = "cosine"
    masking: Literal["count", "chance"] = "count"


@dataclass(frozen=True, kw_only=True)
class MaskingSpec(Masked):
    """What is masked while training, and which places count.

    schedule, masking: as of ``Masked``.
    unmasked_weight: of places whose token is seen: 0, masked places alone (MaskGIT); 0.1 (the 1d-tokenizer's port); 1,
        all places alike (Halton-MaskGIT).
    label_smoothing: the share of a target that is spread over all tokens (published: 0.1).
    """

    unmasked_weight: float = 0.0
    label_smoothing: float = 0.1

    def __post_init__(self):
        check_range("objective.unmasked_weight", self.unmasked_weight, 0, 1)
        if not 0 <= self.label_smoothing < 1:
            raise RecipeError(
                f"model.objective.label_smoothing={self.label_smoothing} must be in [0, 1)",
                code="range",
                path="model.objective.label_smoothing",
                value=self.label_smoothing,
            )


@dataclass(frozen=True, kw_only=True)
class CriticObjective:
    """What a critic learns to tell from real tokens: what its generator draws, as it will when pictures are made.

    masking: how many tokens are drawn; all rates occur.
    temperature: of the draw.
    guidance: of the draw, g of c + g·(c − u); above 0 each step costs an evaluation more.
    """

    masking: Masked = Masked()
    temperature: float = 1.0
    guidance: float = 0.0

    def __post_init__(self):
        check_range("objective.temperature", self.temperature, 0, 10)
        check_range("objective.guidance", self.guidance, 0, 50)


def check_range(name: str, value: Any, low: float, high: float = math.inf) -> None:
    """Raise ``RecipeError`` unless a value of the model's section lies in a range, both ends included."""
    if not low <= value <= high:
        within = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise RecipeError(f"model.{name}={value} must be {within}", code="range", path=f"model.{name}", value=value)
