"""text/anchored: an anchor network says important tokens first, and a denoiser reads what it said.

Rout, Caramanis and Shakkottai, "Anchored Diffusion Language Model" (arXiv:2505.18456). Two transformers in a row: the
first reads the masked text and says logits; the second reads those logits, projected, and says the tokens. The anchored
bound (ANELBO) adds to MDLM's, with the same weights, what the first network's logits cost on the *anchors*: tokens
that occur at most ``anchor.threshold`` times in their row, times ``anchor.weight``, which grows with training until
there. For the likelihood only the second's logits count: with weight 0 the bound is MDLM's of the composed network.

Published sizes: 12 layers of the anchor network, 6 more of the denoiser, weight 3e-3, threshold 5.

Differences:
- ``skip`` adds the anchor network's states to the projected logits. With a vocabulary of characters, logits alone are
  a bottleneck of 65 numbers; published, with 50,257 tokens, they are all that the denoiser reads (``skip: false``).
- The weight grows over the first ``anchor.weight`` of training, as published: to 3e-3 within 0.3 % of the steps.

Shapes: b batch, t tokens, v vocabulary. Masks: True = keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from unisono.errors import RecipeError
from unisono.masked import masked_cross_entropy

from unisono_text.models.masking import MaskedText
from unisono_text.models.sizes import FLAT, AnchorSpec, TransformerSizes
from unisono_text.models.transformer import Keep, TextTransformer


class AnchoredNetwork(nn.Module):
    """The anchor network and the denoiser as one, with one cache for both.

    ::

        tokens ─ anchor ─┬─ logits ─ projection ─(+)─ denoiser ─ logits
                         └─ states ─── (skip) ────┘
    """

    def __init__(self, vocabulary: int, sizes: TransformerSizes, anchor: AnchorSpec):
        super().__init__()
        self.skip, self.block_size, self.dim = anchor.skip, 0, sizes.dim
        first, rest = (
            replace(sizes, num_layers=count) for count in (anchor.num_layers, sizes.num_layers - anchor.num_layers)
        )
        self.anchor = TextTransformer(vocabulary + 1, vocabulary, first)
        self.projection = nn.Linear(vocabulary, sizes.dim)
        self.denoiser = TextTransformer(0, vocabulary, rest)
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
        assert self.anchor.head is not None  # it predicts tokens
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
        network: sizes of both transformers; ``num_layers`` is their sum.
        anchor: the anchor network, and what is taught to it.
    """

    salt: ClassVar[str] = "anchored"
    flat: ClassVar[dict[str, str]] = FLAT | {
        "anchor_layers": "anchor.num_layers",
        "anchor_weight": "anchor.weight",
        "anchor_threshold": "anchor.threshold",
        "skip": "anchor.skip",
    }

    def __init__(
        self,
        *,
        network: TransformerSizes = TransformerSizes(num_layers=18),  # noqa: B008
        anchor: AnchorSpec = AnchorSpec(),  # noqa: B008
    ):
        super().__init__(network=network)
        if not 0 < anchor.num_layers < network.num_layers:
            raise RecipeError(
                f"model.anchor.num_layers={anchor.num_layers} must be from 1 to {network.num_layers - 1}: "
                f"network.num_layers={network.num_layers} counts both networks'",
                code="range",
                path="model.anchor.num_layers",
                value=anchor.num_layers,
            )
        self.anchor = anchor

    def make_net(self) -> AnchoredNetwork:
        return AnchoredNetwork(self.vocabulary, self.sizes, self.anchor)

    def anchors(self, batch: dict[str, Any]) -> Bool[Tensor, "b t"]:
        """Return which tokens are anchors: those that occur at most ``anchor.threshold`` times in their row."""
        tokens = self.targets(batch)
        inside = torch.arange(tokens.shape[1], device=tokens.device) < batch["lengths"][:, None]
        counts = tokens.new_zeros(len(tokens), self.vocabulary).scatter_add(1, tokens, inside.long())
        return inside & (counts.gather(1, tokens) <= self.anchor.threshold)

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
        weight = min(self.anchor.weight, (self.global_step + 1) / max(self.total_steps, 1))
        return {"loss": bound + weight * anchored, "bound": bound.detach(), "anchors": anchored.detach()}, self.learnt(
            batch
        )
