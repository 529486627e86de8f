"""Sights: tokens at positions under a mask, with a cache of keys and values where one is kept.

Shapes: b batch, t new tokens, m keys (kept ones and new ones), h heads, c channels of a head. Masks: True = keep.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from unisono.nn.attention import attend
from unisono.nn.rotary import Rotation, rotate, rotation
from unisono.verify import KVCache


@dataclass(frozen=True, eq=False)
class Masked:
    """Queries and keys turned to their positions; the mask says who sees whom, None: each what is not behind it.

    Keys are kept turned: a token keeps its position for good. ``dropout`` is that of attention weights.
    """

    places: Rotation
    mask: Bool[Tensor, "b 1 t m"] | None
    cache: KVCache | None = None
    dropout: float = 0.0

    @classmethod
    def at(
        cls,
        positions: Int[Tensor, "b t"] | Int[Tensor, " t"],
        head_dim: int,
        mask: Bool[Tensor, "b t m"] | None = None,
        cache: KVCache | None = None,
        dropout: float = 0.0,
    ) -> "Masked":
        """Make the sight of tokens at positions."""
        places = rotation(positions, head_dim, device=positions.device)
        return cls(places, None if mask is None else mask[:, None], cache, dropout)

    def __call__(
        self,
        layer: int,
        queries: Float[Tensor, "b h t c"],
        keys: Float[Tensor, "b h t c"],
        values: Float[Tensor, "b h t c"],
    ) -> Float[Tensor, "b t hc"]:
        queries, keys = rotate(queries, self.places), rotate(keys, self.places)
        if self.cache is not None:
            keys, values = self.cache.append(layer, keys, values)
        return attend(queries, keys, values, self.mask, dropout=self.dropout, causal=self.mask is None)


def causal_sight(tokens: Int[Tensor, "b t"], head_dim: int, dropout: float = 0.0) -> Masked:
    """Return the sight of a plain autoregressive network: positions from 0, each token what is not behind it."""
    return Masked.at(torch.arange(tokens.shape[1], device=tokens.device), head_dim, dropout=dropout)
