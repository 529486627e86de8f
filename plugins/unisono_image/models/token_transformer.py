"""Token transformer: all tokens of a picture at once, some of them masked, under a class or a caption.

MaskGIT (Chang et al., arXiv:2202.04200) fills masked tokens with a bidirectional transformer as of BERT, the class as a
token in front. Halton-MaskGIT (arXiv:2503.17076) has blocks that the condition modulates (adaLN-zero,
arXiv:2212.09748), normalised queries and keys, and registers. Both are here, by `TokenNetSizes`.

Differences from MaskGIT: norms stand in front of attention and feed-forward (published, as in BERT: behind them), so
that 24 layers learn without a long warm-up; captions stand in front of the tokens, word by word.

What is not known is one learnt vector, whatever its token is: nothing that is to be predicted is ever read.

Shapes: b batch, n tokens of a picture, m places in front (condition, words, registers), d channels, e channels of the
condition, v codes. Masks are True where kept.
"""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.attention import attend, split_heads
from unisono.nn.condition import Condition
from unisono.nn.modules import Modules
from unisono.nn.tensor_plan import TensorPlan

from unisono_image.models.maskgit_sizes import TokenNetSizes


class HeadNorm(nn.Module):
    """Root mean square normalisation of each head, in the type of what comes in."""

    def __init__(self, head_dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(head_dim))

    def forward(self, x: Float[Tensor, "b h t c"]) -> Float[Tensor, "b h t c"]:
        return F.rms_norm(x, x.shape[-1:], self.weight.to(x.dtype), eps=1e-6)


class TokenAttention(nn.Module):
    """Self-attention; queries and keys are normalised per head where asked for."""

    def __init__(self, dim: int, num_heads: int, qk_norm: bool, dropout: float):
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim) for _ in range(3))
        self.q_norm, self.k_norm = (HeadNorm(dim // num_heads) if qk_norm else nn.Identity() for _ in range(2))
        self.to_out = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None = None) -> Float[Tensor, "b t d"]:
        q, k, v = (split_heads(to(x), self.num_heads) for to in (self.to_q, self.to_k, self.to_v))
        q, k = self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype)
        seen = None if mask is None else mask[:, None, None]
        return self.to_out(attend(q, k, v, seen, dropout=self.dropout if self.training else 0.0))


class PlainBlock(nn.Module):
    """Attention and feed-forward, each added to what went in, with a norm in front; the condition is a token.

    ::

        x ─┬─ norm ─ attention ─(+)─┬─ norm ─ GELU ─(+)─
           └────────────────────┘   └────────────┘
    """

    tensor_plan: ClassVar[TensorPlan] = TensorPlan(
        columns=dict.fromkeys(("attend.to_q", "attend.to_k", "attend.to_v", "feed_in"), 1),
        rows=("attend.to_out", "feed_out"),
        heads=("attend.num_heads",),
        shared=("attend.q_norm.weight", "attend.k_norm.weight"),
    )

    def __init__(self, sizes: TokenNetSizes, condition_dim: int):
        super().__init__()
        dim = sizes.dim
        self.attend_norm, self.feed_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attend = TokenAttention(dim, sizes.num_heads, sizes.qk_norm, sizes.dropout)
        self.feed_in, self.feed_out = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(
        self, x: Float[Tensor, "b t d"], e: Float[Tensor, "b e"], mask: Bool[Tensor, "b t"] | None
    ) -> Float[Tensor, "b t d"]:
        x = x + self.dropout(self.attend(self.attend_norm(x), mask))
        return x + self.dropout(self.feed_out(F.gelu(self.feed_in(self.feed_norm(x)))))


class ModulatedBlock(nn.Module):
    """The same, shifted, scaled and gated by the condition; at the start it changes nothing (adaLN-zero)."""

    tensor_plan: ClassVar[TensorPlan] = PlainBlock.tensor_plan

    def __init__(self, sizes: TokenNetSizes, condition_dim: int):
        super().__init__()
        dim = sizes.dim
        self.attend_norm, self.feed_norm = (nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False) for _ in range(2))
        self.attend = TokenAttention(dim, sizes.num_heads, sizes.qk_norm, sizes.dropout)
        self.feed_in, self.feed_out = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(sizes.dropout)
        self.modulate = _zero(nn.Linear(condition_dim, 6 * dim))

    def forward(
        self, x: Float[Tensor, "b t d"], e: Float[Tensor, "b e"], mask: Bool[Tensor, "b t"] | None
    ) -> Float[Tensor, "b t d"]:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulate(F.silu(e))[:, None].chunk(6, dim=-1)
        x = x + gate1 * self.dropout(self.attend(self.attend_norm(x) * (1 + scale1) + shift1, mask))
        y = self.feed_norm(x) * (1 + scale2) + shift2
        return x + gate2 * self.dropout(self.feed_out(F.gelu(self.feed_in(y))))


BLOCKS = {"plain": PlainBlock, "adaln": ModulatedBlock}


class TokenTrunk(nn.Module):
    """A vector for each token of a picture, from all that are known and the condition.

    ::

        tokens, known ─ table (one row more: not known) + place ─┐
        registers ───────────────────────────────────────────────┤
        condition ─┬─ words ─ linear ────────────────────────────┼─ block × num_layers ─ norm ─ vectors
                   └─ vector ─ linear: a token (plain) ──────────┘    │
                        └─ modulates every block (adaln) ─────────────┘

    Args:
        num_codes, num_tokens: what a place may hold, and places of a picture.
        sizes: of the network.
        condition_dim: channels of the condition.
        with_words: False where no condition has words.
        masked: False where all tokens are known.
    """

    def __init__(
        self,
        num_codes: int,
        num_tokens: int,
        sizes: TokenNetSizes,
        condition_dim: int,
        with_words: bool = True,
        masked: bool = True,
    ):
        super().__init__()
        dim = sizes.dim
        self.num_codes = num_codes
        self.table = nn.Embedding(num_codes + masked, dim)  # the last row is what is not known
        self.places = nn.Parameter(0.02 * torch.randn(num_tokens, dim))
        nn.init.normal_(self.table.weight, std=0.02)
        self.registers = nn.Parameter(0.02 * torch.randn(sizes.registers, dim)) if sizes.registers else None
        self.words = nn.Linear(condition_dim, dim) if with_words else None
        plain = sizes.block == "plain"
        self.told = nn.Linear(condition_dim, dim) if plain else None
        self.dropout = nn.Dropout(sizes.dropout)
        make = BLOCKS[sizes.block]
        self.blocks: Modules[nn.Module] = Modules(make(sizes, condition_dim) for _ in range(sizes.num_layers))
        self.norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=plain)
        self.modulate = None if plain else _zero(nn.Linear(condition_dim, 2 * dim))

    def forward(
        self, tokens: Int[Tensor, "b n"], known: Bool[Tensor, "b n"], condition: Condition
    ) -> Float[Tensor, "b n d"]:
        """Return a vector per place; tokens that are not known are not read."""
        b, n = tokens.shape
        x = self.dropout(self.table(torch.where(known, tokens, self.num_codes)) + self.places)
        front, mask = [], torch.ones(b, 0, dtype=torch.bool, device=tokens.device)
        if self.told is not None:
            front.append(self.told(condition.vector)[:, None])
        if self.registers is not None:
            front.append(self.registers.expand(b, -1, -1))
        own = sum(part.shape[1] for part in front)
        if self.words is not None and condition.words.shape[1]:
            front.append(self.words(condition.words))
            mask = condition.mask
        x = torch.cat([*(part.to(x.dtype) for part in front), x], dim=1)
        seen = None
        if mask.shape[1]:
            seen = torch.cat([mask.new_ones(b, own), mask, mask.new_ones(b, n)], dim=1)
        for block in self.blocks:
            x = block(x, condition.vector, seen)
        x = self.norm(x[:, x.shape[1] - n :])
        if self.modulate is not None:
            shift, scale = self.modulate(F.silu(condition.vector))[:, None].chunk(2, dim=-1)
            x = x * (1 + scale) + shift
        return x


class TokenTransformer(nn.Module):
    """Logits of each token of a picture; the head is BERT's: linear, GELU, norm, the table of tokens or a matrix."""

    def __init__(
        self, num_codes: int, num_tokens: int, sizes: TokenNetSizes, condition_dim: int, with_words: bool = True
    ):
        super().__init__()
        dim = sizes.dim
        self.trunk = TokenTrunk(num_codes, num_tokens, sizes, condition_dim, with_words)
        self.dense, self.head_norm = nn.Linear(dim, dim), nn.LayerNorm(dim)
        self.head = None if sizes.tied_head else nn.Linear(dim, num_codes)
        self.head_bias = nn.Parameter(torch.zeros(num_codes)) if sizes.tied_head else None

    def forward(
        self, tokens: Int[Tensor, "b n"], known: Bool[Tensor, "b n"], condition: Condition
    ) -> Float[Tensor, "b n v"]:
        """Return logits of codes alone: what is not known is no code, and can never be drawn."""
        x = self.head_norm(F.gelu(self.dense(self.trunk(tokens, known, condition))))
        if self.head is not None:
            return self.head(x)
        return F.linear(x, self.trunk.table.weight[: self.trunk.num_codes], self.head_bias)


def _zero(linear: nn.Linear) -> nn.Linear:
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
