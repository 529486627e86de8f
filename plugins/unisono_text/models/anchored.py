"""text/anchored: an anchor network says important tokens first, and a denoiser reads what it said.

Rout, Caramanis and Shakkottai, "Anchored Diffusion Language Model" (arXiv:2505.18456). Two transformers in a row: the
first reads the masked text and says logits; the second reads those logits, projected, and says the tokens. The anchored
bound (ANELBO) adds to MDLM's, with the same weights, what the first network's logits cost on the *anchors*: tokens
that occur at most ``anchor_threshold`` times in their row, times ``anchor_weight``, which grows with training until
there. For the likelihood only the second's logits count: with weight 0 the bound is MDLM's of the composed network.

Published sizes: 12 layers of the anchor network, 6 more of the denoiser, weight 3e-3, threshold 5.

Differences:
- ``skip`` adds the anchor network's states to the projected logits. With a vocabulary of characters, logits alone are
  a bottleneck of 65 numbers; published, with 50,257 tokens, they are all that the denoiser reads (``skip: false``).
- The weight grows over the first ``anchor_weight`` of training, as published: to 3e-3 within 0.3 % of the steps.

Shapes: b batch, t tokens, v vocabulary. Masks: True = keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from unisono.errors import RecipeError
from unisono.masked import masked_cross_entropy

from unisono_text.models.adapters import NO_ADAPTERS, Adapters
from unisono_text.models.masking import MaskedText
from unisono_text.models.transformer import Keep, TextTransformer


class AnchoredNetwork(nn.Module):
    """The anchor network and the denoiser as one, with one cache for both.

    ::

        tokens ─ anchor ─┬─ logits ─ projection ─(+)─ denoiser ─ logits
                         └─ states ─── (skip) ────┘
    """

    def __init__(self, vocabulary: int, dim: int, num_layers: int, anchor_layers: int, skip: bool, **sizes: Any):
        super().__init__()
        self.skip, self.block_size, self.dim = skip, 0, dim
        self.anchor = TextTransformer(vocabulary + 1, vocabulary, dim, anchor_layers, **sizes)
        self.projection = nn.Linear(vocabulary, dim)
        self.denoiser = TextTransformer(0, vocabulary, dim, num_layers - anchor_layers, **sizes)
        nn.init.normal_(self.projection.weight, std=0.02)
        nn.init.zeros_(self.projection.bias)

    def forward(
        self,
        tokens: Int[Tensor, "b t"],
        mask: Bool[Tensor, "b t"] | Bool[Tensor, "b t m"] | None = None,
        positions: Int[Tensor, "b t"] | None = None,
        cache: Keep | None = None,
    ) -> Float[Tensor, "b t v"]:
        """Return the denoiser's logits; see `TextTransformer.forward`."""
        return self.both(tokens, mask, positions, cache)[0]

    def both(
        self,
        tokens: Int[Tensor, "b t"],
        mask: Bool[Tensor, "b t"] | Bool[Tensor, "b t m"] | None = None,
        positions: Int[Tensor, "b t"] | None = None,
        cache: Keep | None = None,
    ) -> tuple[Float[Tensor, "b t v"], Float[Tensor, "b t v"]]:
        """Return the denoiser's logits, and the anchor network's."""
        states = self.anchor(tokens, mask, positions, cache, hidden=True)
        said = self.anchor.head(states)
        x = self.projection(said)
        x = x + states if self.skip else x
        return self.denoiser.trunk(x, mask, positions, cache, first_layer=self.anchor.num_layers), said

    def visible(self, positions: Tensor, kept: Tensor | None = None) -> Tensor | None:
        """See `TextTransformer.visible`."""
        return self.anchor.visible(positions, kept)

    @property
    def kept_shape(self) -> tuple[int, ...]:
        """Keys and values of one position, of both networks."""
        layers, *rest = self.anchor.kept_shape
        return (layers + self.denoiser.num_layers, *rest)


class Anchored(MaskedText):
    """Masked diffusion by two networks, of which the first is taught to say what is rare.

    Args:
        dim, num_layers, num_heads, filter_dim, dropout: of both transformers; ``num_layers`` is their sum.
        anchor_layers: how many of the layers are the anchor network's.
        anchor_weight: of the anchors' cost in the objective.
        anchor_threshold: a token that occurs at most that often in its row is an anchor.
        skip: whether the denoiser reads the anchor network's states beside its logits.
        adapters: low-rank ones, which alone are trained (`unisono_text.models.adapters`).
    """

    salt: ClassVar[str] = "anchored"

    def __init__(
        self,
        *,
        dim: int = 768,
        num_layers: int = 18,
        num_heads: int = 12,
        filter_dim: int = 0,
        dropout: float = 0.1,
        anchor_layers: int = 12,
        anchor_weight: float = 3e-3,
        anchor_threshold: int = 5,
        skip: bool = False,
        adapters: Adapters = NO_ADAPTERS,
    ):
        super().__init__(dim=dim, num_layers=num_layers, num_heads=num_heads, filter_dim=filter_dim, dropout=dropout)
        if not 0 < anchor_layers < num_layers:
            raise RecipeError(
                f"model.anchor_layers={anchor_layers} must be from 1 to {num_layers - 1}: "
                f"num_layers={num_layers} counts both networks'"
            )
        if anchor_threshold < 1:
            raise RecipeError(f"model.anchor_threshold={anchor_threshold} must be at least 1")
        if not 0 <= anchor_weight <= 1:
            raise RecipeError(f"model.anchor_weight={anchor_weight} must be from 0 to 1")
        self.anchor_layers, self.skip, self.adapters = anchor_layers, skip, adapters
        self.anchor_weight, self.anchor_threshold = anchor_weight, anchor_threshold

    def make_net(self) -> AnchoredNetwork:
        return AnchoredNetwork(self.vocabulary, anchor_layers=self.anchor_layers, skip=self.skip, **self.sizes)

    def anchors(self, batch: dict[str, Any]) -> Bool[Tensor, "b t"]:
        """Return which tokens are anchors: those that occur at most ``anchor_threshold`` times in their row."""
        tokens = self.targets(batch)
        inside = torch.arange(tokens.shape[1], device=tokens.device) < batch["lengths"][:, None]
        counts = tokens.new_zeros(len(tokens), self.vocabulary).scatter_add(1, tokens, inside.long())
        return inside & (counts.gather(1, tokens) <= self.anchor_threshold)

    def token_losses(
        self, batch: dict[str, Any], seeds: Sequence[int]
    ) -> tuple[dict[str, Float[Tensor, "b t"]], Bool[Tensor, "b t"]]:
        corrupted = self.corrupted(batch, seeds, self.times(batch, seeds))
        canvas = corrupted.canvas
        ids = torch.where(canvas.known, canvas.tokens, self.mask_id)
        logits, said = self.net.both(ids, self.attention_mask(batch))
        bound = masked_cross_entropy(logits.float(), corrupted, reduction="none")
        if not self.training:
            return {"loss": bound}, self.learnt(batch)
        anchored = masked_cross_entropy(said.float(), corrupted, reduction="none") * self.anchors(batch)
        weight = min(self.anchor_weight, (self.global_step + 1) / max(self.total_steps, 1))
        return {"loss": bound + weight * anchored, "bound": bound.detach(), "anchors": anchored.detach()}, self.learnt(
            batch
        )
