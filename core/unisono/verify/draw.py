"""Draw: the target's next token, greedily or with noise that is fixed per row and position.

The noise of a position does not depend on the round in which it is drawn, so that a draw is a function of
the tokens before it. Sampling is then as deterministic as taking the most likely token, and whatever is
proven for greedy decoding holds for sampling (Song et al., 2021, arXiv:2002.03629; the Gumbel-max trick).

Discarding a draw and drawing the position again with the same noise is sound: what stood before it was
decided without looking at it.

Letters: b batch, n positions, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unisono.checks import is_real
from unisono.errors import UnisonoError
from unisono.masked import random


@dataclass(frozen=True)
class Draw:
    """The law to decode: logits / `temperature`, changed by `warp` (top-p and the like); 0 is greedy."""

    temperature: float = 0.0
    warp: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self):
        if not is_real(self.temperature, 0):
            raise UnisonoError(f"temperature {self.temperature!r}: give 0 (greedy) or a positive number")

    def law(self, logits: Float[Tensor, "... v"]) -> Float[Tensor, "... v"]:
        """Probabilities in float64; all on the first of the most likely tokens if greedy."""
        if self.temperature == 0:
            best = logits.argmax(-1, keepdim=True)
            return torch.zeros_like(logits, dtype=torch.float64).scatter(-1, best, 1.0)
        logits = logits.double() / self.temperature
        return (logits if self.warp is None else self.warp(logits)).softmax(-1)

    def __call__(
        self, logits: Float[Tensor, "b n v"], seed: Int[Tensor, " b"], positions: Int[Tensor, "b n"]
    ) -> Int[Tensor, "b n"]:
        """One token per position, by the noise of that row and position."""
        if self.temperature == 0:
            return logits.argmax(-1)
        return sample(self.law(logits), seed, positions)


def sample(
    law: Float[Tensor, "b n v"], seed: Int[Tensor, " b"], positions: Int[Tensor, "b n"], stream: int = random.DRAW
) -> Int[Tensor, "b n"]:
    """Draw from probabilities with the Gumbel noise that belongs to (seed, position, token, stream)."""
    b, n, v = law.shape
    sites = (positions[:, :, None] * v + torch.arange(v, device=law.device)).reshape(b, n * v)
    noise = random.gumbel(seed, torch.zeros_like(seed), sites, stream).reshape(b, n, v)
    return (law.log() + noise).argmax(-1)
