"""Observation encoder: an instruction, a picture and the numbers of a state as the vectors that a policy begins with.

::

    words    ─ embedding ───────────────────────────┐
    picture  ─ conv, stride 2, × 3 ─ 4 × 4 vectors ─┼─ + place ─ [b, p, d]
    state    ─ each group: linear ─ SiLU ─ linear ──┤
    start    ─ one vector, which plans begin at ────┘

Shapes: b batch, p vectors, d channels, s numbers of the state, w words, h pixels of a side.
"""

from itertools import pairwise
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from unisono.nn.modules import Modules

from unisono_control.demonstrations.facts import ControlFacts

SMALLEST = 1e-6
"""Below it a standard deviation is that of a number which never changes, and is taken as 1."""


class ObservationEncoder(nn.Module):
    """See this module.

    Args:
        facts: what is observed, and its statistics.
        dim: channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, facts: ControlFacts, dim: int):
        super().__init__()
        std = torch.tensor(facts.state_std)
        self.register_buffer("mean", torch.tensor(facts.state_mean), persistent=False)
        self.register_buffer("std", torch.where(std > SMALLEST, std, 1.0), persistent=False)
        self.groups = facts.environment.groups
        self.words = nn.Embedding(len(facts.words) + 1, dim) if facts.max_words else None
        self.picture = picture_encoder(dim) if facts.environment.picture_size else None
        self.state = Modules(
            nn.Sequential(nn.Linear(size, dim), nn.SiLU(), nn.Linear(dim, dim)) for size in self.groups
        )
        self.start = nn.Parameter(torch.zeros(1, 1, dim))
        side = -(-facts.environment.picture_size // 8)
        self.count = facts.max_words + side * side + len(self.groups) + 1
        self.places = nn.Parameter(0.02 * torch.randn(self.count, dim))
        if self.words is not None:
            nn.init.normal_(self.words.weight, std=0.02)

    def forward(
        self,
        state: Float[Tensor, "b s"],
        words: Int[Tensor, "b w"] | None = None,
        picture: UInt8[Tensor, "b 3 h h"] | None = None,
    ) -> Float[Tensor, "b p d"]:
        """Return the vectors of observations, numbers of the state as they are and pictures in [0, 255]."""
        parts: list[Tensor] = []
        if self.words is not None:
            assert words is not None
            parts.append(self.words(words))
        if self.picture is not None:
            assert picture is not None
            seen = self.picture(picture.to(self.places.dtype) / 127.5 - 1)
            parts.append(rearrange(seen, "b d i j -> b (i j) d"))
        normal = ((state - self.mean) / self.std).to(self.places.dtype).split(self.groups, dim=1)
        parts += [read(group)[:, None] for read, group in zip(self.state, normal, strict=True)]
        parts.append(self.start.expand(len(state), 1, -1))
        return torch.cat(parts, 1) + self.places


def picture_encoder(dim: int) -> nn.Module:
    """Return three convolutions of stride 2; from 32 × 32 pixels to 4 × 4 vectors."""
    channels = (3, dim // 4, dim // 2, dim)
    layers: list[Any] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.SiLU()]
    return nn.Sequential(*layers[:-1])
