"""Untrained: generators of picture tokens and a critic of random weights, for tests and tiny recipes.

The weights are a function of nothing, so that two processes have the same. Tokens are those of ``untrained:tokenizer``.
"""

from typing import Any

import torch
from unisono.nn.condition import ConditionSizes

from unisono_image.models.critic import Critic
from unisono_image.models.maskgit import MaskGIT
from unisono_image.models.maskgit_sizes import TokenNetSizes
from unisono_image.models.untrained import tokenizer

NETWORK = TokenNetSizes(dim=16, num_layers=1, num_heads=2, dropout=0.0)
CONDITION = ConditionSizes(dim=8, text_layers=1, text_heads=2)


def generator(facts: dict[str, Any]) -> MaskGIT:
    """A generator over the untrained tokenizer's tokens, with that tokenizer."""
    own = tokenizer(facts)
    made = MaskGIT(num_codes=own.num_codes, grid=own.grid[0], network=NETWORK, condition=CONDITION)
    _build(made, facts)
    named: Any = own
    named.builtin_name = "untrained"  # as if a recipe had named it
    made.attach("tokenizer", own)
    return made.eval()


def critic(facts: dict[str, Any]) -> Critic:
    """A critic of the untrained tokenizer's tokens."""
    own = tokenizer(facts)
    made = Critic(num_codes=own.num_codes, grid=own.grid[0], network=NETWORK, condition=CONDITION)
    _build(made, facts)
    return made.eval()


def _build(model: Any, facts: dict[str, Any]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        model.build(facts)
