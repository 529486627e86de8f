"""Sizes: the group of a model's ``model:`` section that says how large its network is."""

from dataclasses import dataclass
from typing import ClassVar

from unisono.nn.swiglu import LayerSizes


@dataclass(frozen=True, kw_only=True)
class NetworkSizes(LayerSizes):
    """Sizes of a transformer whose heads turn pairs of channels; ``filter_dim`` of its feed-forward, 0: 8/3 of
    ``dim``."""

    head_multiple: ClassVar[int] = 2
