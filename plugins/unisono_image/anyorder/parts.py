"""Parts: what a network computes of a canvas, told apart into tokens that are known and places that are asked for.

`unisono.masked.Cached` hands a network some positions, known ones and asked ones mixed, and a memory with a slot per
position. Here they are told apart, and it is said who sees whom among the known.

Shapes: b batch, k computed positions, m of one kind, l positions of the canvas, d channels. Masks: True = keep.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor
from unisono.masked import Memory, Part


@dataclass(frozen=True, eq=False)
class Chosen:
    """Positions of a part, side by side: where they are in it (``index``), which are real, their sites and ages."""

    index: Int[Tensor, "b m"]
    live: Bool[Tensor, "b m"]
    sites: Int[Tensor, "b m"]
    age: Int[Tensor, "b m"]

    @property
    def count(self) -> int:
        return self.index.shape[1]

    def spread(self, values: Shaped[Tensor, "b m *d"], whole: Shaped[Tensor, "b k *d"]) -> Shaped[Tensor, "b k *d"]:
        """Return ``whole`` with these values at their places in the part."""
        shape = (*self.index.shape, *[1] * (values.dim() - 2))
        index, live = self.index.view(shape).expand_as(values), self.live.view(shape)
        return whole.scatter(1, index, torch.where(live, values, whole.gather(1, index)))


def known_of(part: Part) -> Chosen:
    """Return the part's known tokens."""
    return _chosen(part, part.live & part.known)


def asked_of(part: Part) -> Chosen:
    """Return the part's places whose tokens are asked for."""
    return _chosen(part, part.live & ~part.known)


def sight(known: Chosen, memory: Memory, one_by_one: bool) -> tuple[Bool[Tensor, "b m l"], Bool[Tensor, "b m m"]]:
    """Return which kept tokens, and which of these, each of these known tokens sees: itself and no younger one.

    ``one_by_one``: tokens of one step come one after the other, by their sites; else they see one another.
    """
    length = memory.valid.shape[1]
    there = torch.arange(length, device=memory.valid.device)
    mine, kept = known.age, memory.age
    if one_by_one:
        mine, kept = mine * length + known.sites, kept * length + there
    before = memory.valid[:, None] & (kept[:, None] <= mine[:, :, None])
    beside = known.live[:, None] & (mine[:, None] <= mine[:, :, None])
    return before, beside


def _chosen(part: Part, where: Bool[Tensor, "b k"]) -> Chosen:
    width = int(where.sum(1).max()) if where.numel() else 0
    index = where.int().argsort(dim=1, descending=True, stable=True)[:, :width]
    return Chosen(index, where.gather(1, index), part.sites.gather(1, index), part.age.gather(1, index))
