"""text/seed: masked diffusion that also learns to correct, and learns the orders that suit it; as far as is known.

"Seed Diffusion: A Large-Scale Diffusion Language Model with High-Speed Inference" (arXiv:2508.02193). The model and its
data are closed; what its report states is here, in the three phases of one training run:

1. Masks, as MDLM, for the first part of the steps (published: 80 %).
2. Edits beside masks for the rest (20 %): a text with a share α of its tokens substituted, deleted or inserted, α up to
   0.1, is to be read right at *every* position. Known tokens are so not taken for true, as MDLM takes them.
3. Constrained order: of several ways to hide, the model learns on the one under which it finds the text likeliest,
   instead of on all orders alike.

Decoding is by blocks, in parallel inside each, with keys and values of earlier blocks kept (the request's ``block`` and
``cache``); with ``edit``, what was committed may be exchanged.

What the report leaves open, and what is done here:
- *How many trajectories, of what length, how filtered.* It distils a data set of trajectories which the trained model
  made, selected by the evidence bound. Here candidates are drawn per item and step while training (``num_orders``), all
  of the same time, and the likeliest is learnt from.
- *The schedule of α, and the mixture of edits.* Here α is uniform, an edit is a substitution or, half as often, a
  deletion with an insertion elsewhere, so that lengths stay; the weight of the edits' cost is 1.
- *On-policy learning of fewer steps.* It needs rollouts and a verifier, whose form and reward are not given. Not here.
- *Sizes, tokenizer, data, the block size, and how the cache of a bidirectional network stays valid.* Not given: blocks
  with a kept prefix are approximate here, and their drift is reported.

Validation loss and `bound` are MDLM's. Shapes: b batch, t tokens, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from unisono.data import derive_seed
from unisono.masked import Corrupted, masked_cross_entropy

from unisono_text.models.mdlm import MDLM
from unisono_text.models.sizes import FLAT, PhaseSpec, TransformerSizes


class Seed(MDLM):
    """Masked diffusion in three phases: masks, masks and edits, orders that suit.

    Args:
        network: sizes of the transformer.
        phases: what is learnt beside masks, and when.
    """

    salt: ClassVar[str] = "seed"
    flat: ClassVar[dict[str, str]] = FLAT | {field.name: f"phases.{field.name}" for field in fields(PhaseSpec)}

    def __init__(
        self,
        *,
        network: TransformerSizes = TransformerSizes(),  # noqa: B008
        phases: PhaseSpec = PhaseSpec(),  # noqa: B008
    ):
        super().__init__(network=network)
        self.phases = phases

    def token_losses(
        self, batch: dict[str, Any], seeds: Sequence[int]
    ) -> tuple[dict[str, Float[Tensor, "b t"]], Bool[Tensor, "b t"]]:
        if not self.training:
            return super().token_losses(batch, seeds)
        left = 1 - self.global_step / max(self.total_steps, 1)
        times, learnt = self.times(batch, seeds), self.learnt(batch)
        if left <= self.phases.order_share and self.phases.num_orders > 1:
            corrupted = self.likeliest(batch, seeds, times)
        else:
            corrupted = self.corrupted(batch, seeds, times)
        masks = masked_cross_entropy(self.read(corrupted, batch).float(), corrupted, reduction="none")
        if left > self.phases.edit_share:
            return {"loss": masks}, learnt
        edits = self.edit_cost(batch, seeds)
        return {"loss": masks + edits, "masks": masks.detach(), "edits": edits.detach()}, learnt

    @torch.no_grad()
    def likeliest(self, batch: dict[str, Any], seeds: Sequence[int], times: Float[Tensor, "b n"]) -> Corrupted:
        """Return, row by row, the one of ``num_orders`` ways to hide whose hidden tokens cost least, all in all.

        Each way hides as many tokens as the row's first, so that no row is easier for hiding less.
        """
        first = self.corrupted(batch, seeds, times)
        count = first.canvas.masked.sum(1)
        window = first.window
        masked, least = first.canvas.masked, None
        chosen = masked
        for order in range(self.phases.num_orders):
            if order:
                number = torch.stack([_uniform(derive_seed(seed, "order", order), window.shape[1]) for seed in seeds])
                rank = number.to(window.device).masked_fill(~window, 2.0).argsort(1).argsort(1)
                masked = window & (rank < count[:, None])
            way = _hide(first, masked)
            total = masked_cross_entropy(self.read(way, batch).float(), way, reduction="none").double().sum(1)
            if least is None:
                least = total
            chosen = torch.where((total < least)[:, None], masked, chosen)
            least = torch.minimum(least, total)
        return _hide(first, chosen)

    def edit_cost(self, batch: dict[str, Any], seeds: Sequence[int]) -> Float[Tensor, "b t"]:
        """Return what it costs to read an edited text right, at every learnt position."""
        edited = self.edited(batch, seeds)
        logits = self.predict(edited, self.attention_mask(batch)).float()
        targets = batch["tokens"].masked_fill(~self.learnt(batch), -100)
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="none")
        return losses.view_as(targets)

    def edited(self, batch: dict[str, Any], seeds: Sequence[int]) -> Int[Tensor, "b t"]:
        """Return the tokens with floor(α · n) edits of each row's n learnt ones, α uniform up to ``edit_rate``."""
        rows = self.targets(batch).cpu().clone()
        learnt = self.learnt(batch).cpu()
        for row, places, seed in zip(rows, learnt, seeds, strict=True):
            places = places.nonzero()[:, 0]
            if not len(places):
                continue
            begin, size = int(places[0]), len(places)
            u = _uniform(derive_seed(seed, "edit"), 1 + 4 * size)
            for number in range(int(float(u[0]) * self.phases.edit_rate * size)):
                kind, where, other, token = u[1 + 4 * number : 5 + 4 * number].tolist()
                at, to = begin + int(where * size), begin + int(other * size)
                new = int(token * self.vocabulary)
                if kind < 2 / 3:
                    row[at] = new
                elif at <= to:  # deleted here, and one inserted there: what is between moves up
                    row[at:to] = row[at + 1 : to + 1].clone()
                    row[to] = new
                else:
                    row[to + 1 : at + 1] = row[to:at].clone()
                    row[to] = new
        return rows.to(batch["tokens"].device)


def _hide(corrupted: Corrupted, masked: Bool[Tensor, "b t"]) -> Corrupted:
    """The same row at the same time, with other tokens hidden."""
    canvas = corrupted.canvas
    given = torch.where(canvas.frozen, canvas.tokens, corrupted.targets)
    shown = replace(canvas, tokens=given.masked_fill(masked, 0), known=~masked)
    assert corrupted.time is not None
    weights = torch.where(masked, 1 / corrupted.time, 0.0)
    return replace(corrupted, canvas=shown, weights=weights)


def _uniform(seed: int, count: int) -> Float[Tensor, " n"]:
    return torch.empty(count, dtype=torch.float64).uniform_(generator=torch.Generator().manual_seed(seed))
