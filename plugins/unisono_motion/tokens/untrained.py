"""Untrained tokenizers: random weights, for tests and tiny recipes; what they decode is no usable motion.

The weights are drawn from a fixed seed, so that two processes have the same.
"""

from dataclasses import replace
from typing import Any

import torch

from unisono_motion.tokens.sizes import CodebookSizes, ConvSizes
from unisono_motion.tokens.tokenizer import MotionTokenizer, PartsMotionTokenizer

NETWORK = ConvSizes(width=16, downsampling=4, depth=2, dilation_growth=2)
CODEBOOK = CodebookSizes(code_dim=8, codebook_size=16)


def _built(tokenizer: MotionTokenizer, facts: dict[str, Any]) -> MotionTokenizer:
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        tokenizer.build({name: facts[name] for name in ("motion", "mean", "std")})
    return tokenizer.eval()


def whole(facts: dict[str, Any]) -> MotionTokenizer:
    """One codebook of 16."""
    return _built(MotionTokenizer(network=NETWORK, codebook=CODEBOOK), facts)


def parts(facts: dict[str, Any]) -> MotionTokenizer:
    """A codebook of 16 each for lower and upper body."""
    return _built(PartsMotionTokenizer(network=NETWORK, codebook=CODEBOOK), facts)


def levels(facts: dict[str, Any]) -> MotionTokenizer:
    """Three residual levels of 16."""
    return _built(MotionTokenizer(network=NETWORK, codebook=replace(CODEBOOK, num_levels=3)), facts)
