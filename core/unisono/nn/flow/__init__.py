"""Flows: invertible layers with known determinants, for sequences of any kind.

layer.py      what a layer does
norm.py       ActNorm
mixing.py     invertible matrices over groups of channels
coupling.py   affine coupling
gated.py      a network for couplings: WaveNet's, not causal
squeeze.py    neighbouring places as channels
sequence.py   layers in order
"""

from unisono.nn.flow.coupling import AffineCoupling
from unisono.nn.flow.gated import GatedNet, GatedSizes
from unisono.nn.flow.layer import FlowLayer
from unisono.nn.flow.mixing import InvertibleMixing
from unisono.nn.flow.norm import ActNorm
from unisono.nn.flow.sequence import FlowSequence
from unisono.nn.flow.squeeze import completed, squeeze, unsqueeze

__all__ = [
    "ActNorm",
    "AffineCoupling",
    "FlowLayer",
    "FlowSequence",
    "GatedNet",
    "GatedSizes",
    "InvertibleMixing",
    "completed",
    "squeeze",
    "unsqueeze",
]
