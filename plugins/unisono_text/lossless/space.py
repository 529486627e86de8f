"""text/space: a text/ar that is tuned to say several tokens behind masks, and its own law with them.

Yi et al., 2024, "Generation Meets Verification: Accelerating Large Language Model Inference with Smart Parallel
Auto-Correct Decoding" (SPACE, arXiv:2402.11809). The network is that of ``text/pass``, with all weights trained:

::

    x_1 … x_c  [M] [M] [M]      text/ar, tuned: started by run.init_from
         │      │   │   │
      x_{c+1} x_{c+2} … x_{c+4}

The loss is the cross-entropy of the text and, in a share of the rows, of the tokens behind masks, all tokens alike (or
the masks' by ``weight``). It is the efficient variant, in which the masks stand behind the whole text and one
evaluation trains the text and all places (`unisono_text.lossless.ahead`); differs from it: several places of a row, not
one. All masks are one vector unless ``shared`` is off; their positions tell them apart, as published.

**Lexical units** (Sun et al., 2024, "Decoding at the Speed of Thought", LUD, arXiv:2405.15208), with ``alpha``: runs of
tokens of which the model's own probability is above alpha are units, and what is asked behind a place are the tokens
of the unit that it is in. So decoding may emit, without verification, what it is confident of (`lossless.units`).
Differs: units are told by the model as it is at each step, not once beforehand; a unit is also asked from its inside,
where decoding goes on when a part of it was emitted; the token behind a unit is asked as well, since a model that
learns units only is confident everywhere.

Decodings: ``space``, ``pass``, ``lud``, and those of text/ar. Losslessness is towards this model, not the one that it
began as.

Shapes: b batch, t tokens, n tokens of an evaluation, p places, k masks. Masks: True = keep.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.data import derive_seed
from unisono.errors import RecipeError
from unisono.verify import KVCache

from unisono_text.lossless.ahead import Asked, ask, draw_places, embedded, within_units
from unisono_text.lossless.noise import NoiseSpec
from unisono_text.lossless.request import ContinueRequest
from unisono_text.models.ar import Autoregressive
from unisono_text.models.sizes import TransformerSizes


@dataclass(frozen=True, kw_only=True)
class MaskSpec:
    """What is asked behind masks.

    count: masks behind a place (published: 5).
    places: of a row (published: 1).
    share: of the rows, in (0, 1] (published: 0.5); in validation all.
    weight: of a token behind a mask in the loss, that of the text's being 1.
    shared: whether all masks are one vector.
    alpha: above which a token belongs to a lexical unit, in [0, 1); 0 asks at any place.
    """

    count: int = 5
    places: int = 1
    share: float = 0.5
    weight: float = 1.0
    shared: bool = True
    alpha: float = 0.0

    def __post_init__(self):
        fits = {
            "count": (self.count >= 1, "at least 1"),
            "places": (self.places >= 1, "at least 1"),
            "share": (0 < self.share <= 1, "above 0, at most 1"),
            "weight": (0 < self.weight < float("inf"), "above 0 and finite"),
            "alpha": (0 <= self.alpha < 1, "in [0, 1)"),
        }
        for name, (fit, limit) in fits.items():
            if not fit:
                value = getattr(self, name)
                raise RecipeError(
                    f"model.masks.{name}={value} must be {limit}",
                    code="range",
                    path=f"model.masks.{name}",
                    value=value,
                )


class Space(Autoregressive):
    """A causal transformer that predicts the next token, and the ones after it behind masks.

    Args:
        network: sizes of the transformer.
        masks: what is asked behind them in training.
    """

    salt: ClassVar[str] = "space"

    def __init__(
        self,
        *,
        network: TransformerSizes = TransformerSizes(),  # noqa: B008
        masks: MaskSpec = MaskSpec(),
    ):
        super().__init__(network=network, noise=NoiseSpec())
        self.asked = masks

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the data; raises ``RecipeError`` for masks that no row has room for."""
        super().build(facts)
        if self.asked.count >= self.context:
            raise RecipeError(
                f"model.masks.count={self.asked.count}, but a row has {self.context} tokens at most: give fewer",
                code="range",
                path="model.masks.count",
                value=self.asked.count,
            )
        vectors = self.net.embedding.weight
        self.masks = nn.Embedding(1 if self.asked.shared else self.asked.count, self.sizes.dim).to(vectors.dtype)
        nn.init.normal_(self.masks.weight, std=0.02)
        self.tuned("units" if self.asked.alpha else "masks")

    @property
    def look_ahead(self) -> tuple[int, ...]:
        """The ids by which the network knows the masks: behind all others."""
        return tuple(range(self.vocabulary + 1, self.vocabulary + 1 + self.asked.count))

    def read(
        self, tokens: Int[Tensor, "b n"], mask: Any, positions: Int[Tensor, "b n"], cache: Any = None
    ) -> Float[Tensor, "b n v"]:
        """Return the logits of what follows each token, where tokens may be masks."""
        masks = self.masks.weight.expand(self.asked.count, -1)
        return self.read_vectors(
            embedded(tokens, self.net.embedding, masks, self.look_ahead[0]), mask, positions, cache
        )

    def causal(
        self,
        tokens: Int[Tensor, "b n"],
        positions: Int[Tensor, "b n"],
        visible: Bool[Tensor, "b n n"],
        cache: KVCache | None,
    ) -> Float[Tensor, "b n v"]:
        """Return the logits of what follows each token, masks among them."""
        return self.read(tokens, visible if cache is None else cache.mask(visible), positions, cache)

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return the cost of a text's tokens and of those behind masks; ``top1_j`` is how often mask j is right."""
        learnt, asked = self.learnt(batch), self.ask(batch)
        reading = torch.tensor(self.look_ahead, device=learnt.device).repeat(self.asked.places)
        before = self.shifted(batch)
        tokens = torch.cat([before, reading.expand(len(before), -1)], 1)
        logits = self.read(tokens, asked.visible, asked.positions)
        text = self.price(logits[:, : before.shape[1]], batch)
        behind = logits[:, before.shape[1] :]
        cost = F.cross_entropy(behind.float().transpose(1, 2), asked.wanted, reduction="none")
        cost = torch.where(asked.there, cost, 0)
        parts = {
            "loss": self.global_mean(
                torch.cat([text, self.asked.weight * cost], 1), torch.cat([learnt, asked.there], 1)
            ),
            "text": self.global_mean(text.detach(), learnt),
            "masks": self.global_mean(cost.detach(), asked.there),
        }
        hit = (behind.detach().argmax(-1) == asked.wanted).float()
        for j in range(self.asked.count):
            parts[f"top1_{j + 1}"] = self.global_mean(hit, asked.there & (asked.step == j))
        return parts | self.bits(parts["text"])

    def ask(self, batch: dict[str, Any]) -> Asked:
        """Return what is asked of a batch: behind any learnt token, or of the lexical units that the model finds."""
        learnt, seeds, masks = self.learnt(batch), self.row_seeds(batch), self.asked
        fit = learnt
        if masks.alpha:
            with torch.no_grad():
                fit = learnt & (self.cost(batch) < -math.log(masks.alpha))
        asked = ask(batch, learnt, draw_places(fit, masks.places, seeds), masks.count)
        there = asked.there & within_units(asked, fit, masks.count) if masks.alpha else asked.there
        if self.training and masks.share < 1:
            chosen = [_uniform(derive_seed("share", seed)) < masks.share for seed in seeds]
            there = there & torch.tensor(chosen, device=there.device)[:, None]
        return replace(asked, there=there)

    def preview_requests(self) -> list[ContinueRequest]:
        prompts = ["", *self.facts.sample_texts[:1]]
        return [ContinueRequest(text=text, length=16, decoding="pass", seed=i) for i, text in enumerate(prompts)]


def _uniform(seed: int) -> float:
    return float(torch.rand((), generator=torch.Generator().manual_seed(seed)))
