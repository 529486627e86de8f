"""Streams: one network that reads its input P times, each time behind another learnt prefix, and mixes what comes out.

Chen et al., 2025, ParScale (arXiv:2505.10475), §3: a stream's prefix is keys and values of some places in every layer;
an MLP over the last states of all streams gives weights, smoothed so that none is 0; states are mixed by them. With one
stream there is neither prefix nor MLP: the network as it is.

::

    tokens ─ × P ─┬─ prefix 1 ─ network ─┬─ MLP ─ softmax ─ weights ─┐
                  ├─ prefix 2 ─ network ─┤                           ├─ Σ ─ head
                  └─ prefix P ─ network ─┴───────────────────────────┘

Shapes: b batch, p streams, t tokens, n places of a prefix, m keys, h heads, c channels of a head, d channels, v
vocabulary. Masks: True = keep.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.attention import attend
from unisono.nn.rotary import Rotation, rotate, rotation
from unisono.nn.tensor_plan import TensorPlan
from unisono.verify import KVCache

from unisono_branches.network.sight import Masked
from unisono_branches.network.sizes import NetworkSizes
from unisono_branches.network.transformer import Transformer


@dataclass(frozen=True, eq=False)
class Behind:
    """The sight of folded streams: each token sees its stream's prefix, which is turned to no position, and what the
    mask says; None: each what is not behind it."""

    places: Rotation
    keys: Float[Tensor, "l p h n c"]
    values: Float[Tensor, "l p h n c"]
    mask: Bool[Tensor, "b t m"] | None
    cache: KVCache | None = None
    dropout: float = 0.0

    def __call__(
        self,
        layer: int,
        queries: Float[Tensor, "pb h t c"],
        keys: Float[Tensor, "pb h t c"],
        values: Float[Tensor, "pb h t c"],
    ) -> Float[Tensor, "pb t hc"]:
        queries, keys = rotate(queries, self.places), rotate(keys, self.places)
        if self.cache is not None:
            keys, values = self.cache.append(layer, keys, values)
        p, n = self.keys.shape[1], self.keys.shape[3]
        b = len(queries) // p
        own_keys, own_values = (repeat(x[layer], "p h n c -> (p b) h n c", b=b) for x in (self.keys, self.values))
        keys, values = (torch.cat([own.to(x.dtype), x], 2) for own, x in ((own_keys, keys), (own_values, values)))
        mask = self.mask
        if mask is None:
            mask = torch.ones(queries.shape[2], queries.shape[2], dtype=torch.bool, device=queries.device).tril()[None]
        mask = F.pad(mask, (n, 0), value=True)
        mask = mask if len(mask) in (1, len(queries)) else repeat(mask, "b t m -> (p b) t m", p=p)
        return attend(queries, keys, values, mask[:, None], dropout=self.dropout)


class Streams(nn.Module):
    """A network in P streams.

    Args:
        vocabulary: tokens that are read and predicted.
        sizes: of the network.
        num_streams: P.
        prefix_length: places of a prefix; 48 as published.
        smoothing: of the weights: each stream has at least this share over P; 0.01 as published.
    """

    tensor_plan: ClassVar[TensorPlan] = TensorPlan(
        columns={}, rows=(), first=("first_head",), shared=("prefix_keys", "prefix_values")
    )

    def __init__(
        self,
        vocabulary: int,
        sizes: NetworkSizes,
        *,
        num_streams: int,
        prefix_length: int = 48,
        smoothing: float = 0.01,
    ):
        super().__init__()
        self.net = Transformer(vocabulary, sizes)
        self.num_streams, self.smoothing = num_streams, smoothing
        self.num_heads, self.first_head = sizes.num_heads, 0
        if num_streams > 1:
            shape = (sizes.num_layers, num_streams, sizes.num_heads, prefix_length, sizes.head_dim)
            self.prefix_keys = nn.Parameter(0.02 * torch.randn(shape))
            self.prefix_values = nn.Parameter(0.02 * torch.randn(shape))
            self.weigh_in = nn.Linear(num_streams * sizes.dim, sizes.dim)
            self.weigh_out = nn.Linear(sizes.dim, num_streams)

    def forward(
        self,
        tokens: Int[Tensor, "b t"],
        positions: Int[Tensor, "b t"] | Int[Tensor, " t"] | None = None,
        mask: Bool[Tensor, "b t m"] | None = None,
        cache: KVCache | None = None,
        dropout: float = 0.0,
    ) -> Float[Tensor, "b t v"]:
        """Return the logits of what follows each token.

        Positions count from 0 unless given. ``mask`` says what each token sees of all keys but those of prefixes; None:
        each what is not behind it. A ``cache`` has rows "(p b)".
        """
        states = self.states(tokens, positions, mask, cache, dropout)
        return self.net.head(self.mix(states))

    def states(
        self,
        tokens: Int[Tensor, "b t"],
        positions: Int[Tensor, "b t"] | Int[Tensor, " t"] | None = None,
        mask: Bool[Tensor, "b t m"] | None = None,
        cache: KVCache | None = None,
        dropout: float = 0.0,
    ) -> Float[Tensor, "p b t d"]:
        """Return the last states of each stream; arguments as in ``forward``."""
        p = self.num_streams
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)
        if positions.dim() == 2:
            positions = repeat(positions, "b t -> (p b) t", p=p)
        head_dim = self.net.sizes.head_dim
        if p == 1:
            return self.net.hidden(tokens, Masked.at(positions, head_dim, mask, cache, dropout))[None]
        places = rotation(positions, head_dim, device=tokens.device)
        own_heads = slice(self.first_head, self.first_head + self.num_heads)
        keys, values = self.prefix_keys[:, :, own_heads], self.prefix_values[:, :, own_heads]
        sight = Behind(places, keys, values, mask, cache, dropout)
        return rearrange(self.net.hidden(repeat(tokens, "b t -> (p b) t", p=p), sight), "(p b) t d -> p b t d", p=p)

    def weights(self, states: Float[Tensor, "p b t d"]) -> Float[Tensor, "p b t"]:
        """Return how much each stream counts; over the streams they sum to 1."""
        p = self.num_streams
        if p == 1:
            return states.new_ones(states.shape[:3])
        seen = F.silu(self.weigh_in(rearrange(states, "p b t d -> b t (p d)")))
        share = self.weigh_out(seen).float().softmax(-1)
        return rearrange(share * (1 - self.smoothing) + self.smoothing / p, "b t p -> p b t")

    def mix(self, states: Float[Tensor, "p b t d"]) -> Float[Tensor, "b t d"]:
        """Return the streams' states, mixed by their weights."""
        if self.num_streams == 1:
            return states[0]
        return (self.weights(states)[..., None].to(states.dtype) * states).sum(0)


class StreamCache:
    """A cache of folded streams, as `unisono.verify.Target` asks for it: it counts the rows of the batch, and keeps P
    for each."""

    def __init__(self, num_rows: int, num_streams: int, device: torch.device | str | None = None):
        self.length = torch.zeros(num_rows, dtype=torch.int64, device=device)
        self.folded = KVCache(num_rows * num_streams, device)
        self.num_streams = num_streams

    def advance(self, count: int) -> None:
        self.length = self.length + count
        self.folded.advance(count)

    def truncate(self, length: Int[Tensor, " b"]) -> None:
        self.length = torch.minimum(self.length, length)
        self.folded.truncate(length.repeat(self.num_streams))

    def select(self, start: Int[Tensor, " b"], path: Int[Tensor, "b d"]) -> None:
        self.folded.select(start.repeat(self.num_streams), path.repeat(self.num_streams, 1))
