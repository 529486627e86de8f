"""Layers: weights of each track's own, evaluated at once; linear attention, and attention by structure.

Shapes: k tracks, g sets of weights (k, or 1 that all tracks share), n pieces, t words, m keys, s bars, h heads,
c channels of one head, d channels; ``r`` rows are k · n. Masks are True where a key may be seen.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.attention import attend, split_heads, split_parts
from unisono.nn.rotary import Rotation, rotate


class TrackLinear(nn.Module):
    """A linear layer for each track."""

    def __init__(self, sets: int, features_in: int, features_out: int, bias: bool = True):
        super().__init__()
        bound = 1 / math.sqrt(features_in)
        self.weight = nn.Parameter(torch.empty(sets, features_in, features_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(sets, 1, features_out)) if bias else None

    def forward(self, x: Float[Tensor, "k n t i"]) -> Float[Tensor, "k n t o"]:
        flat = rearrange(x, "k n t i -> k (n t) i")
        made = flat @ self.weight
        return (made if self.bias is None else made + self.bias).unflatten(1, x.shape[1:3])


class TrackNorm(nn.Module):
    """A LayerNorm for each track."""

    def __init__(self, sets: int, dim: int):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(sets, 1, 1, dim))
        self.bias = nn.Parameter(torch.zeros(sets, 1, 1, dim))

    def forward(self, x: Float[Tensor, "k n t d"]) -> Float[Tensor, "k n t d"]:
        return F.layer_norm(x, x.shape[-1:]) * self.gain + self.bias


class TrackEmbedding(nn.Module):
    """A table of vectors for each track; as large as the codes of places that are added to them, or nothing is learnt
    of words for hundreds of steps."""

    def __init__(self, sets: int, count: int, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(sets, count, dim))

    def forward(self, ids: Int[Tensor, "k *n"]) -> Float[Tensor, "k *n d"]:
        track = torch.arange(len(ids), device=ids.device).clamp(max=len(self.weight) - 1)
        return self.weight[track.view(-1, *[1] * (ids.dim() - 1)), ids]


@dataclass(frozen=True, eq=False)
class Seen:
    """What words see of words: a mask, and the similarity of their bars.

    mask: [r, 1, t, m].
    factor: multiplies the logits; None for 1.
    term: is added to them; None for 0.
    """

    mask: Bool[Tensor, "r 1 t m"]
    factor: Float[Tensor, "r 1 t m"] | None = None
    term: Float[Tensor, "r 1 t m"] | None = None


def attend_by_structure(
    q: Float[Tensor, "r h t c"],
    k: Float[Tensor, "r h m c"],
    v: Float[Tensor, "r h m c"],
    seen: Seen,
    dropout: float = 0.0,
) -> Float[Tensor, "r t hc"]:
    """Return what each query sees, its logits multiplied by ``factor`` or raised by ``term`` before the softmax."""
    if seen.factor is None and seen.term is None:
        return attend(q, k, v, seen.mask, dropout=dropout)
    logits = q @ k.mT / math.sqrt(q.shape[-1])
    if seen.factor is not None:
        logits = logits * seen.factor
    if seen.term is not None:
        logits = logits + seen.term
    weights = logits.masked_fill(~seen.mask, -math.inf).softmax(-1)
    return rearrange(F.dropout(weights, dropout, dropout > 0) @ v, "r h t c -> r t (h c)")


def attend_linearly(
    q: Float[Tensor, "r h t c"],
    k: Float[Tensor, "r h m c"],
    v: Float[Tensor, "r h m c"],
    kept: Bool[Tensor, "r m"],
) -> Float[Tensor, "r t hc"]:
    """Return attention whose weights are products of elu + 1 (Katharopoulos et al., arXiv:2006.16236), each to all."""
    q, k = F.elu(q) + 1, (F.elu(k) + 1) * kept[:, None, :, None]
    total = (q * k.sum(2, keepdim=True)).sum(-1, keepdim=True)
    return rearrange(q @ (k.mT @ v) / total.clamp(min=1e-6), "r h t c -> r t (h c)")


class Memory(Protocol):
    """What keeps keys and values; `unisono.verify.KVCache` is one."""

    def append(
        self, layer: int, key: Float[Tensor, "r h t c"], value: Float[Tensor, "r h t c"]
    ) -> tuple[Float[Tensor, "r h m c"], Float[Tensor, "r h m c"]]:
        """Take a layer's new keys and values, and return all that it attends to."""
        ...


@dataclass(frozen=True, eq=False)
class Controls:
    """What a decoder layer knows of each track's controls.

    memory: as the encoder left them.
    own: whether a control is of the bar that a word is in.
    kept: controls of bars that a piece has.
    pair: the layer's keys and values of them, where they are known.
    """

    memory: Float[Tensor, "k n m d"]
    own: Bool[Tensor, "r t m"]
    kept: Bool[Tensor, "r m"]
    pair: tuple[Float[Tensor, "r h m c"], Float[Tensor, "r h m c"]] | None = None


class FeedForward(nn.Module):
    """Norm, linear, GELU, linear."""

    def __init__(self, sets: int, dim: int, expansion: int):
        super().__init__()
        self.norm = TrackNorm(sets, dim)
        self.wide = TrackLinear(sets, dim, expansion * dim)
        self.out = TrackLinear(sets, expansion * dim, dim)

    def forward(self, x: Float[Tensor, "k n t d"]) -> Float[Tensor, "k n t d"]:
        return self.out(F.gelu(self.wide(self.norm(x))))


class EncoderLayer(nn.Module):
    """Linear attention over the controls of all bars, and a feed-forward part, each added to what went in."""

    def __init__(self, sets: int, dim: int, num_heads: int, expansion: int, dropout: float):
        super().__init__()
        self.num_heads = num_heads
        self.norm = TrackNorm(sets, dim)
        self.qkv = TrackLinear(sets, dim, 3 * dim)
        self.attention_out = TrackLinear(sets, dim, dim)
        self.feed_forward = FeedForward(sets, dim, expansion)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "k n t d"], kept: Bool[Tensor, "r t"]) -> Float[Tensor, "k n t d"]:
        q, k, v = split_parts(self.qkv(self.norm(x)).flatten(0, 1), self.num_heads)
        seen = attend_linearly(q, k, v, kept).unflatten(0, x.shape[:2])
        x = x + self.dropout(self.attention_out(seen))
        return x + self.dropout(self.feed_forward(x))


class DecoderLayer(nn.Module):
    """Self-attention by structure, attention to the controls, feed-forward; each added to what went in.

    ::

        x ─┬─ norm ─ self-attention ─(+)─┬─ norm ─ attention to controls ─(+)─┬─ feed-forward ─(+)─
           └─────────────────────────┘   └────────────────────────────────┘   └────────────────┘

    Without controls (``same_bar`` None) the middle part is absent; so are positions where none are given.
    """

    def __init__(
        self, sets: int, dim: int, num_heads: int, expansion: int, dropout: float, same_bar: float | None = None
    ):
        super().__init__()
        self.num_heads = num_heads
        self.norm = TrackNorm(sets, dim)
        self.qkv = TrackLinear(sets, dim, 3 * dim)
        self.attention_out = TrackLinear(sets, dim, dim)
        self.controlled = same_bar is not None
        if same_bar is not None:
            self.cross_norm = TrackNorm(sets, dim)
            self.cross_q = TrackLinear(sets, dim, dim)
            self.cross_kv = TrackLinear(sets, dim, 2 * dim)
            self.cross_out = TrackLinear(sets, dim, dim)
            self.same_bar = nn.Parameter(torch.full((sets, 1, num_heads, 1, 1), same_bar))
        self.feed_forward = FeedForward(sets, dim, expansion)
        self.dropout = nn.Dropout(dropout)

    def remember(self, memory: Float[Tensor, "k n m d"]) -> tuple[Float[Tensor, "r h m c"], Float[Tensor, "r h m c"]]:
        """Return keys and values of the controls, which are the same for every word."""
        key, value = split_parts(self.cross_kv(memory).flatten(0, 1), self.num_heads, 2)
        return key, value

    def forward(
        self,
        x: Float[Tensor, "k n t d"],
        seen: Seen,
        places: Rotation | None = None,
        controls: Controls | None = None,
        memory: Memory | None = None,
        number: int = 0,
    ) -> Float[Tensor, "k n t d"]:
        """``number`` is the layer's, by which a memory knows it."""
        dropped = self.dropout.p if self.training else 0.0
        q, k, v = split_parts(self.qkv(self.norm(x)).flatten(0, 1), self.num_heads)
        if places is not None:
            q, k = rotate(q, places), rotate(k, places)
        if memory is not None:
            k, v = memory.append(number, k, v)
        attended = attend_by_structure(q, k, v, seen, dropped).unflatten(0, x.shape[:2])
        x = x + self.dropout(self.attention_out(attended))
        if self.controlled:
            assert controls is not None
            q = split_heads(self.cross_q(self.cross_norm(x)).flatten(0, 1), self.num_heads)
            key, value = controls.pair or self.remember(controls.memory)
            raised = self.same_bar * controls.own.unflatten(0, x.shape[:2])[:, :, None]  # [k, n, h, t, m]
            found = Seen(controls.kept[:, None, None], term=raised.flatten(0, 1))
            attended = attend_by_structure(q, key, value, found, dropped)
            x = x + self.dropout(self.cross_out(attended.unflatten(0, x.shape[:2])))
        return x + self.dropout(self.feed_forward(x))
