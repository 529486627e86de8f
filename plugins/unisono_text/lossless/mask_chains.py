"""Mask chains: K predictions from each place of a text in one pass, and which of them are dropped (PARD).

An et al., "PARD: Accelerating LLM Inference with Low-Cost Parallel Draft Model Adaptation" (arXiv:2504.18583), and
Xiao et al., "ParallelSpec: Parallel Drafter for Efficient Speculative Decoding" (arXiv:2410.05589)::

    column     text                   masks behind place i
    reads      s_0 s_1 … s_{t−1}      [M] [M] …  (K − 1 of them)
    position   0 … t − 1              i + 1, i + 2, …
    sees       what is before it      the text up to i, the masks before it behind i, and itself
    predicts   token 0 … t − 1        token i + 1, i + 2, …

Input s_i is what stands before token i, so that the text's own columns are sub-task 1: an ordinary autoregressive
model. The mask of step j is sub-task j + 1: the j input tokens before it are hidden.

Conditional drop: sub-task k keeps the share max(r^(k − 1), r_min) of the places, and a place that is kept for one
sub-task is kept for all before it, because its masks are read by the ones behind. Each place draws one number, and
is kept where that is below the share. Differs from the published code: shares are kept on average, not to the
token; a chain that runs off the end of the text stops there (upstream its places wrap around to the beginning).

Shapes: b batch, t text columns, m masks. Masks of attention: True = keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from unisono.data import derive_seed
from unisono.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class ChainSpec:
    """How long chains of masks are, and which are kept.

    num_draft: tokens that one call predicts, K: the next one, and K − 1 by masks.
    keep: the share of the places that each sub-task keeps of the one before, r.
    least: the share that every sub-task keeps, r_min.
    own_masks: whether each step has a mask of its own; else all share one, and longer drafts than K can be asked for.
    """

    num_draft: int = 8
    keep: float = 0.7
    least: float = 0.2
    own_masks: bool = False

    def __post_init__(self):
        if self.num_draft < 2:
            raise RecipeError(
                f"model.chain.num_draft={self.num_draft} must be at least 2: one token is what a text/ar predicts",
                code="range",
                path="model.chain.num_draft",
                value=self.num_draft,
            )
        for name in ("keep", "least"):
            share = getattr(self, name)
            if not 0 <= share <= 1 or (name == "keep" and share == 0):
                raise RecipeError(
                    f"model.chain.{name}={share} must be {'above' if name == 'keep' else 'at least'} 0, at most 1",
                    code="range",
                    path=f"model.chain.{name}",
                    value=share,
                )

    @property
    def num_masks(self) -> int:
        """How many rows of the embedding stand for masks."""
        return self.num_draft - 1 if self.own_masks else 1

    @property
    def shares(self) -> list[float]:
        """The share of the places that sub-tasks 2 … K keep."""
        return [max(self.keep**step, self.least) for step in range(1, self.num_draft)]

    def mask_ids(self, first: int) -> tuple[int, ...]:
        """The id of each step's mask, where the masks' rows begin at ``first``."""
        return tuple(first + (step if self.own_masks else 0) for step in range(self.num_draft - 1))


@dataclass(frozen=True, eq=False)
class MaskChains:
    """Masks behind places of a text, padded to as many as the row with the most has.

    Attributes:
        place: the text column that a mask stands behind.
        step: how far behind, from 1; the mask is at position place + step and predicts the token of that number.
        real: False for padding.
    """

    place: Int[Tensor, "b m"]
    step: Int[Tensor, "b m"]
    real: Bool[Tensor, "b m"]

    @classmethod
    def draw(cls, spec: ChainSpec, lengths: Int[Tensor, " b"], seeds: Sequence[int]) -> MaskChains:
        """Draw which places are kept, by each row's seed; a row draws the same in any company."""
        rows = []
        for length, seed in zip(lengths.tolist(), seeds, strict=True):
            generator = torch.Generator().manual_seed(derive_seed("chains", seed))
            number = torch.rand(length, generator=generator)
            kept = number < torch.tensor(spec.shares)[:, None]
            step, place = torch.nonzero(kept, as_tuple=True)
            inside = place + step + 1 < length
            rows.append((place[inside], step[inside] + 1))
        most = max((len(place) for place, _ in rows), default=0)
        place, step = torch.zeros(len(rows), most, dtype=torch.int64), torch.ones(len(rows), most, dtype=torch.int64)
        real = torch.zeros(len(rows), most, dtype=torch.bool)
        for row, (its_place, its_step) in enumerate(rows):
            place[row, : len(its_place)], step[row, : len(its_step)] = its_place, its_step
            real[row, : len(its_place)] = True
        return cls(place.to(lengths.device), step.to(lengths.device), real.to(lengths.device))

    @property
    def asked(self) -> Int[Tensor, "b m"]:
        """Which token each mask predicts, and its position."""
        return self.place + self.step

    def inside(self, documents: Int[Tensor, "b t"] | None) -> Bool[Tensor, "b m"]:
        """Which masks predict a token of the document that they stand in."""
        if documents is None:
            return self.real
        return self.real & (documents.gather(1, self.asked) == documents.gather(1, self.place))

    def visible(self, num_text: int, documents: Int[Tensor, "b t"] | None = None) -> Bool[Tensor, "b t+m t+m"]:
        """What each column sees: text and masks, in that order."""
        b, m = self.place.shape
        t, device = num_text, self.place.device
        text = torch.arange(t, device=device)
        seen = torch.zeros(b, t + m, t + m, dtype=torch.bool, device=device)
        seen[:, :t, :t] = text[:, None] >= text
        seen[:, t:, :t] = self.place[:, :, None] >= text
        if documents is not None:
            own = documents.gather(1, self.place)
            seen[:, :t, :t] &= documents[:, :, None] == documents[:, None]
            seen[:, t:, :t] &= own[:, :, None] == documents[:, None]
        together = self.place[:, :, None] == self.place[:, None]
        behind = self.step[:, :, None] >= self.step[:, None]
        real = self.real[:, :, None] & self.real[:, None]
        # Everyone sees itself, padding too: attention over nothing is NaN.
        seen[:, t:, t:] = (together & behind & real) | torch.eye(m, dtype=torch.bool, device=device)
        return seen
