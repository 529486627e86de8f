"""RegressionPolicy: plans a whole chunk in one evaluation, as numbers instead of tokens (OpenVLA-OFT).

Kim et al., 2025 (arXiv:2502.19645): empty slots instead of tokens, attention both ways, a head of residual blocks that
reads the slots of each action, the L1 distance to the expert's actions. It is the lossy border of the policies by
tokens: no draw, no order, one evaluation. Difference: trained beside, or from, a small policy and not a large one; its
actions are cut to the percentiles that the training actions had.

::

    prefix [p] ─┬─ transformer, both ways ─ slots of an action ─ residual blocks ─ action
    slots [n] ──┘

Shapes: b batch, m actions of a chunk, a numbers of an action, n = m·a slots, p vectors of the prefix, d channels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from unisono.nn.modules import Modules
from unisono.nn.swiglu import LayerSizes

from unisono_control.models.base import Policy
from unisono_control.playing.play import Moment, Plan


class RegressionPolicy(Policy):
    """A transformer that sees both ways, and a head of residual blocks.

    Args:
        network: sizes of the transformer.
        head_blocks: residual blocks of the head; 2 as published.
    """

    def __init__(self, *, network: LayerSizes = LayerSizes(), head_blocks: int = 2):  # noqa: B008
        super().__init__(network=network)
        self.head_blocks = head_blocks

    def build(self, facts: Mapping[str, Any]) -> None:
        super().build(facts)
        dim, a = self.sizes.dim, self.facts.environment.num_actions
        self.slots = nn.Parameter(0.02 * torch.randn(self.num_tokens, dim))
        self.to_head = nn.Linear(a * dim, dim)
        self.head = Modules(
            nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.ReLU()) for _ in range(self.head_blocks)
        )
        self.to_action = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, a))

    def predict(self, batch: dict[str, Any], slots: Float[Tensor, "n d"] | None = None) -> Float[Tensor, "b m a"]:
        """Return a chunk of actions, normalised: −1 is the 1st percentile, 1 the 99th."""
        prefix = self.prefix(batch)
        empty = (self.slots if slots is None else slots).expand(len(prefix), -1, -1)
        states = self.transformer(torch.cat([prefix, empty], 1))[:, prefix.shape[1] :]
        x = self.to_head(rearrange(states, "b (m a) d -> b m (a d)", m=self.facts.chunk)).relu()
        for block in self.head:
            x = x + block(x)
        return self.to_action(x)

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        middle, half = self._scale()
        target = ((batch["actions"] - middle) / torch.where(half > 0, half, 1.0)).clamp(-1, 1)
        error = (self.predict(batch) - target).abs()
        return {"loss": self.global_mean(error, torch.ones_like(error, dtype=torch.bool))}

    def plan(self, moments: Sequence[Moment], request: Any) -> list[Plan]:
        batch = self.batch_of(moments)
        made = self.predict(batch)
        self.evaluations += 1
        self.rounds += 1
        self.positions += len(moments) * (self.encoder.count + self.num_tokens)
        middle, half = self._scale()
        actions = (made.float().clamp(-1, 1) * half + middle).cpu().numpy()
        return [Plan(action, None, None, 1) for action in actions]

    def _scale(self) -> tuple[Tensor, Tensor]:
        """The middle of the percentiles and half of their distance, 0 where a number never changes."""
        low, high = (torch.tensor(v, device=self.device) for v in (self.facts.action_low, self.facts.action_high))
        return (low + high) / 2, (high - low) / 2
