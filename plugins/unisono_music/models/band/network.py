"""The network of BandControlNet: an encoder and a decoder for each track, and an exchange between tracks at each bar.

Luo et al., "BandControlNet" (arXiv:2407.10462), from its description::

    controls ─ embedding ─ linear attention × e ─┬─ similarity of bars ─┐          each track
                                                 └─ keys, values ──┐    │
    words ─ embedding ─ decoder layer × b ───────────────(exchange)┴────┴─ decoder layer × t ─ norm ─ head ─ logits
                                     states at Bar ─ attention over tracks and bars ─┘      all tracks

The exchange reads the states of the bottom layers at the word that begins a bar (``Bar`` or ``Empty``), of all tracks
and of this bar and all earlier ones, and puts what it makes of them in their place. So a word of one track changes what
the others write from the next bar on; whether a bar is empty, which is its first word, in that bar.

Differences: rotary positions of words within their track (arXiv:2104.09864) and a code of the bar, which words and
controls share, for learnt positions; norms in front; one similarity for all layers; the similarity leaves out padding
(`structure.py`); the states of the exchange are kept, so that no word is read twice in generation.

Shapes: k tracks, n pieces, t words, s bars, f controls of a bar and track, v words of the vocabulary, d channels;
r rows are k · n, tracks first. Masks are True where kept.
"""

from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from unisono.errors import RecipeError
from unisono.nn.fft import position_code
from unisono.nn.modules import Modules
from unisono.nn.rotary import rotation
from unisono.verify import KVCache

from unisono_music.models.band.layers import (
    Controls,
    DecoderLayer,
    EncoderLayer,
    Seen,
    TrackEmbedding,
    TrackLinear,
    TrackNorm,
)
from unisono_music.models.band.sizes import BandSizes, Structure
from unisono_music.models.band.structure import BarSimilarity, seen_by


@dataclass(frozen=True, eq=False)
class Guide:
    """What the decoders know of the controls of a batch of pieces.

    kept: bars that a piece has.
    similarity: of the bars of each row; None without structure.
    memory: the controls as the encoder left them, ``m = s · f``; None for a network without.
    """

    kept: Bool[Tensor, "n s"]
    similarity: Float[Tensor, "r s s"] | None = None
    memory: Float[Tensor, "k n m d"] | None = None


class BandNetwork(nn.Module):
    """See the module.

    Args:
        num_tracks: tracks, each of which has its place.
        vocabulary: words.
        controls: how many values each control of a bar has, "not given" included; empty for a network without.
        sizes: of the layers.
        structure: how bars that are alike see one another.
        cross_track: whether tracks exchange anything.
    """

    def __init__(
        self,
        *,
        num_tracks: int,
        vocabulary: int,
        controls: list[int],
        sizes: BandSizes,
        structure: Structure = "product",
        cross_track: bool = True,
    ):
        super().__init__()
        dim, heads = sizes.dim, sizes.num_heads
        if dim % (2 * heads):
            raise RecipeError(
                f"model.network.dim={dim} must be a multiple of twice num_heads={heads}",
                code="shape",
                path="model.network.dim",
                value=dim,
            )
        sets = num_tracks if sizes.own_weights else 1
        self.num_tracks, self.dim, self.head_dim = num_tracks, dim, dim // heads
        self.structure: Structure = structure if controls else "none"
        shape = dim, heads, sizes.expansion, sizes.dropout
        self.words = TrackEmbedding(sets, vocabulary, dim)
        self.tracks = None if sizes.own_weights else TrackEmbedding(num_tracks, 1, dim)
        self.first: Tensor
        self.register_buffer("first", torch.tensor([0, *controls]).cumsum(0)[:-1], persistent=False)
        self.encoder: Modules[EncoderLayer] = Modules()
        self.similarity = None
        if controls:
            self.values = TrackEmbedding(sets, sum(controls), dim)
            self.kinds = TrackEmbedding(sets, len(controls), dim)
            self.encoder = Modules(EncoderLayer(sets, *shape) for _ in range(sizes.encoder_layers))
            self.encoder_norm = TrackNorm(sets, dim)
            if structure != "none":
                self.similarity = BarSimilarity(sets, dim, structure)
        same_bar = sizes.same_bar if controls else None
        self.bottom = Modules(DecoderLayer(sets, *shape, same_bar) for _ in range(sizes.bottom_layers))
        self.top = Modules(DecoderLayer(sets, *shape, same_bar) for _ in range(sizes.top_layers))
        self.exchange: Modules[DecoderLayer] = Modules()
        if cross_track:
            self.places = TrackEmbedding(num_tracks, 1, dim)
            self.exchange = Modules(DecoderLayer(1, *shape) for _ in range(sizes.cross_layers))
        self.norm = TrackNorm(sets, dim)
        self.head = TrackLinear(sets, dim, vocabulary)
        self.dropout = nn.Dropout(sizes.dropout)

    # ---- controls ------------------------------------------------------------------------------

    def read(self, controls: Int[Tensor, "k n s f"], kept: Bool[Tensor, "n s"]) -> Guide:
        """Read the controls of all bars, 0 where one is not given."""
        if not self.encoder:
            return Guide(kept)
        s, f = controls.shape[2:]
        kinds = torch.arange(f, device=controls.device).expand(self.num_tracks, f)
        x = self.values(controls + self.first) + self.kinds(kinds)[:, None, None]
        x = x + position_code(torch.arange(s, device=x.device), self.dim).to(x.dtype)[:, None] + self._track(4)
        x = self.dropout(rearrange(x, "k n s f d -> k n (s f) d"))
        there = kept.repeat_interleave(f, 1).repeat(self.num_tracks, 1)
        for layer in self.encoder:
            x = layer(x, there)
        x = self.encoder_norm(x)
        bars = rearrange(x, "k n (s f) d -> k n s f d", f=f).mean(3)
        similarity = None if self.similarity is None else self.similarity(bars, kept)
        return Guide(kept, similarity, x)

    def _track(self, axes: int) -> Tensor | float:
        """What tells tracks apart where they share weights, [k, 1, …]."""
        if self.tracks is None:
            return 0.0
        return self.tracks.weight.view(self.num_tracks, *[1] * (axes - 1), self.dim)

    def _controls(self, guide: Guide, bars: Int[Tensor, "r t"]) -> Controls | None:
        if guide.memory is None:
            return None
        f = guide.memory.shape[2] // guide.kept.shape[1]
        of = torch.arange(guide.kept.shape[1], device=bars.device).repeat_interleave(f)
        kept = guide.kept.repeat_interleave(f, 1).repeat(self.num_tracks, 1)
        return Controls(guide.memory, bars[..., None] == of, kept)

    def _embed(self, words: Int[Tensor, "k n t"], bars: Int[Tensor, "k n t"]) -> Float[Tensor, "k n t d"]:
        code = position_code(bars.flatten(), self.dim).unflatten(0, bars.shape)
        return self.dropout(self.words(words) + code.to(self.words.weight.dtype) + self._track(3))

    # ---- all words at once ---------------------------------------------------------------------

    def forward(
        self,
        words: Int[Tensor, "k n t"],
        bars: Int[Tensor, "k n t"],
        openings: Int[Tensor, "k n s"],
        guide: Guide,
    ) -> Float[Tensor, "k n t v"]:
        """Return the logits of what follows each word.

        ``bars`` says in which bar each word is, a bar's first word with it, and ``openings`` where each bar's first
        word stands; any place for bars that a piece does not have. Padding stands behind the words.
        """
        k, n, t = words.shape
        rows = bars.flatten(0, 1)
        causal = torch.ones(t, t, dtype=torch.bool, device=words.device).tril().expand(k * n, t, t)
        seen = seen_by(guide.similarity, self.structure, causal, rows, rows)
        places = rotation(torch.arange(t), self.head_dim, device=words.device)
        controls = self._controls(guide, rows)
        x = self._embed(words, bars)
        for layer in self.bottom:
            x = layer(x, seen, places, controls)
        if self.exchange:
            at = openings[..., None].expand(-1, -1, -1, self.dim)
            before = x.gather(2, at)
            s = openings.shape[2]
            order = torch.arange(s, device=x.device).repeat_interleave(k)
            may = (order[:, None] >= order) & guide.kept.repeat_interleave(k, 1)[:, None]
            may = may | torch.eye(s * k, dtype=torch.bool, device=x.device)  # attention over nothing is NaN
            after = self._exchanged(before, Seen(may[:, None]), torch.arange(s, device=x.device).expand(n, s), None)
            x = x.scatter_add(2, at, (after - before) * guide.kept[None, :, :, None])
        for layer in self.top:
            x = layer(x, seen, places, controls)
        return self.head(self.norm(x))

    def _exchanged(
        self, states: Float[Tensor, "k n s d"], seen: Seen, bars: Int[Tensor, "n s"], memory: KVCache | None
    ) -> Float[Tensor, "k n s d"]:
        code = position_code(bars.flatten(), self.dim).unflatten(0, bars.shape).to(states.dtype)
        x = states + code + self.places.weight[:, :, None]
        x = rearrange(x, "k n s d -> 1 n (s k) d")
        for number, layer in enumerate(self.exchange):
            x = layer(x, seen, memory=memory, number=number)
        return rearrange(x, "1 n (s k) d -> k n s d", k=self.num_tracks)

    # ---- word by word --------------------------------------------------------------------------

    def begin(self, guide: Guide, most_words: int) -> "Reading":
        """Return the state of pieces of which nothing was read yet."""
        n, device = len(guide.kept), guide.kept.device
        rows = self.num_tracks * n
        bars_of = torch.zeros(rows, most_words, dtype=torch.int64, device=device)
        pairs = [None if guide.memory is None else layer.remember(guide.memory) for layer in (*self.bottom, *self.top)]
        return Reading(guide, pairs, KVCache(rows, device), KVCache(n, device), bars_of)

    def step(
        self,
        reading: "Reading",
        words: Int[Tensor, "k n"],
        bars: Int[Tensor, "k n"],
        fed: Bool[Tensor, "k n"],
        opening: Bool[Tensor, " n"],
    ) -> Float[Tensor, "k n v"]:
        """Read one more word of the rows that are ``fed``, and return the logits of what follows it.

        ``opening`` pieces are at the first word of a bar, with all of their tracks. What is returned for other rows
        means nothing, and they forget it.
        """
        guide, memory, cross = reading.guide, reading.words, reading.bars
        k, n = words.shape
        rows, at = bars.reshape(-1, 1), memory.length
        reading.bars_of[torch.arange(k * n, device=words.device), at] = rows[:, 0]
        mask = memory.mask(torch.ones(k * n, 1, 1, dtype=torch.bool, device=words.device))
        seen = seen_by(guide.similarity, self.structure, mask, rows, reading.bars_of[:, : mask.shape[-1]])
        places = rotation(at[:, None], self.head_dim, device=words.device)
        controls = self._controls(guide, rows)
        known = [controls and replace(controls, pair=pair) for pair in reading.pairs]
        x = self._embed(words[..., None], bars[..., None])
        for number, layer in enumerate(self.bottom):
            x = layer(x, seen, places, known[number], memory, number)
        if self.exchange and bool(opening.any()):
            may = cross.mask(torch.ones(n, k, k, dtype=torch.bool, device=x.device))
            after = self._exchanged(x, Seen(may[:, None]), bars[0][:, None], cross)
            x = torch.where(opening[None, :, None, None], after, x)
            _advance(cross, k, opening)
        for number, layer in enumerate(self.top, len(self.bottom)):
            x = layer(x, seen, places, known[number], memory, number)
        _advance(memory, 1, fed.flatten())
        return self.head(self.norm(x))[:, :, 0]


@dataclass(frozen=True, eq=False)
class Reading:
    """Pieces that are being read word by word.

    guide: of their controls.
    pairs: keys and values of the controls, for each decoder layer; None without.
    words, bars: keys and values of the words and of the exchange.
    bars_of: the bar of each word that was read.
    """

    guide: Guide
    pairs: list[tuple[Float[Tensor, "r h m c"], Float[Tensor, "r h m c"]] | None]
    words: KVCache
    bars: KVCache
    bars_of: Int[Tensor, "r m"]


def _advance(cache: KVCache, count: int, rows: Bool[Tensor, " r"]) -> None:
    """Keep so many new entries in some rows; the others forget theirs."""
    length = cache.length
    cache.advance(count)
    cache.truncate(torch.where(rows, length + count, length))
