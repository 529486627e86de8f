"""Guide: classifier-free guidance as a network, both branches in one batch (Ho and Salimans, arXiv:2207.12598)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from unisono.diffusion.chain.tree import cat, rows, tree_map

Branched = Callable[[Any, Tensor, Int[Tensor, " n"], Int[Tensor, " n"]], Any]


class ClassifierFree:
    """Guidance with weight `scale`: unconditional + scale·(conditional − unconditional).

    `network(x, t, sample, branch)` answers for the condition of a sample where branch is 0, and for none (or a
    negative one) where it is 1. A scale per sample is a tensor [samples].
    """

    def __init__(self, network: Branched, scale: float | Tensor):
        self.network = network
        self.scale = scale

    def __call__(self, x: Any, t: Tensor, sample: Int[Tensor, " n"]) -> Any:
        branch = torch.arange(2, device=sample.device).repeat_interleave(len(sample))
        both = self.network(cat([x, x]), torch.cat([t, t]), torch.cat([sample, sample]), branch)
        return self.combine(rows(both, slice(len(sample))), rows(both, slice(len(sample), None)), sample)

    def combine(self, conditional: Any, unconditional: Any, sample: Int[Tensor, " n"]) -> Any:
        """The guided output of rows from their two branches."""

        def guided(c: Tensor, u: Tensor) -> Tensor:
            scale = self.scale
            if isinstance(scale, Tensor):
                scale = scale.to(c)[sample].reshape(-1, *[1] * (c.ndim - 1))
            return u + scale * (c - u)

        return tree_map(guided, conditional, unconditional)
