"""text/pass: look-ahead embeddings for a frozen text/ar, with which it drafts for itself.

Monea, Joulin and Grave, "PaSS: Parallel Speculative Sampling" (arXiv:2311.13581). New tokens, which mean nothing but
"what comes here?", are put behind a prefix; one evaluation of the model gives its next token and a guess for each of
them, a second one verifies. Only the new tokens' embeddings are trained.

::

    x_1 … x_c  [LA_1] [LA_2] … [LA_L]      text/ar, frozen
         │       │      │        │
       x_{c+1} x_{c+2} x_{c+3} … x_{c+1+L}

In training several places of a text are asked at once: each has its own look-ahead tokens, which see what is before
their place and each other. Differs: verified by matching, so that the texts are the model's own token by token.

Shapes: b batch, t tokens, p places, l look-ahead tokens, d channels. Masks: True = keep.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from unisono.data import derive_seed
from unisono.errors import RecipeError
from unisono.verify import KVCache

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
        table = torch.cat([self.base.net.embedding.weight, self.net.weight])
        return functional_call(self.base.net, {"embedding.weight": table}, (tokens, mask, positions, cache))

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        tokens, device = batch["tokens"], batch["tokens"].device
        b, t = tokens.shape
        # Behind input i comes token i; look-ahead token j at place i guesses token i + 1 + j.
        places = self._places(batch).to(device)
        offset = torch.arange(self.ahead, device=device)
        asked = (places[:, :, None] + 1 + offset).flatten(1)
        text = torch.arange(t, device=device).expand(b, t)
        positions = torch.cat([text, asked], 1)
        reading = torch.tensor(self.look_ahead, device=device).expand(b, self.places, -1).flatten(1)
        owner = torch.arange(self.places, device=device).repeat_interleave(self.ahead)
        mask = torch.zeros(b, t + len(owner), t + len(owner), dtype=torch.bool, device=device)
        mask[:, :t, :t] = torch.ones(t, t, dtype=torch.bool, device=device).tril()
        mask[:, t:, :t] = text[:, None] <= places.repeat_interleave(self.ahead, 1)[:, :, None]
        # Those before it at its own place: among them positions alone tell which.
        step = offset.repeat(self.places)
        mask[:, t:, t:] = (owner[:, None] == owner) & (step <= step[:, None])
        at = asked.clamp_max(t - 1)
        there = (asked < t) & self.learnt(batch).gather(1, at)
        documents = batch.get("documents")
        if documents is not None:
            mine = documents.gather(1, places).repeat_interleave(self.ahead, 1)
            mask[:, :t, :t] &= documents[:, :, None] == documents[:, None]
            mask[:, t:, :t] &= mine[:, :, None] == documents[:, None]
            there = there & (documents.gather(1, at) == mine)
        logits = self.read(torch.cat([self.base.shifted(batch), reading], 1), mask, positions)[:, t:]
        wanted = tokens.gather(1, at)
        cost = F.cross_entropy(logits.float().transpose(1, 2), wanted, reduction="none")
        parts = {"loss": self.global_mean(cost, there)}
        hit = (logits.detach().argmax(-1) == wanted).float()
        for j in range(self.ahead):
            parts[f"top1_{j + 1}"] = self.global_mean(hit, there & (step == j))
        return parts

    def _places(self, batch: dict[str, Any]) -> Int[Tensor, "b p"]:
        """Places of each row, evenly drawn over its tokens, by the row's own seed."""
        draws = []
        for seed in self.row_seeds(batch):
            generator = torch.Generator().manual_seed(derive_seed("places", seed))
            draws.append(torch.rand(self.places, generator=generator))
        lengths = batch["lengths"].cpu()[:, None]
        return (torch.stack(draws) * lengths).long().clamp_max(lengths - 1)

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
