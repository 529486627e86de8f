"""Layout: how far each token was from each that it saw, when it was written; and attention by these distances alone.

What workers wrote is read again in one evaluation without a cache: for training, and to prove the cache right.

Shapes: b batch, t tokens, h heads, c channels of a head, a half as many. Masks: True = keep.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

COMMON = -1
"""Whose tokens are in the common block from the first."""


@lru_cache(maxsize=4096)
def layout(owners: tuple[int, ...], ends: tuple[bool, ...], header: int = 1) -> tuple[Tensor, Tensor]:
    """Return distances int64 [t, t] and a mask [t, t] of tokens in the order of time.

    Args:
        owners: whose each token is: ``COMMON``, which come first, or a worker's number. At each time every worker that
            goes on writes one.
        ends: whether a token ends a step, which then moves to common.
        header: tokens that stay at the beginning of each worker's block.
    """
    t = len(owners)
    owner, ending = np.array(owners), np.array(ends)
    distance, mask = np.zeros((t, t), np.int64), np.zeros((t, t), bool)
    given = int((owner == COMMON).sum())
    block, index = owner.copy(), np.zeros(t, np.int64)
    index[:given] = np.arange(given)
    distance[:given, :given] = np.arange(given)[:, None] - np.arange(given)
    mask[:given, :given] = np.tri(given, dtype=bool)
    workers = sorted(set(owners) - {COMMON})
    times = {worker: np.flatnonzero(owner == worker) for worker in workers}
    lengths = dict.fromkeys((COMMON, *workers), 0) | {COMMON: given}
    known = np.arange(t) < given
    for time in range(max((len(own) for own in times.values()), default=0)):
        group = [(worker, int(own[time])) for worker, own in times.items() if time < len(own)]
        for worker, token in group:
            index[token] = lengths[worker]
            lengths[worker] += 1
            known[token] = True
        for worker, token in group:
            start, at = {}, 0
            for part in (COMMON, *(other for other in workers if other != worker), worker):
                start[part] = at
                at += lengths[part]
            place = np.array([start[part] for part in block]) + index
            distance[token] = np.where(known, at - 1 - place, 0)
            mask[token] = known
        for worker, token in group:
            if ending[token]:
                moved = np.flatnonzero((block == worker) & known & (index >= header))
                block[moved] = COMMON
                index[moved] += lengths[COMMON] - header
                lengths[COMMON] += len(moved)
                lengths[worker] = header
    return torch.from_numpy(distance), torch.from_numpy(mask)


@dataclass(frozen=True, eq=False)
class Apart:
    """The sight of tokens at given distances, whatever positions would give them."""

    cosine: Float[Tensor, "b t t a"]
    sine: Float[Tensor, "b t t a"]
    mask: Bool[Tensor, "b t t"]

    @classmethod
    def by(
        cls, distance: Int[Tensor, "b t t"], mask: Bool[Tensor, "b t t"], head_dim: int, base: float = 10000.0
    ) -> "Apart":
        """Make the sight of distances, query's position less key's."""
        rates = base ** (-torch.arange(0, head_dim, 2, device=distance.device, dtype=torch.float32) / head_dim)
        angles = distance.float()[..., None] * rates
        return cls(angles.cos(), angles.sin(), mask)

    def __call__(
        self,
        layer: int,
        queries: Float[Tensor, "b h t c"],
        keys: Float[Tensor, "b h t c"],
        values: Float[Tensor, "b h t c"],
    ) -> Float[Tensor, "b t hc"]:
        q, p = (part[:, :, :, None] for part in queries.chunk(2, -1))
        k, j = (part[:, :, None] for part in keys.chunk(2, -1))
        # Re(x conj(y) exp(iθd)) of pairs x = q + ip and y = k + ij
        products = (q * k + p * j) * self.cosine[:, None] - (p * k - q * j) * self.sine[:, None]
        scores = products.sum(-1) / queries.shape[-1] ** 0.5
        weights = scores.masked_fill(~self.mask[:, None], -torch.inf).softmax(-1)
        return rearrange(weights @ values, "b h t c -> b t (h c)")


def layouts(
    owners: Int[Tensor, "b t"], ends: Bool[Tensor, "b t"], padding: int
) -> tuple[Int[Tensor, "b t t"], Bool[Tensor, "b t t"]]:
    """Return the distances and masks of a padded batch; padding sees itself, since attention to nothing is NaN."""
    b, t = owners.shape
    distance = torch.zeros(b, t, t, dtype=torch.int64)
    mask = torch.eye(t, dtype=torch.bool).repeat(b, 1, 1)
    rows: Sequence[tuple[list[int], list[bool]]] = list(zip(owners.tolist(), ends.tolist(), strict=True))
    for row, (whose, ending) in enumerate(rows):
        n = sum(owner != padding for owner in whose)
        distance[row, :n, :n], mask[row, :n, :n] = layout(tuple(whose[:n]), tuple(ending[:n]))
    return distance.to(owners.device), mask.to(owners.device)
