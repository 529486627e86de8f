"""Untrained codecs: random weights, for tests and tiny recipes.

The weights are a function of nothing, so that two processes have the same.
"""

from dataclasses import replace
from typing import Any

import torch
from unisono_sound.signal import MelSpec

from unisono_codec.codecs.frames import FrameSizes
from unisono_codec.codecs.rvq import CodebookSpec, GroupedCodec, ResidualCodec

SIZES = FrameSizes(
    dim=16, intermediate_dim=32, frame_blocks=1, token_blocks=1, head_dim=16, head_intermediate_dim=32, head_blocks=1
)
CODEBOOK = CodebookSpec(codebook_size=16, code_dim=4)


def rvq(facts: dict[str, Any]) -> ResidualCodec:
    """Three residual levels of 16 codes, 43 frames a second."""
    codec = ResidualCodec(frames=SIZES, latent_dim=8, codebook=replace(CODEBOOK, num_levels=3))
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        codec.build({"mel_spec": MelSpec().to_dict()})
    return codec.eval()


def grvq(facts: dict[str, Any]) -> GroupedCodec:
    """Two groups of two residual levels of 16 codes, 43 frames a second."""
    codec = GroupedCodec(num_groups=2, frames=SIZES, latent_dim=8, codebook=replace(CODEBOOK, num_levels=2))
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        codec.build({"mel_spec": MelSpec().to_dict()})
    return codec.eval()
