"""Scan: all states of a linear recurrence at once (the parallel prefix of Blelloch, "Prefix Sums and Their
Applications", 1990).

Letters: l length, d channels of a state, *b other dimensions.
"""

import torch
from jaxtyping import Inexact
from torch import Tensor


def prefix_scan(a: Inexact[Tensor, "l *b d d"] | Inexact[Tensor, "l *b d"], b: Inexact[Tensor, "l *b d"]) -> Tensor:
    """All h_t = a_t h_{t−1} + b_t from h_{−1} = 0, in 2·log₂ l batched steps; `a` are matrices or diagonals."""
    length = len(b)
    if length == 1:
        return b
    first, second = a[: length // 2 * 2 : 2], a[1::2]
    pair = second @ first if a.ndim > b.ndim else second * first
    odd = prefix_scan(pair, _times(second, b[: length // 2 * 2 : 2]) + b[1::2])
    h = torch.empty_like(b)
    h[0], h[1::2] = b[0], odd
    h[2::2] = _times(a[2::2], odd[: (length - 1) // 2]) + b[2::2]  # of `odd`, so that gradients flow
    return h


def _times(a: Tensor, h: Tensor) -> Tensor:
    return (a @ h[..., None])[..., 0] if a.ndim > h.ndim else a * h
