"""Untrained components: random weights, for tests and tiny recipes.

The weights are a function of nothing, so that two processes have the same.
"""

from typing import Any

import torch

from unisono_image.models.sizes import VAESizes
from unisono_image.models.token_sizes import GridSizes, QuantizerSpec
from unisono_image.models.tokenizer import Tokenizer
from unisono_image.models.vae import VAE


def vae(facts: dict[str, Any]) -> VAE:
    """Latents of 4 channels at half the side."""
    made = VAE(network=VAESizes(latent_channels=4, block_channels=(8, 16), layers_per_block=1, norm_groups=4))
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        made.build(facts)
    return made.eval()


def tokenizer(facts: dict[str, Any]) -> Tokenizer:
    """Tokens at half the side, of 16 codes; pictures of 8 pixels a side where nothing is known of the data."""
    made = Tokenizer(
        quantizer=QuantizerSpec(name="fsq", levels=(4, 4)),
        network=GridSizes(
            channels=8, multipliers=(1, 1), num_blocks=1, attention=False, latent_channels=8, norm_groups=4
        ),
    )
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        made.build({"size": facts.get("size", 8)})
    return made.eval()
