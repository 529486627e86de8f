"""Conformer: attention and convolution between two halves of a feed-forward, and its form that forgets the speaker.

Gulati et al., "Conformer" (arXiv:2005.08100). Differences: rotary positions (arXiv:2104.09864) in place of relative
ones; LayerNorm in place of BatchNorm inside the convolution module, so that an item does not depend on its batch;
padding is zeroed before the convolution; attention itself has no dropout.

Shapes: b batch, t frames, s cells of frames, d channels. Masks are True where a frame is kept.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.errors import RecipeError
from unisono.nn.attention import attend, split_parts
from unisono.nn.norm import MaskedInstanceNorm
from unisono.nn.rotary import rotate, rotation

from unisono_convert.networks.pooling import pooled

__all__ = ["ConformerBlock", "ConformerSizes", "ContentBlock", "FeedForward", "GatedConvolution"]


@dataclass(frozen=True, kw_only=True)
class ConformerSizes:
    """Sizes of a block, and how many there are."""

    dim: int = 256
    num_layers: int = 4
    num_heads: int = 4
    filter_dim: int = 1024
    kernel_size: int = 15
    dropout: float = 0.1

    def __post_init__(self):
        if self.dim % (2 * self.num_heads):
            _refuse("dim", self.dim, f"must be a multiple of twice num_heads={self.num_heads}")
        if self.kernel_size % 2 == 0:
            _refuse("kernel_size", self.kernel_size, "must be odd, or frames move")


class FeedForward(nn.Module):
    """LayerNorm ─ Linear ─ SiLU ─ dropout ─ Linear ─ dropout."""

    def __init__(self, dim: int, filter_dim: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.inside = nn.Linear(dim, filter_dim)
        self.out = nn.Linear(filter_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return self.dropout(self.out(self.dropout(F.silu(self.inside(self.norm(x))))))


class GatedConvolution(nn.Module):
    """LayerNorm ─ Linear ─ GLU ─ depthwise conv k ─ LayerNorm ─ SiLU ─ Linear ─ dropout."""

    def __init__(self, dim: int, kernel_size: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.inside = nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.depthwise_norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        near = F.glu(self.inside(self.norm(x)), -1) * mask[..., None]
        return self.dropout(self.out(F.silu(self.depthwise_norm(self.depthwise(near.mT).mT))))


class Mixing(nn.Module):
    """The parts of a block; ``mixed`` is what all blocks begin with."""

    def __init__(self, sizes: ConformerSizes):
        super().__init__()
        dim = sizes.dim
        self.num_heads = sizes.num_heads
        self.before = FeedForward(dim, sizes.filter_dim, sizes.dropout)
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.convolution = GatedConvolution(dim, sizes.kernel_size, sizes.dropout)
        self.after = FeedForward(dim, sizes.filter_dim, sizes.dropout)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(sizes.dropout)

    def mixed(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        """Return ``x`` up to the convolution module and with it."""
        x = x + 0.5 * self.before(x)
        q, k, v = split_parts(self.qkv(self.attention_norm(x)), self.num_heads)
        places = rotation(torch.arange(x.shape[1]), q.shape[-1], device=x.device)
        seen = attend(rotate(q, places), rotate(k, places), v, mask[:, None, None])
        x = x + self.dropout(self.attention_out(seen))
        return x + self.convolution(x, mask)


class ConformerBlock(Mixing):
    """``x ─ + ½ feed-forward ─ + attention ─ + convolution ─ + ½ feed-forward ─ LayerNorm``"""

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        x = self.mixed(x, mask)
        return self.norm(x + 0.5 * self.after(x)) * mask[..., None]


class ContentBlock(Mixing):
    """A conformer block with instance normalisation, and averages of ``factor`` frames, behind its convolution module
    (Pureformer-VC): mean and spread of each channel, which tell the speaker, are gone.

    ``x ─ + ½ feed-forward ─ + attention ─ + convolution ─ norm ─ / factor ─ + ½ feed-forward ─ LayerNorm``
    """

    def __init__(self, sizes: ConformerSizes, factor: int):
        super().__init__(sizes)
        self.factor = factor
        self.instance_norm = MaskedInstanceNorm(sizes.dim, affine=False)

    def forward(
        self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b s d"], Bool[Tensor, "b s"]]:
        x = self.instance_norm(self.mixed(x, mask).mT, mask).mT
        if self.factor > 1:
            x, mask = pooled(x, mask, self.factor)
        return self.norm(x + 0.5 * self.after(x)) * mask[..., None], mask


def _refuse(name: str, value: int, why: str) -> None:
    raise RecipeError(f"model: {name}={value} {why}", code="value", path=f"model.{name}", value=value)
