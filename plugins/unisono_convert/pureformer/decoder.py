"""Decoder: from what is said and a voice to a mel, by Zipformer blocks under a style (attention style transfer).

Yao et al., "Zipformer" (arXiv:2310.11230), section 3.2: the weights of attention are computed once in a block and used
three times. Of the block as published are left out the stacks of several frame rates (the paper of Pureformer-VC does
not say which it has; here there is one, that of the mel) and ScaledAdam's own activations (SiLU is taken).

Shapes: b batch, t frames, s cells, z code, e style, m mel channels, d channels.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from unisono.nn.conformer import FeedForward, GatedConvolution
from unisono.nn.modules import Modules

from unisono_convert.networks.conformer import ConformerSizes
from unisono_convert.networks.pooling import unpooled
from unisono_convert.networks.styled import AttentionWeights, NonlinearAttention, SharedAttention

__all__ = ["Decoder", "DecoderSizes", "StyleBlock"]


@dataclass(frozen=True, kw_only=True)
class DecoderSizes(ConformerSizes):
    """Sizes of the decoder's blocks; ``head_dim`` is of each head of the shared attention."""

    head_dim: int = 32


class BiasNorm(nn.Module):
    """``x / RMS(x − b) · e^γ``: keeps something of the length, as LayerNorm does not (Zipformer, section 3.3)."""

    def __init__(self, dim: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(dim))
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        power = (x - self.bias).square().mean(-1, keepdim=True)
        return x * (power + 1e-6).rsqrt() * self.log_scale.exp()


class Bypass(nn.Module):
    """``(1 − c) · x + c · y`` with a learnt c for each channel, which begins at ½."""

    def __init__(self, dim: int):
        super().__init__()
        self.share = nn.Parameter(torch.full((dim,), 0.5))

    def forward(self, x: Float[Tensor, "b t d"], y: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return x + self.share * (y - x)


class StyleBlock(nn.Module):
    """One block; A are the weights of attention, styled as all that uses them::

    x ─ + FF ─ + non-linear attention(A) ─ + attention(A) ─ + conv ─ + FF ─ bypass
      ─ + attention(A) ─ + conv ─ + FF ─ BiasNorm ─ bypass ─
    """

    def __init__(self, sizes: DecoderSizes, style_dim: int):
        super().__init__()
        dim, dropout = sizes.dim, sizes.dropout
        self.weights_norm = nn.LayerNorm(dim)
        self.weights = AttentionWeights(dim, sizes.num_heads, sizes.head_dim, style_dim)
        self.feeds: Modules[FeedForward] = Modules(FeedForward(dim, sizes.filter_dim, dropout) for _ in range(3))
        self.nonlinear = NonlinearAttention(dim, dim * 3 // 4, style_dim)
        self.attentions: Modules[SharedAttention] = Modules(
            SharedAttention(dim, sizes.num_heads, sizes.head_dim, style_dim) for _ in range(2)
        )
        self.norms: Modules[nn.LayerNorm] = Modules(nn.LayerNorm(dim) for _ in range(3))
        self.convolutions: Modules[GatedConvolution] = Modules(
            GatedConvolution(dim, sizes.kernel_size, dropout) for _ in range(2)
        )
        self.middle, self.end = Bypass(dim), Bypass(dim)
        self.norm = BiasNorm(dim)

    def forward(
        self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"], style: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b t d"]:
        weights = self.weights(self.weights_norm(x), mask, style)
        y = x + self.feeds[0](x)
        y = y + self.nonlinear(self.norms[0](y), weights, style)
        y = y + self.attentions[0](self.norms[1](y), weights, style)
        y = y + self.convolutions[0](y, mask)
        y = self.middle(x, y + self.feeds[1](y))
        y = y + self.attentions[1](self.norms[2](y), weights, style)
        y = y + self.convolutions[1](y, mask)
        y = y + self.feeds[2](y)
        return self.end(x, self.norm(y)) * mask[..., None]


class Decoder(nn.Module):
    """::

    code [b, s, z] ─ Linear ─ each frame its cell's ─ block × num_layers ─ LayerNorm ─ Linear ─ mel [b, t, m]
                                                        └ style [b, e]

    Where it is ``told_pitch``, a convolution of the contour of pitch [b, t, 2] is added to the frames.
    """

    def __init__(self, num_mels: int, sizes: DecoderSizes, code_dim: int, style_dim: int, told_pitch: bool = False):
        super().__init__()
        self.contour = nn.Conv1d(2, sizes.dim, 5, padding=2) if told_pitch else None
        self.embed = nn.Linear(code_dim, sizes.dim)
        self.blocks: Modules[StyleBlock] = Modules(StyleBlock(sizes, style_dim) for _ in range(sizes.num_layers))
        self.norm = nn.LayerNorm(sizes.dim)
        self.out = nn.Linear(sizes.dim, num_mels)

    def forward(
        self,
        code: Float[Tensor, "b s z"],
        factor: int,
        mask: Bool[Tensor, "b t"],
        style: Float[Tensor, "b e"],
        contour: Float[Tensor, "b t 2"] | None = None,
    ) -> Float[Tensor, "b t m"]:
        x = unpooled(self.embed(code), factor, mask.shape[1])
        if self.contour is not None:
            assert contour is not None
            x = x + self.contour((contour * mask[..., None]).mT).mT
        x = x * mask[..., None]
        for block in self.blocks:
            x = block(x, mask, style)
        return self.out(self.norm(x)) * mask[..., None]
