"""Grouped decoder: tokens of a grid in groups, a group by queries that see one another (LPD, arXiv:2507.01957).

One transformer reads the condition, the tokens so far and a query for each token of the next group. A query is one
learnt vector and the learnt position of its place; tokens have the same table of positions.

::

                  class   tokens of group < i   tokens of i   queries of i       each row sees what is marked in it
    class           x
    a token of i    x              x                  x
    a query of i    x              x                                 x

No token sees a query, and nothing of a query is kept. In training all groups are done at once, tokens and queries side
by side, by this mask (`sight_of`).

Differences from the released code: each row has groups of its own, as it has an order of its own there, so that rows
of a batch need not agree. The last group's tokens are computed in training, too, though nobody reads them. Attention
has no dropout; the released code sets one and never uses it. A caption's words stand in front, beside the class.

Shapes: b batch, n places of the grid, w places in front, m computed positions, s layers, d channels, v codes. An order
is a permutation of the places; groups are numbered from 0 in its order. Masks: True = seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.errors import RecipeError
from unisono.masked import Memory, Part
from unisono.nn.attention import attend
from unisono.nn.condition import Condition
from unisono.nn.layers import as_weights
from unisono.nn.modules import Modules

from unisono_image.anyorder.front import Front
from unisono_image.anyorder.parts import asked_of, known_of, sight
from unisono_image.anyorder.two_pass import STD, both
from unisono_image.models.maskgit_sizes import check_range


@dataclass(frozen=True, kw_only=True)
class GroupedSizes:
    """Sizes of the grouped decoder.

    dim, num_layers, num_heads: published, L: 1024, 24, 16; XL: 1280, 36, 20; XXL: 1536, 48, 24.
    dropout: of what layers add (published: 0.1).
    """

    dim: int = 1024
    num_layers: int = 24
    num_heads: int = 16
    dropout: float = 0.1

    def __post_init__(self):
        for name in ("dim", "num_layers", "num_heads"):
            check_range(f"network.{name}", getattr(self, name), 1)
        check_range("network.dropout", self.dropout, 0, 1)
        if self.dim % self.num_heads:
            raise RecipeError(
                f"model.network.dim={self.dim} must be a multiple of num_heads={self.num_heads}",
                code="shape",
                path="model.network.dim",
                value=self.dim,
            )


class Layer(nn.Module):
    """Self-attention and a feed-forward with GELU, each added to what went in."""

    def __init__(self, sizes: GroupedSizes):
        super().__init__()
        dim, self.num_heads = sizes.dim, sizes.num_heads
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.feed_norm = nn.LayerNorm(dim, eps=1e-6)
        self.feed_in = nn.Linear(dim, 4 * dim)
        self.feed_out = nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(
        self,
        x: Float[Tensor, "b m d"],
        mask: Bool[Tensor, "b 1 #m j"] | None = None,
        kept: Float[Tensor, "b k 2 d"] | None = None,
    ) -> tuple[Float[Tensor, "b m d"], Float[Tensor, "b m 2 d"]]:
        """Return the layer's output, and its own keys and values; ``kept`` ones come before these."""
        q, own = self.qkv(self.norm(x)).split([x.shape[-1], 2 * x.shape[-1]], -1)
        own = own.unflatten(-1, (2, -1))
        k, v = both(own if kept is None else torch.cat([kept, own], 1), self.num_heads)
        q = q.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        x = x + self.dropout(self.out(attend(q, k, v, mask)))
        return x + self.dropout(self.feed_out(self.dropout(F.gelu(self.feed_in(self.feed_norm(x)))))), own


class Grouped(nn.Module):
    """See the module.

    Args:
        num_codes: tokens there are, v.
        num_places: of the grid, n.
        condition_dim, with_words: of what is in front (`Front`).
    """

    def __init__(
        self, sizes: GroupedSizes, num_codes: int, num_places: int, condition_dim: int, with_words: bool = False
    ):
        super().__init__()
        self.sizes = sizes
        self.front = Front(condition_dim, sizes.dim, with_words)
        self.tokens = nn.Embedding(num_codes, sizes.dim)
        self.asking = nn.Parameter(torch.empty(sizes.dim))
        self.places = nn.Embedding(num_places + 1, sizes.dim)  # the last one is the class's
        self.places_norm = nn.LayerNorm(sizes.dim, eps=1e-6)
        self.layers = Modules(Layer(sizes) for _ in range(sizes.num_layers))
        self.norm = nn.LayerNorm(sizes.dim, eps=1e-6)
        self.head = nn.Linear(sizes.dim, num_codes, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=STD)
        nn.init.normal_(self.asking, std=STD)

    def forward(
        self,
        tokens: Int[Tensor, "b n"],
        condition: Condition,
        order: Int[Tensor, "b n"],
        groups: Int[Tensor, "b n"],
    ) -> Float[Tensor, "b n v"]:
        """Return the logits of each token from the groups before its own: ``[:, i]`` are of place ``order[:, i]``.

        ``groups`` are those of the order's places, rising from 0.
        """
        read = self.read(self.tokens(tokens.gather(1, order)), order)
        asked = self.read(self.asking.expand_as(read), order)
        front, there = self.in_front(condition)
        x = torch.cat([front, read, asked], 1)
        mask = sight_of(groups, there)[:, None]
        for layer in self.layers:
            x, _ = layer(x, mask)
        return self.head(self.norm(x[:, -order.shape[1] :]))

    def read(self, x: Float[Tensor, "b m d"], places: Int[Tensor, "b m"]) -> Float[Tensor, "b m d"]:
        """Return vectors at their places, as the first layer takes them."""
        return self.places_norm(x + self.places(places))

    def in_front(self, condition: Condition) -> tuple[Float[Tensor, "b w d"], Bool[Tensor, "b w"]]:
        """Return what is in front, as the first layer takes it, and what of it is there."""
        x, there = self.front(condition)
        return self.read(x, torch.full(there.shape, self.places.num_embeddings - 1, device=x.device)), there

    def begin(self, condition: Condition) -> tuple[Float[Tensor, "b w s 2 d"], Bool[Tensor, "b w"]]:
        """Return the keys and values of what is in front, which sees itself alone, and what of it is there."""
        with as_weights(self.head.weight):
            (x, there), kept = self.in_front(condition), []
            for layer in self.layers:
                x, own = layer(x, there[:, None, None])
                kept.append(own)
            return torch.stack(kept, 2), there


class GroupedView:
    """The network under conditions and groups, as `unisono.masked.Cached` computes it in parts.

    ``groups`` says of each place in which group its token is asked for; places that are given count for nothing.
    """

    def __init__(
        self,
        net: Grouped,
        start: tuple[Float[Tensor, "b w s 2 d"], Bool[Tensor, "b w"]],
        groups: Int[Tensor, "b l"],
    ):
        self.net, (self.start, self.there), self.groups = net, start, groups

    def empty(self, batch: int, length: int, device: torch.device) -> Float[Tensor, "b l s 2 d"]:
        return self.start.new_zeros(batch, length, *self.start.shape[2:])

    def __call__(self, part: Part, memory: Memory) -> tuple[Float[Tensor, "b k v"], Float[Tensor, "b k s 2 d"]]:
        with as_weights(self.net.head.weight):
            return self.compute(part, memory)

    def compute(self, part: Part, memory: Memory) -> tuple[Float[Tensor, "b k v"], Float[Tensor, "b k s 2 d"]]:
        """Return the logits of what is asked for, NaN elsewhere, and keys and values of what is known."""
        net, known, asked = self.net, known_of(part), asked_of(part)
        b, m, k = len(part.sites), known.count, asked.count
        x = torch.cat(
            [
                net.read(net.tokens(part.tokens.gather(1, known.index)), known.sites),
                net.read(net.asking.expand(b, k, -1), asked.sites),
            ],
            1,
        )
        before, beside = sight(known, memory, one_by_one=False)
        group = self.groups.gather(1, asked.sites)
        # A place that is asked for only to fill up the row is of a later group: it is seen by none that counts.
        together = asked.live[:, None] & (group[:, None] == group[:, :, None])
        there = torch.cat([memory.valid, known.live], 1)[:, None].expand(-1, k, -1)
        mask = torch.cat(
            [
                torch.cat([before, beside, beside.new_zeros(b, m, k)], 2),
                torch.cat([there, together], 2),
            ],
            1,
        )
        mask = torch.cat([self.there[:, None].expand(-1, m + k, -1), mask], 2)[:, None]
        made = []
        for number, layer in enumerate(net.layers):
            x, own = layer(x, mask, torch.cat([self.start[:, :, number], memory.kv[:, :, number]], 1))
            made.append(own[:, :m])
        fresh = torch.stack(made, 2)
        logits = net.head(net.norm(x[:, m:])).float()
        wide = part.sites.shape
        nothing = logits.new_full((*wide, logits.shape[-1]), torch.nan)
        return asked.spread(logits, nothing), known.spread(fresh, fresh.new_zeros(*wide, *fresh.shape[2:]))

    def rows(self, index: Int[Tensor, " k"]) -> GroupedView:
        return GroupedView(self.net, (self.start[index], self.there[index]), self.groups[index])


def sight_of(groups: Int[Tensor, "b n"], there: Bool[Tensor, "b w"]) -> Bool[Tensor, "b t t"]:
    """Return who sees whom among what is ``there`` in front, tokens and queries of these groups; t = w + 2 · n."""
    n = groups.shape[1]
    ahead = torch.full(there.shape, -1, device=groups.device)
    of_group, mine = torch.cat([ahead, groups], 1)[:, None], groups[:, :, None]
    is_there = torch.cat([there, torch.ones_like(groups, dtype=torch.bool)], 1)[:, None]
    reading = torch.cat([ahead, groups], 1)[:, :, None]
    read = (of_group <= reading) & is_there
    asked = torch.cat([(of_group < mine) & is_there, groups[:, None] == mine], 2)
    return torch.cat([torch.cat([read, read.new_zeros(*read.shape[:2], n)], 2), asked], 1)
