"""Sizes: the groups of a ``music/band`` recipe's ``model:`` section."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class BandSizes:
    """Sizes of the network, BandControlNet's as published.

    dim, num_heads, dropout, expansion: of every layer; the feed-forward part is ``expansion`` times as wide.
    encoder_layers: of linear attention over each track's controls.
    bottom_layers, top_layers: of each track's decoder, below and above the exchange between tracks.
    cross_layers: of the exchange.
    own_weights: each track has an encoder and a decoder of its own, as published; else all share one, told apart by
        an embedding.
    same_bar: how much a word's attention to the controls of its own bar is raised at first; learnt for each head.
        0 as published, where the network has to find its bar by positions alone.
    """

    dim: int = 256
    num_heads: int = 8
    dropout: float = 0.1
    expansion: int = 4
    encoder_layers: int = 4
    bottom_layers: int = 3
    top_layers: int = 3
    cross_layers: int = 2
    own_weights: bool = True
    same_bar: float = 0.0


@dataclass(frozen=True, kw_only=True)
class CodeSizes:
    """Sizes of the bars' codes, BandControlNet's as published; ``num_groups`` of 0 makes none.

    num_groups, codebook_size: of the codes of a bar.
    code_dim: channels of a code.
    width: of the autoencoder's hidden layers.
    """

    num_groups: int = 8
    codebook_size: int = 1024
    code_dim: int = 64
    width: int = 512


Structure = Literal["product", "sum", "none"]
"""How similar bars attend to one another: ``product`` multiplies logits by the similarity, as published; ``sum`` adds
its logarithm."""
