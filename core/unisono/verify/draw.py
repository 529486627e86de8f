"""Draw: the target's next token, greedily or with noise that is fixed per row and position.

The noise of a position is the same in every round, so a draw is a function of the tokens before it. Sampling is then
as deterministic as greedy decoding, and proofs for greedy decoding hold for sampling as well (Song et al., 2021,
arXiv:2002.03629; the Gumbel-max trick).

A draw may be discarded and the position drawn again with the same noise: the tokens before it do not depend on that
noise, so the distribution stays right.

Letters: b batch, n positions, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unisono.checks import fault_of, is_real
from unisono.errors import UnisonoError
from unisono.masked import random


@dataclass(frozen=True)
class Draw:
    """The distribution to sample: logits / `temperature`, changed by `warp` (such as top-p); 0 is greedy."""

    temperature: float = 0.0
    warp: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self):
        if not is_real(self.temperature, 0):
            raise UnisonoError(
                f"temperature {self.temperature!r}: give 0 (greedy) or a positive number",
                code=fault_of(self.temperature),
                path="temperature",
                value=self.temperature,
            )

    def law(self, logits: Float[Tensor, "... v"]) -> Float[Tensor, "... v"]:
        """Return probabilities in float64; if greedy, 1 for the first of the most likely tokens."""
        if self.temperature == 0:
            best = logits.argmax(-1, keepdim=True)
            return torch.zeros_like(logits, dtype=torch.float64).scatter(-1, best, 1.0)
        logits = logits.double() / self.temperature
        return (logits if self.warp is None else self.warp(logits)).softmax(-1)

    def __call__(
        self, logits: Float[Tensor, "b n v"], seed: Int[Tensor, " b"], positions: Int[Tensor, "b n"]
    ) -> Int[Tensor, "b n"]:
        """Draw one token per position, with the noise of that row and position."""
        if self.temperature == 0:
            return logits.argmax(-1)
        return sample(self.law(logits), seed, positions)

    def scores(
        self, logits: Float[Tensor, "b n v"], seed: Int[Tensor, " b"], positions: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b n v"]:
        """Return what the draw takes the largest of: the logits, or log-probabilities with the noise of the position.

        Who guesses what will be drawn tries tokens in this order.
        """
        if self.temperature == 0:
            return logits
        law = self.law(logits)
        return law.log() + _noise(law, seed, positions, random.DRAW)


def sample(
    law: Float[Tensor, "b n v"], seed: Int[Tensor, " b"], positions: Int[Tensor, "b n"], stream: int = random.DRAW
) -> Int[Tensor, "b n"]:
    """Draw from probabilities, with the Gumbel noise of (seed, position, token, stream)."""
    return (law.log() + _noise(law, seed, positions, stream)).argmax(-1)


def _noise(law: Tensor, seed: Tensor, positions: Tensor, stream: int) -> Float[Tensor, "b n v"]:
    b, n, v = law.shape
    sites = (positions[:, :, None] * v + torch.arange(v, device=law.device)).reshape(b, n * v)
    return random.gumbel(seed, torch.zeros_like(seed), sites, stream).reshape(b, n, v)
