"""Blocks: what looks along time in each frequency, then along frequency in each frame.

::

    ─┬─ time block, each frequency a sequence ─(+)─┬─ frequency block, each frame a sequence ─(+)─
     └──────────────────────────────────────────┘  └───────────────────────────────────────────┘

The published code of the long paper built its attention without ``batch_first`` and so looked across sequences, not
along them (its README says so); here both look along.

Shapes: b batch, c channels, t frames, f frequencies; s sequences, k places in one. Masks are True where a place is
kept; what stands elsewhere changes nothing of what is kept.
"""

from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from unisono.nn.attention import attend, split_parts

from unisono_restore.mp_senet.sizes import SENetSizes


class SelfAttention(nn.Module):
    """Self-attention along each sequence."""

    def __init__(self, channels: int, num_heads: int, dropout: float = 0.0):
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.parts = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.parts.weight)
        for layer in (self.parts, self.out):
            nn.init.zeros_(layer.bias)

    def forward(self, x: Float[Tensor, "s k c"], mask: Bool[Tensor, "s k"] | None) -> Float[Tensor, "s k c"]:
        queries, keys, values = split_parts(self.parts(x), self.num_heads)
        seen = None if mask is None else mask[:, None, None]
        return self.out(attend(queries, keys, values, seen, dropout=self.dropout if self.training else 0.0))


class RecurrentFeedForward(nn.Module):
    """A GRU of twice the channels in both directions, leaky ReLU, and a linear layer back."""

    def __init__(self, channels: int):
        super().__init__()
        self.gru = nn.GRU(channels, 2 * channels, batch_first=True, bidirectional=True)
        self.out = nn.Linear(4 * channels, channels)

    def forward(self, x: Float[Tensor, "s k c"], mask: Bool[Tensor, "s k"] | None) -> Float[Tensor, "s k c"]:
        if mask is None:
            made, _ = self.gru(x)
        else:  # packed, the backward direction begins at each sequence's own end
            packed = pack_padded_sequence(x, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
            made, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=x.shape[1])
        return self.out(F.leaky_relu(made))


class Transformer(nn.Module):
    """LayerNorm, attention, residual; LayerNorm, recurrent feed-forward, residual; LayerNorm (arXiv:2308.08926)."""

    def __init__(self, sizes: SENetSizes):
        super().__init__()
        self.attention_norm = nn.LayerNorm(sizes.channels)
        self.attention = SelfAttention(sizes.channels, sizes.num_heads)
        self.forward_norm = nn.LayerNorm(sizes.channels)
        self.feed_forward = RecurrentFeedForward(sizes.channels)
        self.last_norm = nn.LayerNorm(sizes.channels)

    def forward(self, x: Float[Tensor, "s k c"], mask: Bool[Tensor, "s k"] | None) -> Float[Tensor, "s k c"]:
        x = x + self.attention(self.attention_norm(x), mask)
        x = x + self.feed_forward(self.forward_norm(x), mask)
        return self.last_norm(x)


class Conformer(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, each beside a residual; LayerNorm.

    As in arXiv:2305.13686, after CMGAN (arXiv:2203.15149): convolutions of 31, expansions 4 and 2. It is no block of
    ``unisono.nn.conformer``: its attention knows no places, its convolution is twice as wide, with a batch norm. This
    counts, in training, the crops of its own process: several processes do not train exactly as one does.
    """

    def __init__(self, sizes: SENetSizes, kernel: int = 31):
        super().__init__()
        c = sizes.channels
        self.first = _feed_forward(c, sizes.dropout)
        self.attention_norm = nn.LayerNorm(c)
        self.attention = SelfAttention(c, sizes.num_heads, sizes.dropout)
        self.conv_norm = nn.LayerNorm(c)
        self.widen = nn.Linear(c, 4 * c)
        self.depthwise = nn.Conv1d(2 * c, 2 * c, kernel, padding=kernel // 2, groups=2 * c)
        self.batch_norm = nn.BatchNorm1d(2 * c)
        self.narrow = nn.Linear(2 * c, c)
        self.second = _feed_forward(c, sizes.dropout)
        self.last_norm = nn.LayerNorm(c)

    def forward(self, x: Float[Tensor, "s k c"], mask: Bool[Tensor, "s k"] | None) -> Float[Tensor, "s k c"]:
        x = x + 0.5 * self.first(x)
        x = x + self.attention(self.attention_norm(x), mask)
        x = x + self._convolved(x, mask)
        x = x + 0.5 * self.second(x)
        return self.last_norm(x)

    def _convolved(self, x: Float[Tensor, "s k c"], mask: Bool[Tensor, "s k"] | None) -> Float[Tensor, "s k c"]:
        x = F.glu(self.widen(self.conv_norm(x)), dim=-1)
        if mask is not None:
            x = x * mask[..., None]
        x = self.batch_norm(self.depthwise(x.mT)).mT
        return self.narrow(F.silu(x))


class TimeFrequency(nn.Module):
    """A block along time, and one along frequency."""

    def __init__(self, sizes: SENetSizes):
        super().__init__()
        block = Conformer if sizes.short else Transformer
        self.time, self.frequency = block(sizes), block(sizes)

    def forward(self, x: Float[Tensor, "b c t f"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b c t f"]:
        num_items, _, num_frames, num_bins = x.shape
        kept = None if mask is None else repeat(mask, "b t -> (b f) t", f=num_bins)
        x = rearrange(x, "b c t f -> (b f) t c")
        x = x + self.time(x, kept)
        x = rearrange(x, "(b f) t c -> (b t) f c", b=num_items)
        x = x + self.frequency(x, None)
        x = rearrange(x, "(b t) f c -> b c t f", t=num_frames)
        return x if mask is None else x * mask[:, None, :, None]


def _feed_forward(channels: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(channels),
        nn.Linear(channels, 4 * channels),
        nn.SiLU(),
        nn.Dropout(dropout),
        nn.Linear(4 * channels, channels),
        nn.Dropout(dropout),
    )
