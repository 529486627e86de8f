"""text/medusa: extra heads on a frozen text/ar, which guess the tokens after the next one.

Cai et al., "Medusa: Simple LLM Inference Acceleration Framework with Multiple Decoding Heads" (arXiv:2401.10774),
as Medusa-1: the model itself is not touched, so that what it says stays the same.

::

    tokens ─ text/ar, frozen ─ hidden h ─┬─ its own head ───────────────────── token i + 1
                                         ├─ h + SiLU(W1 h) ─ W2 (head 1) ───── token i + 2
                                         └─ …                (head K) ──────── token i + 1 + K

W1 begins as 0 and W2 as the model's own head, so that a head begins by saying what the model says. The loss is
Σ_k 0.8^k · cross-entropy of head k (§2.2.1). Decoding tries a tree of the heads' likeliest tokens; verification is by
matching, and so lossless. (The paper's typical acceptance is not; it is `unisono.verify.medusa_typical`.)

Shapes: b batch, t tokens, k heads, d channels, v vocabulary. Masks: True = keep.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.errors import RecipeError
from unisono.nn.modules import Modules
from unisono.verify import KVCache

from unisono_text.lossless.frozen_base import OnFrozenModel
from unisono_text.lossless.request import ContinueRequest


class Medusa(OnFrozenModel):
    """Extra heads on a text/ar (component ``base``), trained while it is frozen.

    Args:
        dim: channels of the base, which must be the same.
        heads: how many tokens further the last one looks.
        depth: residual layers of a head.
        decay: weight of each head's loss relative to the one before.
    """

    salt: ClassVar[str] = "medusa"

    def __init__(self, *, dim: int = 768, heads: int = 4, depth: int = 1, decay: float = 0.8):
        super().__init__(dim)
        if heads < 1 or depth < 1:
            raise RecipeError(
                f"model.heads={heads} and model.depth={depth} must be at least 1",
                code="range",
                path="model.heads" if heads < 1 else "model.depth",
                value=min(heads, depth),
            )
        if not 0 < decay <= 1:
            raise RecipeError(
                f"model.decay={decay} must be above 0, at most 1", code="range", path="model.decay", value=decay
            )
        self.extra_heads, self.depth, self.decay = heads, depth, decay

    def make_net(self) -> nn.Module:
        return Heads(self.dim, self.vocabulary, self.extra_heads, self.depth)

    def attach(self, role: str, component: Any) -> None:
        """Take a component; heads that have learnt nothing yet begin as the base's own."""
        super().attach(role, component)
        if role == "base" and not bool(self.net.begun):
            with torch.no_grad():
                for head in self.net.out:
                    head.weight.copy_(component.head_weight)
                self.net.begun.fill_(True)

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        hidden = self.hidden(batch)
        targets, learnt, documents = batch["tokens"], self.learnt(batch), batch.get("documents")
        parts: dict[str, Tensor] = {}
        total = hidden.new_zeros(())
        for number, logits in enumerate(self.net(hidden).unbind(2), 1):
            there = _ahead(learnt, number, False)
            if documents is not None:
                there = there & (_ahead(documents, number, -2) == documents)
            wanted = _ahead(targets, number, 0)
            cost = F.cross_entropy(logits.float().transpose(1, 2), wanted, reduction="none")
            parts[f"head_{number}"] = self.global_mean(cost, there)
            parts[f"top1_{number}"] = self.global_mean((logits.detach().argmax(-1) == wanted).float(), there)
            total = total + self.decay**number * parts[f"head_{number}"]
        return {"loss": total, **parts}

    def causal(
        self,
        tokens: Int[Tensor, "b n"],
        positions: Int[Tensor, "b n"],
        visible: Bool[Tensor, "b n n"],
        cache: KVCache | None,
    ) -> Float[Tensor, "b n h v"]:
        """Return the base's logits of the next token, and the heads' behind them."""
        mask = visible if cache is None else cache.mask(visible)
        hidden = self.base.net(tokens, mask, positions, cache, hidden=True)
        return torch.cat([self.base.say(hidden)[:, :, None], self.net(hidden)], 2)

    def preview_requests(self) -> list[ContinueRequest]:
        prompts = ["", *self.facts.sample_texts[:1]]
        tree = tuple([2] * min(self.extra_heads, 3))
        return [ContinueRequest(text=text, length=16, decoding="medusa", tree=tree) for text in prompts]


class Heads(nn.Module):
    """Heads over hidden states; see this module."""

    def __init__(self, dim: int, vocabulary: int, heads: int, depth: int):
        super().__init__()
        self.mix = Modules(Modules(nn.Linear(dim, dim) for _ in range(depth)) for _ in range(heads))
        self.out = Modules(nn.Linear(dim, vocabulary, bias=False) for _ in range(heads))
        self.register_buffer("begun", torch.zeros((), dtype=torch.bool))
        for layers in self.mix:
            for layer in layers:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, hidden: Float[Tensor, "b t d"]) -> Float[Tensor, "b t k v"]:
        said, hidden = [], hidden.to(self.out[0].weight.dtype)
        for layers, out in zip(self.mix, self.out, strict=True):
            x = hidden
            for layer in layers:
                x = x + F.silu(layer(x))
            said.append(out(x))
        return torch.stack(said, 2)


def _ahead(x: Tensor, by: int, fill: Any) -> Tensor:
    """What stands ``by`` places further on, ``fill`` behind the end."""
    return F.pad(x[:, by:], (0, min(by, x.shape[1])), value=fill)
