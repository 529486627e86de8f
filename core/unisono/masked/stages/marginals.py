"""Marginals: the model's distribution at each position, and what scores and selections read from it.

Raw: neither tempered nor filtered nor guided (unless a guide says so). Those touch only the draw, so that
a knob of the draw does not also change the order (Dimple, arXiv:2505.16990, keeps "original" confidence).

Letters: b batch, k positions, v vocabulary.
"""

from __future__ import annotations

from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Marginals:
    """Logits [b, k, v], −inf at tokens that a position may not hold; the rest is worked out when asked for."""

    def __init__(self, logits: Float[Tensor, "b k v"]):
        self.logits = logits

    @cached_property
    def bad(self) -> Bool[Tensor, "b k"]:
        """Where there is nothing to draw from: NaN or infinite logits, or every token forbidden."""
        return ~self._peak.isfinite()

    @cached_property
    def logp(self) -> Float[Tensor, "b k v"]:
        return self.logits.log_softmax(-1)

    @cached_property
    def p(self) -> Float[Tensor, "b k v"]:
        return self.logp.exp()

    @cached_property
    def top(self) -> Float[Tensor, "b k"]:
        """The largest probability."""
        return (self._peak - self.logits.logsumexp(-1)).exp()

    @cached_property
    def token(self) -> Int[Tensor, "b k"]:
        """The likeliest token; of equals the first."""
        return self.logits.argmax(-1)

    @cached_property
    def margin(self) -> Float[Tensor, "b k"]:
        """The largest probability less the second largest."""
        if self.logits.shape[-1] == 1:
            return self.top
        second = self.logits.topk(2, -1).values[..., 1]
        return self.top - (second - self.logits.logsumexp(-1)).exp()

    @cached_property
    def entropy(self) -> Float[Tensor, "b k"]:
        """In nats."""
        # A token of probability 0 has surprise ∞ and adds nothing; 0 times a number is 0.
        return -(self.p * self.logp.clamp_min(torch.finfo(self.logp.dtype).min)).sum(-1)

    @cached_property
    def _peak(self) -> Float[Tensor, "b k"]:
        return self.logits.amax(-1)


def readable(logits: Float[Tensor, "b k v"], foreign: Bool[Tensor, "*k v"] | None) -> Float[Tensor, "b k v"]:
    """At least float32, with foreign tokens forbidden."""
    if logits.dtype.itemsize < 4:
        logits = logits.float()
    return logits if foreign is None else logits.masked_fill(foreign, -torch.inf)
