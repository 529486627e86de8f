"""text/pass: look-ahead embeddings for a frozen text/ar, with which it drafts for itself.

Monea, Joulin and Grave, "PaSS: Parallel Speculative Sampling" (arXiv:2311.13581). New tokens, which mean nothing but
"what comes here?", are put behind a prefix; one evaluation of the model gives its next token and a guess for each of
them, a second one verifies. Only the new tokens' embeddings are trained.

::

    x_1 … x_c  [LA_1] [LA_2] … [LA_L]      text/ar, frozen
         │       │      │        │
       x_{c+1} x_{c+2} x_{c+3} … x_{c+1+L}

In training several places of a text are asked at once (`unisono_text.lossless.ahead`). Differs: verified by matching,
so that the texts are the model's own token by token. With the model trained as well it is ``text/space``.

Shapes: b batch, t tokens, n tokens of an evaluation, p places, v vocabulary. Masks: True = keep.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.errors import RecipeError
from unisono.verify import KVCache

from unisono_text.lossless.ahead import ask, draw_places, embedded
from unisono_text.lossless.frozen_base import OnFrozenModel
from unisono_text.lossless.request import ContinueRequest


class PaSS(OnFrozenModel):
    """Look-ahead embeddings for a text/ar (component ``base``), trained while it is frozen.

    Args:
        dim: channels of the base, which must be the same.
        ahead: how many look-ahead tokens there are.
        places: how many places of a row are asked in each step.
    """

    salt: ClassVar[str] = "pass"

    def __init__(self, dim: int = 768, ahead: int = 4, places: int = 8):
        super().__init__(dim)
        if ahead < 1 or places < 1:
            raise RecipeError(
                f"model.ahead={ahead} and model.places={places} must be at least 1",
                code="range",
                path="model.ahead" if ahead < 1 else "model.places",
                value=min(ahead, places),
            )
        self.ahead, self.places = ahead, places

    def make_net(self) -> nn.Module:
        net = nn.Embedding(self.ahead, self.dim)
        nn.init.normal_(net.weight, std=0.02)
        return net

    @property
    def look_ahead(self) -> tuple[int, ...]:
        """The ids by which the network knows the look-ahead tokens: behind all others."""
        return tuple(range(self.vocabulary + 1, self.vocabulary + 1 + self.ahead))

    def read(
        self, tokens: Int[Tensor, "b n"], mask: Any, positions: Int[Tensor, "b n"], cache: Any = None
    ) -> Float[Tensor, "b n v"]:
        """Return the base's logits where tokens may be look-ahead tokens."""
        vectors = embedded(tokens, self.base.net.embedding, self.net.weight, self.look_ahead[0])
        return self.base.read_vectors(vectors, mask, positions, cache)

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        asked = ask(batch, self.learnt(batch), self._places(batch), self.ahead)
        reading = torch.tensor(self.look_ahead, device=batch["tokens"].device).repeat(self.places)
        before = self.base.shifted(batch)
        tokens = torch.cat([before, reading.expand(len(before), -1)], 1)
        logits = self.read(tokens, asked.visible, asked.positions)[:, before.shape[1] :]
        cost = F.cross_entropy(logits.float().transpose(1, 2), asked.wanted, reduction="none")
        parts = {"loss": self.global_mean(cost, asked.there)}
        hit = (logits.detach().argmax(-1) == asked.wanted).float()
        for j in range(self.ahead):
            parts[f"top1_{j + 1}"] = self.global_mean(hit, asked.there & (asked.step == j))
        return parts

    def _places(self, batch: dict[str, Any]) -> Int[Tensor, "b p"]:
        """Places of each row, evenly drawn over its tokens, by the row's own seed."""
        inside = torch.arange(batch["tokens"].shape[1], device=self.device) < batch["lengths"][:, None]
        return draw_places(inside, self.places, self.row_seeds(batch))

    def causal(
        self,
        tokens: Int[Tensor, "b n"],
        positions: Int[Tensor, "b n"],
        visible: Bool[Tensor, "b n n"],
        cache: KVCache | None,
    ) -> Float[Tensor, "b n v"]:
        """Return the logits of what follows each token, look-ahead tokens among them."""
        return self.read(tokens, visible if cache is None else cache.mask(visible), positions, cache)

    def preview_requests(self) -> list[ContinueRequest]:
        prompts = ["", *self.facts.sample_texts[:1]]
        return [ContinueRequest(text=text, length=16, decoding="pass") for text in prompts]
