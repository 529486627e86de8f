"""Ordered generator: what models share that predict each token of a picture from those before it, in any order.

Shapes: b batch, n tokens of a picture, v codes. An order is a permutation of the places, [b, n], first asked first.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from unisono.data import derive_seed
from unisono.masked import random
from unisono.nn.condition import Condition

from unisono_image.models.token_generator import TokenGenerator


class OrderedGenerator(TokenGenerator):
    """The base: training on random orders, and how likely a picture is in one."""

    def logits_in(
        self, tokens: Int[Tensor, "b n"], condition: Condition, order: Int[Tensor, "b n"], seeds: Sequence[int]
    ) -> Float[Tensor, "b n v"]:
        """Return what training compares with the tokens of an order; what else is drawn is of the items' seeds."""
        raise TypeError(f"{type(self).__name__} defines no logits_in()")

    def logits_one_by_one(
        self, tokens: Int[Tensor, "b n"], condition: Condition, order: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b n v"]:
        """Return the logits of each token of an order, from those before it."""
        raise TypeError(f"{type(self).__name__} defines no logits_one_by_one()")

    def orders(self, seeds: Sequence[int]) -> Int[Tensor, "b n"]:
        """Return a random order of the places for each seed."""
        seed = torch.tensor(list(seeds), dtype=torch.int64, device=self.device)
        places = torch.arange(self.num_tokens, device=self.device)
        return random.uniform(seed, torch.zeros_like(seed), places, random.CORRUPT).argsort(1)

    def token_losses(
        self, tokens: Int[Tensor, "b n"], condition: Condition, batch: dict[str, Any], seeds: list[int]
    ) -> dict[str, Tensor]:
        order = self.orders(seeds)
        target = tokens.gather(1, order)
        logits = self.logits_in(tokens, condition, order, seeds).float()
        every = torch.ones_like(target, dtype=torch.bool)
        right = (logits.argmax(-1) == target).float()
        loss = self.global_mean(surprise(logits, target), every)
        return {"loss": loss, "accuracy": self.global_mean(right, every).detach()}

    @torch.no_grad()
    def surprises(
        self, tokens: Int[Tensor, "b n"], condition: Condition, order: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b n"]:
        """Return −log p of each token given those before it in an order, in nats; their sum is the picture's own."""
        with self.layers_as_weights():
            logits = self.logits_one_by_one(tokens, condition, order)
        return surprise(logits.double(), tokens.gather(1, order))

    def nats_per_token(
        self, tokens: Int[Tensor, "b n"], condition: Condition, seeds: Sequence[int], num_orders: int = 1
    ) -> Float[Tensor, " b"]:
        """Return each picture's −log p per token in nats, the mean of some orders drawn from its seed.

        The mean of −log p over orders is at least −log of the mixture of all orders.
        """
        drawn = [self.orders([derive_seed(seed, "order", i) for seed in seeds]) for i in range(num_orders)]
        return torch.stack([self.surprises(tokens, condition, order).mean(1) for order in drawn]).mean(0)


def surprise(logits: Float[Tensor, "b n v"], target: Int[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Return −log p of tokens, in nats."""
    return F.cross_entropy(logits.transpose(1, 2), target, reduction="none")
