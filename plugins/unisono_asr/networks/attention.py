"""Relative attention: what lies where is told by distances (Transformer-XL, Dai et al., arXiv:1901.02860).

Scores are the sum of what keys hold and of how far away they lie, each with a bias of its own::

    score[i, j] = ((q_i + u) · k_j + (q_i + v) · W r(i − j)) / √c

Distances make the output independent of where a recording begins, and of the padding behind it.

Shapes: b batch, q queries, k keys, p = q + k − 1 distances, h heads, c channels of a head, d = h c.
"""

import math

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.attention import attend, split_heads
from unisono.nn.fft import position_code

UNSEEN = -1e9
"""The score of a key that may not be seen; finite, so that a query that sees none (padding) has no NaN."""


class RelativeAttention(nn.Module):
    """Self-attention with relative positions; ``past`` are vectors before the first query, which are seen too."""

    def __init__(self, dim: int, num_heads: int, dropout: float):
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.place = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim)
        self.content_bias = nn.Parameter(torch.empty(num_heads, 1, dim // num_heads))
        self.place_bias = nn.Parameter(torch.empty(num_heads, 1, dim // num_heads))
        nn.init.xavier_uniform_(self.content_bias)
        nn.init.xavier_uniform_(self.place_bias)
        self.dropout = dropout

    def forward(
        self,
        x: Float[Tensor, "b q d"],
        places: Float[Tensor, "p d"],
        seen: Bool[Tensor, "b s k"],
        past: Float[Tensor, "b w d"] | None = None,
    ) -> Float[Tensor, "b q d"]:
        """``places`` are ``distances(q, k, d)``; ``seen`` says for each query, or for all (s = 1), which keys are."""
        source = x if past is None else torch.cat([past, x], 1)
        query = split_heads(self.query(x), self.num_heads)
        key, value = (split_heads(part, self.num_heads) for part in self.key_value(source).chunk(2, dim=-1))
        far = rearrange(self.place(places), "p (h c) -> h c p", h=self.num_heads)
        by_place = shifted((query + self.place_bias) @ far, source.shape[1]) / math.sqrt(query.shape[-1])
        by_place = by_place.masked_fill(~seen[:, None], UNSEEN)
        dropout = self.dropout if self.training else 0.0
        return self.out(attend(query + self.content_bias, key, value, by_place, dropout=dropout))


def distances(num_queries: int, num_keys: int, dim: int, device: torch.device) -> Float[Tensor, "p d"]:
    """Return the code of each distance i − j, the largest first, where the queries are the last of the keys."""
    far = torch.arange(num_keys - 1, -num_queries, -1, device=device)
    return position_code(far, dim)


def shifted(scores: Float[Tensor, "b h q p"], num_keys: int) -> Float[Tensor, "b h q k"]:
    """Return, of scores by distance, each query's own stretch: row i begins at ``q − 1 − i``."""
    num_queries, num_far = scores.shape[-2:]
    flat = F.pad(scores, (0, 1)).flatten(-2)[..., num_queries - 1 :]
    return flat[..., : num_queries * num_far].unflatten(-1, (num_queries, num_far))[..., :num_keys]
