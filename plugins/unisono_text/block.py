"""text/block: block diffusion; blocks from left to right, masked diffusion inside each.

Arriola et al., "Block Diffusion: Interpolating Between Autoregressive and Diffusion Language Models"
(arXiv:2503.09573). The likelihood of a text is the product over its blocks of N tokens, each given the blocks before
it; a block of 1 is an autoregressive model, and one block as long as the text is MDLM. A block's tokens see each other
and all earlier blocks, so that keys and values of a finished block never change: its cache is exact.

One pass trains all blocks: the network reads the noised tokens and the clean ones side by side
(`unisono.masked.noised_and_clean`), twice as many positions as MDLM's, each block with a time of its own. The variance
of that estimate, and not the model, is most of what blocks cost against autoregression (§4), so that training draws
times from a clipped interval; published for blocks of 4: [0.45, 0.95] (perplexity 29.21 against 30.18 unclipped).

Differences:
- The interval is a setting; the paper finds it anew at every validation, by the variance in each of several windows.
  `clip_variance` measures what that search compares.
- Blocks of 1 are always masked, at time 1: the same expectation, and no variance at all.
- The validation loss and `bound` draw times from all of [0, 1], so that both are the bound.

Shapes: b batch, t tokens, n blocks, v vocabulary. Masks: True = keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.errors import DataError, RecipeError
from unisono.masked import BlockDiffusion, Corrupted, Layout

from unisono_text.masking import MaskedModel


class BlockModel(MaskedModel):
    """Masked diffusion inside blocks of a block-causal transformer.

    Args:
        dim, num_layers, num_heads, filter_dim, dropout: of the transformer; ``filter_dim`` 0 is 8/3 of ``dim``.
        block_size: tokens of a block (published: 4, 8, 16); the data's ``context`` must be a multiple of it.
        clip: the interval that training draws times from.
    """

    salt: ClassVar[str] = "block"
    min_time: ClassVar[float] = 0.0  # its interval is ``clip``

    def __init__(
        self,
        dim: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        filter_dim: int = 0,
        dropout: float = 0.1,
        block_size: int = 16,
        clip: tuple[float, float] = (0.3, 0.8),
    ):
        super().__init__(dim, num_layers, num_heads, filter_dim, dropout)
        low, high = clip
        if not 0 <= low < high <= 1:
            raise RecipeError(f"model.clip={list(clip)} must be two times, 0 ≤ low < high ≤ 1")
        if block_size < 1:
            raise RecipeError(f"model.block_size={block_size} must be at least 1")
        self.clip, self.attention = (low, high), f"block:{block_size}"
        self._block_size = block_size

    @property
    def block_size(self) -> int:
        return self._block_size

    def build(self, facts: dict[str, Any]) -> None:
        if facts["context"] % self.block_size:
            raise RecipeError(
                f"data.context={facts['context']} must be a multiple of model.block_size={self.block_size}: "
                "change one of them"
            )
        super().build(facts)

    def num_times(self, length: int) -> int:
        return -(-length // self.block_size)

    def times(self, batch: dict[str, Any], seeds: Sequence[int]) -> Float[Tensor, "b n"]:
        low, high = self.clip if self.training else (0.0, 1.0)
        return low + (high - low) * super().times(batch, seeds)

    def layout(self, length: int) -> Layout:
        return Layout.blocks(length, self.block_size, self.vocabulary)

    def corrupted(self, batch: dict[str, Any], seeds: Sequence[int], times: Float[Tensor, "b n"]) -> Corrupted:
        if self.block_size == 1:
            times = torch.ones_like(times)
        return BlockDiffusion().at(self.canvas(batch, seeds), self.targets(batch), times)

    def read(self, corrupted: Corrupted, batch: dict[str, Any]) -> Float[Tensor, "b t v"]:
        if batch.get("documents") is not None:
            raise DataError("text/block reads one document per row, whose blocks begin with it: set data.pack to false")
        canvas, visible = corrupted.canvas, corrupted.visible
        assert visible is not None
        t = canvas.tokens.shape[1]
        noised = torch.where(canvas.known, canvas.tokens, self.mask_id)
        positions = torch.arange(t, device=noised.device).repeat(2)
        mask = visible[None]
        if bool(canvas.padding.any()):
            # Everyone sees itself, padding too: attention over nothing is NaN.
            own = torch.eye(2 * t, dtype=torch.bool, device=noised.device)
            mask = (mask & ~canvas.padding.repeat(1, 2)[:, None]) | own
        hidden = self.net(torch.cat([noised, self.targets(batch)], 1), mask, positions, hidden=True)
        return self.net.head(hidden[:, :t])

    @torch.no_grad()
    def clip_variance(
        self, batch: dict[str, Any], windows: Sequence[tuple[float, float]], num_samples: int = 4, seed: int = 0
    ) -> dict[tuple[float, float], float]:
        """Return the variance, over rows and samples, of the loss per token with times from each window (§5.2).

        The window to train with is the one of least variance (published widths: 0.5 to 0.9, 0.05 apart).
        """
        measured = {}
        learnt = self.learnt(batch).sum(1).clamp_min(1)
        for low, high in windows:
            costs = []
            for sample in range(num_samples):
                times = low + (high - low) * self.sample_numbers(batch, 0, 1, seed + sample)
                seeds = [seed * num_samples + sample + row * 2**20 for row in batch["row"].tolist()]
                costs.append(self.cost(batch, seeds, times).double().sum(1) / learnt)
            measured[low, high] = float(torch.cat(costs).var())
        return measured
