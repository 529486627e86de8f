"""Two-pass decoder: tokens of a grid in any order, by queries turned to where they ask (ARPG, arXiv:2503.10568).

The first pass reads the condition and the tokens so far, each seeing itself and those before it. One projection makes
keys and values of what it knows, for all layers of the second pass, where queries look at them: a query is one learnt
vector, and only the turn of its place tells where it asks. Queries do not see one another and leave nothing behind, so
any number of places can be asked at once, and keys and values are written once, when a token is settled.

::

    class, x_s1, x_s2, …  ─ embedding ─ [norm ─ causal attention ─(+)─ norm ─ SwiGLU ─(+)] × half
                                                     │
                                              norm ─ keys, values
                                                     │
    one vector, turned to s1, s2, …  ─ [norm ─ attention to them ─(+)─ norm ─ SwiGLU ─(+)] × half ─ norm ─ logits

Differences from the released code: the class has no place, so its key is not turned, as that of row 0 and column 0 is
not; there it is multiplied by 0, so that each query's product with it is 0 whatever the class says. A caption's words
stand in front as well, beside the class. What tokens of one step see of one another is a choice (`View`): in training,
each sees its earlier ones; the released sampler lets all of a step see one another.

Shapes: b batch, n places of the grid, w places in front, m tokens or queries, s layers whose keys and values are kept
(the first pass and the bridge), d channels, v codes. An order is a permutation of the places, first asked first. Masks:
True = seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.errors import RecipeError
from unisono.masked import Memory, Part
from unisono.nn.attention import attend, split_heads
from unisono.nn.condition import Condition
from unisono.nn.layers import as_weights
from unisono.nn.modules import Modules
from unisono.nn.rotary import Rotation, rotate, rotation

from unisono_image.anyorder.front import Front
from unisono_image.anyorder.parts import asked_of, known_of, sight
from unisono_image.models.maskgit_sizes import check_range

STD = 0.02


@dataclass(frozen=True, kw_only=True)
class TwoPassSizes:
    """Sizes of the two-pass decoder.

    dim, num_layers, num_heads: published, L: 1024, 24, 16; XL: 1280, 36, 20; XXL: 1536, 48, 24. Half of the layers are
        the first pass, half the second. ``dim`` is a multiple of four times ``num_heads``.
    dropout: of embeddings and of what layers add (published: 0.1).
    filter_multiple: the feed-forward's width is the multiple of it at or above 8/3 of ``dim`` (published: 256).
    """

    dim: int = 1024
    num_layers: int = 24
    num_heads: int = 16
    dropout: float = 0.1
    filter_multiple: int = 256

    def __post_init__(self):
        for name in ("dim", "num_layers", "num_heads", "filter_multiple"):
            check_range(f"network.{name}", getattr(self, name), 1)
        check_range("network.dropout", self.dropout, 0, 1)
        if self.num_layers % 2:
            raise RecipeError(
                f"model.network.num_layers={self.num_layers} must be even: half of the layers are of each pass",
                code="value",
                path="model.network.num_layers",
                value=self.num_layers,
            )
        if self.dim % (4 * self.num_heads):
            raise RecipeError(
                f"model.network.dim={self.dim} must be a multiple of 4 × num_heads={self.num_heads}: a head turns by "
                "rows and by columns",
                code="shape",
                path="model.network.dim",
                value=self.dim,
            )

    @property
    def filter_dim(self) -> int:
        """Channels inside the feed-forward."""
        return -(-(8 * self.dim // 3) // self.filter_multiple) * self.filter_multiple


class FeedForward(nn.Module):
    """SwiGLU (arXiv:2002.05202): SiLU(a)·b, of two projections."""

    def __init__(self, sizes: TwoPassSizes):
        super().__init__()
        self.feed_in = nn.Linear(sizes.dim, 2 * sizes.filter_dim, bias=False)
        self.feed_out = nn.Linear(sizes.filter_dim, sizes.dim, bias=False)

    def forward(self, x: Float[Tensor, "b m d"]) -> Float[Tensor, "b m d"]:
        gate, value = self.feed_in(x).chunk(2, dim=-1)
        return self.feed_out(F.silu(gate) * value)


class FirstLayer(nn.Module):
    """Self-attention and a feed-forward, each added to what went in."""

    def __init__(self, sizes: TwoPassSizes):
        super().__init__()
        self.num_heads = sizes.num_heads
        self.norm = nn.RMSNorm(sizes.dim, eps=1e-5)
        self.qkv = nn.Linear(sizes.dim, 3 * sizes.dim, bias=False)
        self.out = nn.Linear(sizes.dim, sizes.dim, bias=False)
        self.feed_norm = nn.RMSNorm(sizes.dim, eps=1e-5)
        self.feed = FeedForward(sizes)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(
        self,
        x: Float[Tensor, "b m d"],
        turn: Rotation,
        kept: Float[Tensor, "b k 2 d"] | None = None,
        mask: Bool[Tensor, "b 1 #m j"] | None = None,
    ) -> tuple[Float[Tensor, "b m d"], Float[Tensor, "b m 2 d"]]:
        """Return the layer's output, and its own keys and values; ``kept`` ones come before these.

        Without a mask, each sees itself and those before it.
        """
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        q, k = (rotate(split_heads(part, self.num_heads), turn) for part in (q, k))
        own = torch.stack([k.transpose(1, 2).flatten(2), v], 2)
        k, v = both(own if kept is None else torch.cat([kept, own], 1), self.num_heads)
        x = x + self.dropout(self.out(attend(q, k, v, mask, causal=mask is None)))
        return x + self.dropout(self.feed(self.feed_norm(x))), own


class SecondLayer(nn.Module):
    """Attention to the shared keys and values, and a feed-forward, each added to what went in."""

    def __init__(self, sizes: TwoPassSizes):
        super().__init__()
        self.num_heads = sizes.num_heads
        self.norm = nn.RMSNorm(sizes.dim, eps=1e-5)
        self.query = nn.Linear(sizes.dim, sizes.dim, bias=False)
        self.out = nn.Linear(sizes.dim, sizes.dim, bias=False)
        self.feed_norm = nn.RMSNorm(sizes.dim, eps=1e-5)
        self.feed = FeedForward(sizes)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(
        self,
        x: Float[Tensor, "b m d"],
        turn: Rotation,
        keys: Float[Tensor, "b h k c"],
        values: Float[Tensor, "b h k c"],
        mask: Bool[Tensor, "b 1 #m k"] | None = None,
    ) -> Float[Tensor, "b m d"]:
        """Return the layer's output. Without a mask, query i sees the first i + 1 keys: the class and i tokens."""
        q = rotate(split_heads(self.query(self.norm(x)), self.num_heads), turn)
        x = x + self.dropout(self.out(attend(q, keys, values, mask, causal=mask is None)))
        return x + self.dropout(self.feed(self.feed_norm(x)))


class TwoPass(nn.Module):
    """See the module.

    Args:
        num_codes: tokens there are, v.
        grid: rows and columns; n is their product.
        condition_dim, with_words: of what is in front (`Front`).
    """

    def __init__(
        self, sizes: TwoPassSizes, num_codes: int, grid: tuple[int, int], condition_dim: int, with_words: bool = False
    ):
        super().__init__()
        self.sizes, self.grid = sizes, grid
        self.front = Front(condition_dim, sizes.dim, with_words)
        self.tokens = nn.Embedding(num_codes, sizes.dim)
        self.asking = nn.Parameter(torch.empty(sizes.dim))
        self.first = Modules(FirstLayer(sizes) for _ in range(sizes.num_layers // 2))
        self.bridge_norm = nn.RMSNorm(sizes.dim, eps=1e-5)
        self.bridge = nn.Linear(sizes.dim, 2 * sizes.dim, bias=False)
        self.second = Modules(SecondLayer(sizes) for _ in range(sizes.num_layers // 2))
        self.norm = nn.RMSNorm(sizes.dim, eps=1e-5)
        self.head = nn.Linear(sizes.dim, num_codes, bias=False)
        self.dropout = nn.Dropout(sizes.dropout)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=STD)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.asking, std=STD)
        nn.init.zeros_(self.head.weight)

    def forward(
        self, tokens: Int[Tensor, "b n"], condition: Condition, order: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b n v"]:
        """Return the logits of each token from those before it: ``[:, i]`` are of place ``order[:, i]``."""
        front, there = self.front(condition)
        b, w = there.shape
        read = order[:, :-1]
        turn = self.turn(torch.cat([torch.full((b, w), self.start_place, device=order.device), read], 1))
        x = self.dropout(torch.cat([front, self.tokens(tokens.gather(1, read)).to(front.dtype)], 1))
        seen = None if w == 1 else behind(there, x.shape[1])
        for layer in self.first:
            x, _ = layer(x, turn, mask=seen)
        keys, values = both(self.shared(x, turn), self.sizes.num_heads)
        if seen is not None:
            seen = seen[:, :, w - 1 :]  # what the last in front sees, and each token but the last
        queries, asked = self.asking.expand(*order.shape, -1), self.turn(order)
        for layer in self.second:
            queries = layer(queries, asked, keys, values, seen)
        return self.head(self.norm(queries))

    def shared(self, x: Float[Tensor, "b m d"], turn: Rotation) -> Float[Tensor, "b m 2 d"]:
        """Return the keys and values that all layers of the second pass read."""
        k, v = self.bridge(self.bridge_norm(x)).chunk(2, dim=-1)
        k = rotate(split_heads(k, self.sizes.num_heads), turn)
        return torch.stack([k.transpose(1, 2).flatten(2), v], 2)

    def turn(self, places: Int[Tensor, "b m"]) -> Rotation:
        """Return how heads turn at places, by the row in one half and the column in the other.

        ``start_place`` is what is in front: it turns as row 0 and column 0 do, not at all.
        """
        rows, columns = places // self.grid[1], places % self.grid[1]
        inside, half = places < self.start_place, self.sizes.dim // self.sizes.num_heads // 2
        turns = [rotation(number * inside, half, device=places.device) for number in (rows, columns)]
        return Rotation(*(torch.cat(list(parts), -1) for parts in zip(*turns, strict=True)))

    @property
    def start_place(self) -> int:
        return self.grid[0] * self.grid[1]

    def begin(self, condition: Condition) -> tuple[Float[Tensor, "b w s 2 d"], Bool[Tensor, "b w"]]:
        """Return the keys and values of what is in front, which sees itself alone, and what of it is there."""
        with as_weights(self.head.weight):
            x, there = self.front(condition)
            turn, kept = self.turn(torch.full(there.shape, self.start_place, device=x.device)), []
            for layer in self.first:
                x, own = layer(x, turn, mask=there[:, None, None])
                kept.append(own)
            return torch.stack([*kept, self.shared(x, turn)], 2), there


class View:
    """The network under conditions, as `unisono.masked.Cached` computes it in parts.

    ``one_by_one``: tokens of one step see those of them at earlier places, as trained; else all of them.
    """

    def __init__(
        self, net: TwoPass, start: tuple[Float[Tensor, "b w s 2 d"], Bool[Tensor, "b w"]], one_by_one: bool = True
    ):
        self.net, (self.start, self.there), self.one_by_one = net, start, one_by_one

    def empty(self, batch: int, length: int, device: torch.device) -> Float[Tensor, "b l s 2 d"]:
        return self.start.new_zeros(batch, length, *self.start.shape[2:])

    def __call__(self, part: Part, memory: Memory) -> tuple[Float[Tensor, "b k v"], Float[Tensor, "b k s 2 d"]]:
        with as_weights(self.net.head.weight):
            return self.compute(part, memory)

    def compute(self, part: Part, memory: Memory) -> tuple[Float[Tensor, "b k v"], Float[Tensor, "b k s 2 d"]]:
        """Return the logits of what is asked for, NaN elsewhere, and keys and values of what is known."""
        net, known, asked = self.net, known_of(part), asked_of(part)
        fresh = self.start.new_zeros(*known.index.shape, *self.start.shape[2:])
        if known.count:
            turn = net.turn(known.sites)
            x = net.tokens(part.tokens.gather(1, known.index))
            front = self.there[:, None].expand(-1, known.count, -1)
            mask = torch.cat([front, *sight(known, memory, self.one_by_one)], 2)
            made = []
            for number, layer in enumerate(net.first):
                kept = torch.cat([self.start[:, :, number], memory.kv[:, :, number]], 1)
                x, own = layer(x, turn, kept, mask[:, None])
                made.append(own)
            fresh = torch.stack([*made, net.shared(x, turn)], 2)
        b, k = part.sites.shape
        logits = torch.full((b, k, net.head.out_features), torch.nan, device=fresh.device)
        if asked.count:
            keys, values = both(
                torch.cat([self.start[:, :, -1], memory.kv[:, :, -1], fresh[:, :, -1]], 1), net.sizes.num_heads
            )
            seen = torch.cat([self.there, memory.valid, known.live], 1)[:, None, None]
            turn, queries = net.turn(asked.sites), net.asking.expand(b, asked.count, -1)
            for layer in net.second:
                queries = layer(queries, turn, keys, values, seen)
            logits = asked.spread(net.head(net.norm(queries)).float(), logits)
        return logits, known.spread(fresh, fresh.new_zeros(b, k, *fresh.shape[2:]))

    def rows(self, index: Int[Tensor, " k"]) -> View:
        return View(self.net, (self.start[index], self.there[index]), self.one_by_one)


def behind(there: Bool[Tensor, "b w"], length: int) -> Bool[Tensor, "b 1 t t"]:
    """Return who sees whom: all what is there in front, and tokens behind it themselves and those before them."""
    b, w = there.shape
    seen = torch.ones(length, length, dtype=torch.bool, device=there.device).tril()
    seen = torch.cat([there[:, None].expand(b, length, w), seen[:, w:].expand(b, length, length - w)], 2)
    return seen[:, None]


def both(kept: Float[Tensor, "b k 2 d"], num_heads: int) -> tuple[Float[Tensor, "b h k c"], Float[Tensor, "b h k c"]]:
    """Return keys and values in heads."""
    return split_heads(kept[:, :, 0], num_heads), split_heads(kept[:, :, 1], num_heads)
