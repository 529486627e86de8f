"""Causal decoder: vertices one after the other, each in bins, under what is seen of picture and phrase.

Shapes: b batch, n vertices, t places that are computed, k cells of the picture, d channels, q bins.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.attention import attend, split_heads
from unisono.nn.modules import Modules
from unisono.nn.transformer import Block
from unisono.verify import KVCache

from unisono_outline.models.encoder import FREQUENCIES, Seen, waves
from unisono_outline.models.sizes import NetworkSizes


@dataclass
class Held:
    """What decoding keeps: keys and values of the vertices so far, and those of the picture, by the layer's number."""

    vertices: KVCache
    picture: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)


class CausalBlock(Block):
    """A `Block` with attention to the picture in which a place sees itself and those before."""

    def __init__(self, sizes: NetworkSizes):
        super().__init__(sizes.dim, sizes.num_heads, sizes.dropout, cross=True)

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "b t d"], cells: Float[Tensor, "b k d"], held: Held | None = None, number: int = 0
    ) -> Float[Tensor, "b t d"]:
        """With ``held``, x is the one place that follows those held; ``number`` is the layer's."""
        dropped = self.dropout.p if self.training else 0.0
        q, k, v = (split_heads(part, self.num_heads) for part in self.qkv(self.self_norm(x)).chunk(3, dim=-1))
        if held is not None:
            k, v = held.vertices.append(number, k, v)
        seen = attend(q, k, v, causal=held is None, dropout=dropped)
        x = x + self.dropout(self.self_out(seen))
        kept = None if held is None else held.picture.get(number)
        if kept is None:
            k, v = (split_heads(part, self.num_heads) for part in self.cross_kv(cells).chunk(2, dim=-1))
            kept = k, v
        if held is not None:
            held.picture[number] = kept
        q = split_heads(self.cross_q(self.cross_norm(x)), self.num_heads)
        x = x + self.dropout(self.cross_out(attend(q, *kept, dropout=dropped)))
        return x + self.dropout(self.feed_out(F.gelu(self.feed_in(self.feed_norm(x)))))


class CausalDecoder(nn.Module):
    """::

        vertex before ─ embeddings of x and y ─┐
        place along the line ─ waves, linear ──┼─ (+) ─ blocks ─ norm ─┬─ linear ─ bins of x
        sentence ──────────────────────────────┘                       └─ (+ embedding of x) ─ MLP ─ bins of y

    So a vertex is one evaluation: its y is drawn under its x by a small head.
    """

    def __init__(self, sizes: NetworkSizes, bins: int):
        super().__init__()
        dim = sizes.dim
        self.bins = bins
        self.before = Modules(nn.Embedding(bins, dim) for _ in range(2))
        self.start = nn.Parameter(0.02 * torch.randn(dim))
        self.along = nn.Linear(2 * FREQUENCIES, dim)
        self.blocks = Modules(CausalBlock(sizes) for _ in range(sizes.decoder_layers))
        self.norm = nn.LayerNorm(dim)
        self.to_x = nn.Linear(dim, bins)
        self.given_x = nn.Embedding(bins, dim)
        self.to_y = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, bins))
        for table in (*self.before, self.given_x):
            nn.init.normal_(table.weight, std=0.02)

    def forward(
        self, vertices: Int[Tensor, "b n 2"], seen: Seen
    ) -> tuple[Float[Tensor, "b n q"], Float[Tensor, "b n q"]]:
        """Return logits of x and of y of each vertex, under the true ones before it."""
        before = self.embedded(vertices[:, :-1])
        first = self.start.to(before.dtype).expand(len(before), 1, -1)
        hidden = self.hidden(torch.cat([first, before], 1), seen, vertices.shape[1])
        return self.to_x(hidden).float(), self.y_logits(hidden, vertices[..., 0])

    def hidden(
        self, before: Float[Tensor, "b t d"], seen: Seen, num_vertices: int, first: int = 0, held: Held | None = None
    ) -> Float[Tensor, "b t d"]:
        """Return the states of places from ``first`` on, of the embedded vertices before each."""
        place = torch.arange(first, first + before.shape[1], device=before.device)[:, None] / num_vertices
        y = before + self.along(waves(place)).to(before.dtype) + seen.sentence[:, None]
        for number, block in enumerate(self.blocks):
            y = block(y, seen.tokens, held, number)
        return self.norm(y)

    def embedded(self, vertices: Int[Tensor, "b t 2"]) -> Float[Tensor, "b t d"]:
        """Return the vectors of vertices in bins."""
        return self.before[0](vertices[..., 0]) + self.before[1](vertices[..., 1])

    def y_logits(self, hidden: Float[Tensor, "b t d"], x: Int[Tensor, "b t"]) -> Float[Tensor, "b t q"]:
        """Return logits of y under x."""
        return self.to_y(hidden + self.given_x(x)).float()
