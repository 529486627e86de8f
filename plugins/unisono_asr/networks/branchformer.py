"""Branchformer: attention and a convolutional gate side by side (Peng et al., arXiv:2207.02971), and
E-Branchformer, between two half feed-forward layers (Kim et al., arXiv:2210.00077).

What differs from espnet's: the heads are computed by PyTorch's scaled dot-product attention, and no convolution reads
padding. Dropout stands where theirs does; stochastic depth, which both papers leave at 0, is left out.

Shapes: b batch, t time, w frames before these, d channels.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from unisono.errors import RecipeError
from unisono.nn.conformer import FeedForward

from unisono_asr.networks.attention import RelativeAttention
from unisono_asr.networks.convolution import ConvolutionalGate, Past
from unisono_asr.networks.merge import Concat, Depthwise, Fixed, Learned


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """How an encoder listens to a stream.

    steps: of a chunk, 40 ms each; its first step waits for its last. 0 hears recordings as wholes.
    left: chunks before its own that attention sees; convolutions see only what was.
    """

    steps: int = 0
    left: int = 4


@dataclass(frozen=True, kw_only=True)
class EncoderSizes:
    """Sizes of an encoder; E-Branchformer's as published for LibriSpeech's base, 12 × 256.

    block: ``e-branchformer`` or ``branchformer``; the latter as published is 24 × 256 with ``gate_dim`` 2048.
    conv_dim: channels of the two convolutions in front of the blocks; ``dim`` where None, as published.
    gate_dim, kernel_size: hidden channels of the cgMLP, both halves, and its convolution.
    feed_dim: of the two half feed-forward layers of an E-Branchformer.
    merge: how the branches of a Branchformer become one; an E-Branchformer's always is ``depthwise``.
    merge_kernel: of that convolution.
    merge_share: the cgMLP's share where the merge is ``fixed``.
    branch_dropout: how often the attention of a block is left out where the merge is ``learned``.
    """

    block: Literal["e-branchformer", "branchformer"] = "e-branchformer"
    dim: int = 256
    num_blocks: int = 12
    num_heads: int = 4
    conv_dim: int | None = None
    gate_dim: int = 1024
    kernel_size: int = 31
    feed_dim: int = 1024
    merge: Literal["concat", "learned", "fixed", "depthwise"] = "depthwise"
    merge_kernel: int = 31
    merge_share: float = 0.5
    branch_dropout: float = 0.0
    dropout: float = 0.1
    chunks: Chunks = Chunks()

    def __post_init__(self):
        for name in ("dim", "num_blocks", "num_heads", "gate_dim", "kernel_size", "feed_dim", "merge_kernel"):
            if getattr(self, name) < 1:
                raise _wrong(name, getattr(self, name), "must be at least 1", "range")
        if self.conv_dim is not None and self.conv_dim < 1:
            raise _wrong("conv_dim", self.conv_dim, "must be at least 1", "range")
        if self.dim % self.num_heads:
            raise _wrong("dim", self.dim, f"must be a multiple of num_heads={self.num_heads}", "value")
        if self.gate_dim % 2:
            raise _wrong("gate_dim", self.gate_dim, "is cut in halves: give an even number", "value")
        for name in ("kernel_size", "merge_kernel"):
            if getattr(self, name) % 2 == 0:
                raise _wrong(name, getattr(self, name), "must be odd", "value")
        for name in ("merge_share", "branch_dropout", "dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise _wrong(name, getattr(self, name), "must be from 0 to 1", "range")
        if (self.block == "e-branchformer") != (self.merge == "depthwise"):
            want = "depthwise" if self.block == "e-branchformer" else "concat, learned or fixed"
            raise _wrong("merge", self.merge, f"does not go with block={self.block}: give {want}", "conflict")
        if self.chunks.steps and self.merge == "learned":
            raise _wrong("merge", self.merge, "looks at a whole recording: give concat or fixed", "conflict")
        if self.chunks.steps < 0 or self.chunks.left < 0:
            raise _wrong("chunks", self.chunks, "counts steps and chunks, which are at least 0", "range")


class Branchformer(nn.Module):
    """One block.

    ::

            ┌─ LayerNorm ─ relative attention ─┐
        x ─┬┤                                  ├─ merge ─ (+) ─ LayerNorm ─
           │└─ LayerNorm ─ cgMLP ──────────────┘           │
           └───────────────────────────────────────────────┘
    """

    def __init__(self, sizes: EncoderSizes):
        super().__init__()
        causal, dim = bool(sizes.chunks.steps), sizes.dim
        self.far_norm, self.near_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = RelativeAttention(dim, sizes.num_heads, sizes.dropout)
        self.gate = ConvolutionalGate(dim, sizes.gate_dim, sizes.kernel_size, sizes.dropout, causal)
        self.merge = make_merge(sizes)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(sizes.dropout)
        self.kept = sizes.chunks.left * sizes.chunks.steps

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"],
        places: Float[Tensor, "p d"],
        seen: Bool[Tensor, "b s k"],
        past: Past | None = None,
    ) -> Float[Tensor, "b t d"]:
        return self.norm(x + self.branches(x, mask, places, seen, past))

    def branches(
        self,
        x: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"],
        places: Float[Tensor, "p d"],
        seen: Bool[Tensor, "b s k"],
        past: Past | None,
    ) -> Float[Tensor, "b t d"]:
        """Return what the two branches add."""
        heard, before = self.far_norm(x), None
        if past is not None:
            before = past["attention"] if "attention" in past else heard[:, :0]
            both = torch.cat([before, heard], 1)
            past["attention"] = both[:, max(0, both.shape[1] - self.kept) :]
        far = self.dropout(self.attention(heard, places, seen, before))
        near = self.dropout(self.gate(self.near_norm(x), mask, past))
        return self.dropout(self.merge(near, far, mask, past))


class EBranchformer(Branchformer):
    """One block.

    ::

        x ─ + ½ feed-forward ─ + [attention ‖ cgMLP ─ depthwise merge] ─ + ½ feed-forward ─ LayerNorm ─
    """

    def __init__(self, sizes: EncoderSizes):
        super().__init__(sizes)
        self.before = FeedForward(sizes.dim, sizes.feed_dim, sizes.dropout)
        self.behind = FeedForward(sizes.dim, sizes.feed_dim, sizes.dropout)

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        mask: Bool[Tensor, "b t"],
        places: Float[Tensor, "p d"],
        seen: Bool[Tensor, "b s k"],
        past: Past | None = None,
    ) -> Float[Tensor, "b t d"]:
        x = x + 0.5 * self.before(x)
        x = x + self.branches(x, mask, places, seen, past)
        return self.norm(x + 0.5 * self.behind(x))


BLOCKS = {"branchformer": Branchformer, "e-branchformer": EBranchformer}


def make_merge(sizes: EncoderSizes) -> nn.Module:
    """Make the merge that sizes name."""
    makers = {
        "concat": lambda: Concat(sizes.dim),
        "learned": lambda: Learned(sizes.dim, sizes.branch_dropout),
        "fixed": lambda: Fixed(sizes.dim, sizes.merge_share),
        "depthwise": lambda: Depthwise(sizes.dim, sizes.merge_kernel, bool(sizes.chunks.steps)),
    }
    return makers[sizes.merge]()


def _wrong(name: str, value: object, why: str, code: str) -> RecipeError:
    path = f"model.encoder.{name}"
    return RecipeError(f"{path}={value} {why}", code=code, path=path, value=value)  # type: ignore[arg-type]
