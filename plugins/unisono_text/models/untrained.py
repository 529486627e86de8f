"""Untrained language models: random weights, for tests and tiny recipes.

The weights are a function of the facts, so that two processes have the same.
"""

from typing import Any

import torch

from unisono_text.models.ar import Autoregressive
from unisono_text.models.sizes import TransformerSizes

SIZES = TransformerSizes(dim=16, num_layers=2, num_heads=2, filter_dim=32, dropout=0.0)


def base(facts: dict[str, Any]) -> Autoregressive:
    """A causal transformer of two layers of 16 channels, for the tokenizer of the facts."""
    model = Autoregressive(network=SIZES)
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        model.build(facts)
    return model.eval()
