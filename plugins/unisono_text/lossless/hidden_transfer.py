"""text/hidden-transfer: states of the next tokens, guessed in the middle of a frozen text/ar (hidden transfer).

Wu et al., "Parallel Decoding via Hidden Transfer for Lossless Large Language Model Acceleration" (arXiv:2404.12022)::

    tokens ─ layers 1 … l ─ h ─┬────────────────────── layers l + 1 … L ─ head ── token i + 1
                               ├─ h + W_1 h, position i + 1 ─ the same ─ head ── token i + 2
                               └─ …      (W_K, position i + K) ────────── head ── token i + 1 + K

A pseudo state runs through the layers that are left and attends there to all that its token sees, to the pseudo
states before it, and to itself; so it knows more than a head at the end does. Nothing else attends to it, and its
keys and values are never kept. Only the W are trained, and begin as 0: a pseudo state begins as a copy. The loss is the
cross-entropy with the base's own law at the place that the state stands for (distillation), the same for each step.

Decoding verifies a tree and makes the next one's guesses at all of its nodes in the same evaluation, as
``unisono.verify.ExtraHeads`` reads them. Differs: the paper does not print its layers and losses for every model; here
the layer of each step is a setting. Of an evaluation, the last `GUESSED` columns of a row are given pseudo states:
a tree's root and nodes always are, all of a long prompt would be wasted.

Shapes: b batch, n tokens, w columns with pseudo states, k steps, m keys, d channels, v vocabulary. Masks: True = keep.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.errors import RecipeError
from unisono.nn.modules import Modules
from unisono.nn.rotary import rotation
from unisono.verify import KVCache

from unisono_text.lossless.frozen_base import OnFrozenModel
from unisono_text.lossless.request import ContinueRequest
from unisono_text.lossless.transfer_tree import GUESSED


class HiddenTransfer(OnFrozenModel):
    """Maps from a text/ar's states to those of the next tokens (component ``base``), trained while it is frozen.

    Args:
        dim: channels of the base, which must be the same.
        layers: for each step, how many of the base's layers are before its map; they never fall.
    """

    salt: ClassVar[str] = "hidden-transfer"

    def __init__(self, *, dim: int = 768, layers: tuple[int, ...] = (6, 6, 6)):
        super().__init__(dim)
        if not layers or min(layers) < 0 or list(layers) != sorted(layers):
            raise RecipeError(
                f"model.layers={list(layers)}: one whole number per step, at least one step, none below 0 or below "
                "the one before it",
                code="empty" if not layers else "range",
                path="model.layers",
                value=layers,
            )
        self.layers = tuple(layers)

    @property
    def num_transfers(self) -> int:
        """How many tokens behind the next one are guessed."""
        return len(self.layers)

    def make_net(self) -> nn.Module:
        return Transfers(self.dim, len(self.layers))

    def attach(self, role: str, component: Any) -> None:
        """Take a component; raises ``RecipeError`` also where the base has too few layers."""
        if role == "base":
            self.check_component(role, component)
            have = component.net.num_layers
            if self.layers[-1] >= have:
                raise RecipeError(
                    f"model.layers={list(self.layers)}, the base has {have}: each must leave at least one behind it, "
                    f"at most {have - 1}",
                    code="range",
                    path="model.layers",
                    value=self.layers,
                )
        super().attach(role, component)

    def read(
        self,
        tokens: Int[Tensor, "b n"],
        seen: Bool[Tensor, "b n m"],
        positions: Int[Tensor, "b n"],
        cache: KVCache | None,
        columns: Int[Tensor, "b w"],
    ) -> tuple[Float[Tensor, "b n v"], Float[Tensor, "b w k v"]]:
        """Return the base's logits, and those of the pseudo states of the given columns; ``seen`` is of all keys."""
        net, maps, device = self.base.net, self.net.maps, tokens.device
        b, n, w, k = *tokens.shape, columns.shape[1], len(self.layers)
        steps = torch.arange(1, k + 1, device=device)
        own = positions.gather(1, columns)
        ahead = (own[:, None] + steps[:, None]).flatten(1)
        # Pseudo states see what their column sees, and those of it that are not ahead of them: [step, column].
        sees_text = seen.gather(1, columns[:, :, None].expand(b, w, seen.shape[2])).repeat(1, k, 1)
        same = torch.eye(w, dtype=torch.bool, device=device).repeat(k, k)
        step = steps.repeat_interleave(w)
        sees_pseudo = (same & (step[:, None] >= step)).expand(b, -1, -1)
        mask = torch.cat([F.pad(seen, (0, k * w)), torch.cat([sees_text, sees_pseudo], 2)], 1)[:, None]
        turns = rotation(torch.cat([positions, ahead], 1), net.head_dim, net.rope_base, device)
        x, beside, num_keys = net.embedding(tokens), Beside(cache, n), seen.shape[2]
        for number, layer in enumerate(net.layers):
            for at in range(k):
                if self.layers[at] == number:
                    h = x[:, :n].gather(1, columns[:, :, None].expand(b, w, x.shape[2]))
                    x = torch.cat([x, h + maps[at](h.to(maps[at].weight.dtype)).to(h.dtype)], 1)
            width = x.shape[1]
            x = layer(x, turns.part(0, width), mask[:, :, :width, : num_keys + width - n], False, beside, number)
        logits = net.head(net.norm(x))[..., : self.vocabulary]
        return logits[:, :n], logits[:, n:].unflatten(1, (k, w)).transpose(1, 2)

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        reading, documents = self.base.shifted(batch), batch.get("documents")
        b, t = reading.shape
        text = torch.arange(t, device=reading.device)
        seen = (text[:, None] >= text).expand(b, t, t)
        if documents is not None:
            seen = seen & (documents[:, :, None] == documents[:, None])
        columns = text.expand(b, t)
        said, guessed = self.read(reading, seen, columns, None, columns)
        law, learnt, targets = said.detach().float().softmax(-1), self.learnt(batch), batch["tokens"].clamp_min(0)
        parts: dict[str, Tensor] = {}
        total = guessed.new_zeros(())
        for step, logits in enumerate(guessed.unbind(2), 1):
            at = (text + step).clamp_max(t - 1)
            there = (text + step < t) & learnt[:, at]
            if documents is not None:
                there = there & (documents[:, at] == documents)
            cost = -(law[:, at] * logits.float().log_softmax(-1)).sum(-1)
            best = logits.detach().argmax(-1)
            parts[f"step_{step}"] = self.global_mean(cost, there)
            parts[f"top1_{step}"] = self.global_mean((best == targets[:, at]).float(), there)
            parts[f"agrees_{step}"] = self.global_mean((best == law[:, at].argmax(-1)).float(), there)
            total = total + parts[f"step_{step}"]
        return {"loss": total / len(self.layers), **parts}

    def target_network(self, decoding: str) -> Any:
        """Return the network with pseudo states for this model's own method, without for others."""
        return self.causal if decoding == "hidden-transfer" else self.base.causal

    def causal(
        self,
        tokens: Int[Tensor, "b n"],
        positions: Int[Tensor, "b n"],
        visible: Bool[Tensor, "b n n"],
        cache: KVCache | None,
    ) -> Float[Tensor, "b n h v"]:
        """Return the base's logits of the next token, and the guesses behind them; 0 for columns without."""
        seen = visible if cache is None else cache.mask(visible)
        w = min(tokens.shape[1], GUESSED)
        inside = visible[:, :, 0].sum(1)  # padding sees itself alone, all others the first column
        columns = (inside[:, None] - w + torch.arange(w, device=tokens.device)).clamp_min(0)
        said, guessed = self.read(tokens, seen, positions, cache, columns)
        out = said.new_zeros(*said.shape[:2], 1 + len(self.layers), said.shape[2])
        out[:, :, 0] = said
        out[torch.arange(len(out), device=out.device)[:, None], columns, 1:] = guessed
        return out

    def preview_requests(self) -> list[ContinueRequest]:
        prompts = ["", *self.facts.sample_texts[:1]]
        tree = tuple([2] * min(self.num_transfers, 3))
        return [ContinueRequest(text=text, length=16, decoding="hidden-transfer", tree=tree) for text in prompts]


class Transfers(nn.Module):
    """A linear map per step, 0 at first."""

    def __init__(self, dim: int, steps: int):
        super().__init__()
        self.maps = Modules(nn.Linear(dim, dim, bias=False) for _ in range(steps))
        for layer in self.maps:
            nn.init.zeros_(layer.weight)


class Beside:
    """A cache that keeps the first `num_kept` columns of what it is given, and hands on the rest behind them."""

    def __init__(self, cache: KVCache | None, num_kept: int):
        self.cache, self.num_kept = cache, num_kept

    def append(
        self, layer: int, key: Float[Tensor, "b h n d"], value: Float[Tensor, "b h n d"]
    ) -> tuple[Float[Tensor, "b h m d"], Float[Tensor, "b h m d"]]:
        if self.cache is None:
            return key, value
        n = self.num_kept
        kept_key, kept_value = self.cache.append(layer, key[:, :, :n], value[:, :, :n])
        return torch.cat([kept_key, key[:, :, n:]], 2), torch.cat([kept_value, value[:, :, n:]], 2)
