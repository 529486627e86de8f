"""text/mdlm: masked diffusion of text with SUBS and the continuous-time bound.

Sahoo et al., "Simple and Effective Masked Diffusion Language Models" (arXiv:2406.07524); the same process as MD4
(Shi et al., arXiv:2406.04329) and, with prompts, LLaDA (Nie et al., arXiv:2502.09992). Defaults are MDLM's small
size. The linear schedule α = 1 − t is used throughout: the bound does not depend on it (§3.3).

Differences:
- The network is Llama's (``transformer.py``), not a DiT.
- Time is not told to it by default, as in MDLM's best models, since what is masked says it. With
  ``time_conditioning`` it is told the time in training and, in decoding, what that is expected to be: the share of
  the open positions that is still masked. It is added to the embeddings.
- No share of times near 0 is left out in validation, so that the validation loss is the bound itself.
- Padding after the end is never learnt; a document's end is a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from unisono.masked import Corrupted
from unisono.nn.fft import sinusoids

from unisono_text.models.masking import MaskedText
from unisono_text.models.sizes import TransformerSizes
from unisono_text.models.transformer import Keep


class MDLM(MaskedText):
    """Masked diffusion with a bidirectional transformer.

    Args:
        network: sizes of the transformer.
        time_conditioning: whether the network is told the time; such a model has no caches.
    """

    salt = "mdlm"

    def __init__(
        self,
        *,
        network: TransformerSizes = TransformerSizes(),  # noqa: B008
        time_conditioning: bool = False,
    ):
        super().__init__(network=network)
        self.time_conditioning, self.remembers = time_conditioning, not time_conditioning

    def build(self, facts: Mapping[str, Any]) -> None:
        super().build(facts)
        if self.time_conditioning:
            self.clock = Clock(self.net.dim)

    def predict(
        self,
        tokens: Int[Tensor, "b t"],
        sees: Bool[Tensor, "b t m"] | Bool[Tensor, "b t"] | None = None,
        positions: Int[Tensor, "b t"] | None = None,
        cache: Keep | None = None,
        time: Float[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b t v"]:
        """Return logits of every position; a model that reads ``time`` takes the share of masked tokens for it.

        Raises:
            ValueError: for a cache, where the network is told the time: what was kept belongs to another one.
        """
        if not self.time_conditioning:
            return self.net(tokens, sees, positions, cache)
        if cache is not None:
            raise ValueError("a network that is told the time keeps nothing: predict without a cache")
        if time is None:
            there = torch.ones_like(tokens, dtype=torch.bool)
            if sees is not None:
                there = sees if sees.dim() == 2 else sees.any(1)
            time = ((tokens == self.mask_id) & there).sum(1) / there.sum(1).clamp_min(1)
        return self.net(tokens, sees, positions, extra=self.clock(time)[:, None])

    def read(self, corrupted: Corrupted, batch: dict[str, Any]) -> Float[Tensor, "b t v"]:
        if not self.time_conditioning:
            return super().read(corrupted, batch)
        canvas = corrupted.canvas
        ids = torch.where(canvas.known, canvas.tokens, self.mask_id)
        assert corrupted.time is not None
        # The share of the whole row that is expected to be masked, which is what decoding can count.
        share = corrupted.time.amax(1) * corrupted.window.sum(1) / canvas.length.clamp_min(1)
        return self.predict(ids, self.attention_mask(batch), time=share)


class Clock(nn.Module):
    """A time from 0 to 1 as a vector: sinusoids of a thousand times it, then two layers."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim
        self.layers = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, time: Float[Tensor, " b"]) -> Float[Tensor, "b d"]:
        table = sinusoids(1001, self.dim, time.device)
        return self.layers(table[(time.clamp(0, 1) * 1000).round().long()])
