"""text/block: block diffusion; blocks from left to right, masked diffusion inside each.

Arriola et al., "Block Diffusion: Interpolating Between Autoregressive and Diffusion Language Models"
(arXiv:2503.09573). The likelihood of a text is the product over its blocks of N tokens, each given the blocks before
it; a block of 1 is an autoregressive model, and one block as long as the text is MDLM. A block's tokens see each other
and all earlier blocks, so that keys and values of a finished block never change: its cache is exact.

One pass trains all blocks: the network reads the noised tokens and the clean ones side by side
(`unisono.masked.noised_and_clean`), twice as many positions as MDLM's, each block with a time of its own. The variance
of that estimate, and not the model, is most of what blocks cost against autoregression (§4), so that training draws
times from a clipped interval; published for blocks of 4: [0.45, 0.95] (perplexity 29.21 against 30.18 unclipped).
The paper finds the interval anew at every validation, as the window of least variance among those of widths 0.5 to 0.9,
0.05 apart, and of all of [0, 1]: ``clip: null`` does that.

Differences:
- Variances of all windows are read off the one pass of validation, whose blocks have times from all of [0, 1]; they are
  those of a block's cost, where the paper's are of a text's, with times drawn for each window.
- Blocks of 1 are always masked, at time 1: the same expectation, and no variance at all.
- The validation loss and `bound` are over all of [0, 1], so that both are the bound.

Shapes: b batch, t tokens, n blocks, v vocabulary. Masks: True = keep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from unisono.errors import DataError, RecipeError
from unisono.masked import BlockDiffusion, Corrupted
from unisono.peers import add_up

from unisono_text.models.masking import MaskedText
from unisono_text.models.sizes import TransformerSizes


class BlockModel(MaskedText):
    """Masked diffusion inside blocks of a block-causal transformer.

    Args:
        network: sizes of the transformer.
        block_size: tokens of a block (published: 4, 8, 16); the data's ``context`` must be a multiple of it.
        clip: the interval that training draws times from; null finds it at every validation, and begins with [0, 1].

    Attributes:
        interval: from which training draws times now.
    """

    salt: ClassVar[str] = "block"
    min_time: ClassVar[float] = 0.0  # it has an interval of its own

    def __init__(
        self,
        *,
        network: TransformerSizes = TransformerSizes(),  # noqa: B008
        block_size: int = 16,
        clip: tuple[float, float] | None = (0.3, 0.8),
    ):
        super().__init__(network=network)
        low, high = clip or (0.0, 1.0)
        if not 0 <= low < high <= 1:
            raise RecipeError(
                f"model.clip={[low, high]} must be two times, 0 ≤ low < high ≤ 1",
                code="range",
                path="model.clip",
                value=[low, high],
            )
        if block_size < 1:
            raise RecipeError(
                f"model.block_size={block_size} must be at least 1",
                code="range",
                path="model.block_size",
                value=block_size,
            )
        self.interval, self.attention = (low, high), f"block:{block_size}"
        self._block_size, self._searching = block_size, clip is None
        self._validated: list[Float[Tensor, "2 n"]] = []  # times and costs of blocks, since validation began

    @property
    def block_size(self) -> int:
        return self._block_size

    def build(self, facts: Mapping[str, Any]) -> None:
        if facts["context"] % self.block_size:
            raise RecipeError(
                f"data.context={facts['context']} must be a multiple of model.block_size={self.block_size}: "
                "change one of them",
                code="shape",
                path="data.context",
                value=facts["context"],
            )
        super().build(facts)

    def num_times(self, length: int) -> int:
        return -(-length // self.block_size)

    def times(self, batch: dict[str, Any], seeds: Sequence[int]) -> Float[Tensor, "b n"]:
        low, high = self.interval if self.training else (0.0, 1.0)
        return low + (high - low) * super().times(batch, seeds)

    def corrupted(self, batch: dict[str, Any], seeds: Sequence[int], times: Float[Tensor, "b n"]) -> Corrupted:
        if self.block_size == 1:
            times = torch.ones_like(times)
        return BlockDiffusion().at(self.canvas(batch, seeds), self.targets(batch), times)

    def read(self, corrupted: Corrupted, batch: dict[str, Any]) -> Float[Tensor, "b t v"]:
        if batch.get("documents") is not None:
            raise DataError(
                "text/block reads one document per row, whose blocks begin with it: set data.pack to false",
                code="unsupported",
                path="data.pack",
                value=True,
            )
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

    # ---- the interval --------------------------------------------------------------------------

    def token_losses(
        self, batch: dict[str, Any], seeds: Sequence[int]
    ) -> tuple[dict[str, Float[Tensor, "b t"]], Bool[Tensor, "b t"]]:
        times, learnt = self.times(batch, seeds), self.learnt(batch)
        cost = self.cost(batch, seeds, times)
        if self._searching and not self.training:
            group = self.layout(cost.shape[1]).group.to(cost.device).expand_as(cost)
            num = self.num_times(cost.shape[1])
            total = times.new_zeros(len(cost), num).scatter_add(1, group, cost.detach().double())
            whole = times.new_zeros(len(cost), num).scatter_add(1, group, learnt.double()) == self.block_size
            self._validated.append(torch.stack([times[:, :num][whole], total[whole]]).cpu())
        return {"loss": cost}, learnt

    def on_validation_epoch_start(self) -> None:
        self._validated = []

    def on_validation_epoch_end(self) -> None:
        """Take the interval of least variance, where it is searched for; the same on every process."""
        first_look = self._trainer is not None and self.trainer.sanity_checking
        if self._searching and self._validated and not first_look:
            windows = search_windows()
            times, costs = torch.cat(self._validated, 1)
            sums = moments(times, costs, windows).to(self.device)
            sums = add_up(sums)
            self.interval = windows[int(variance(sums).argmin())]
        self._validated = []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["unisono"]["interval"] = list(self.interval)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        low, high = checkpoint["unisono"].get("interval", self.interval)
        self.interval = (low, high)


def search_windows() -> list[tuple[float, float]]:
    """Return the intervals among which the paper searches (§5.2): all of [0, 1], then widths of 0.5 to 0.9."""
    windows = [(0.0, 1.0)]
    for width in (50, 60, 70, 80, 90):
        windows += [(low / 100, (low + width) / 100) for low in range(0, 101 - width, 5)]
    return windows


def moments(
    times: Float[Tensor, " n"], costs: Float[Tensor, " n"], windows: Sequence[tuple[float, float]]
) -> Float[Tensor, "w 3"]:
    """Return the count, sum and sum of squares of the costs whose times lie in each window, as float64."""
    made = []
    for low, high in windows:
        inside = costs[(times >= low) & (times <= high)].double()
        made.append(torch.stack([inside.new_tensor(len(inside)), inside.sum(), inside.square().sum()]))
    return torch.stack(made)


def variance(sums: Float[Tensor, "w 3"]) -> Float[Tensor, " w"]:
    """Return the windows' variances from what `moments` gives; of fewer than two costs it is infinite."""
    count, total, squares = sums.unbind(1)
    spread = (squares - total.square() / count.clamp_min(1)).clamp_min(0) / (count - 1).clamp_min(1)
    return torch.where(count < 2, torch.inf, spread)
