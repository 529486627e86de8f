"""MotionEncoder and MotionDecoder: the convolutions of motion tokenizers.

As in T2M-GPT (Zhang et al., arXiv:2301.06052, section 3.1), MMM (arXiv:2312.03596) and MoMask (arXiv:2312.00063):
strided convolutions, each followed by residual blocks of growing dilation; the decoder is its mirror image with
nearest-neighbour upsampling. Difference: padding is masked before every convolution, so that an item alone and
in a batch agree.

Shapes: b batch, t frames (a multiple of the downsampling), n = t / downsampling, d features, c channels.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from unisono_motion.tokens.sizes import ConvSizes


class ResidualBlocks(nn.Module):
    """Residual blocks of dilations ``growth ** i``, the widest first.

    ::

        x ─┬─ ReLU ─ mask ─ conv 3, dilated ─ ReLU ─ conv 1 ─ (+) ─
           └───────────────────────────────────────────────────┘
    """

    def __init__(self, width: int, depth: int, growth: int):
        super().__init__()
        dilations = [growth**i for i in reversed(range(depth))]
        self.wide = nn.ModuleList(nn.Conv1d(width, width, 3, padding=d, dilation=d) for d in dilations)
        self.point = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in dilations)

    def forward(self, x: Float[Tensor, "b c t"], mask: Bool[Tensor, "b 1 t"]) -> Float[Tensor, "b c t"]:
        for wide, point in zip(self.wide, self.point, strict=True):
            x = x + point(wide(x.relu() * mask).relu())
        return x


class MotionEncoder(nn.Module):
    """Features to vectors at a lower rate.

    ::

        d ─ conv 3 ─ ReLU ─ [ conv 4, stride 2 ─ residual blocks ] × log2(downsampling) ─ conv 3 ─ code_dim
    """

    def __init__(self, dim: int, code_dim: int, sizes: ConvSizes):
        super().__init__()
        width, stages = sizes.width, sizes.stages
        self.embed = nn.Conv1d(dim, width, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv1d(width, width, 4, stride=2, padding=1) for _ in range(stages))
        self.blocks = nn.ModuleList(ResidualBlocks(width, sizes.depth, sizes.dilation_growth) for _ in range(stages))
        self.out = nn.Conv1d(width, code_dim, 3, padding=1)

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b n c"]:
        kept = mask[:, None]
        x = self.embed((x.mT * kept).to(self.embed.weight.dtype)).relu()
        for down, blocks in zip(self.down, self.blocks, strict=True):
            x = down(x * kept)
            kept = kept[..., ::2]
            x = blocks(x, kept)
        return (self.out(x * kept) * kept).mT


class MotionDecoder(nn.Module):
    """Vectors back to features.

    ::

        c ─ conv 3 ─ ReLU ─ [ residual blocks ─ repeat 2 ─ conv 3 ] × log2(downsampling) ─ conv 3 ─ ReLU ─ conv 3 ─ d
    """

    def __init__(self, dim: int, code_dim: int, sizes: ConvSizes):
        super().__init__()
        width, stages = sizes.width, sizes.stages
        self.embed = nn.Conv1d(code_dim, width, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlocks(width, sizes.depth, sizes.dilation_growth) for _ in range(stages))
        self.up = nn.ModuleList(nn.Conv1d(width, width, 3, padding=1) for _ in range(stages))
        self.mix = nn.Conv1d(width, width, 3, padding=1)
        self.out = nn.Conv1d(width, dim, 3, padding=1)

    def forward(self, z: Float[Tensor, "b n c"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b t d"]:
        kept = mask[:, None]
        x = self.embed(z.mT * kept).relu()
        for blocks, up in zip(self.blocks, self.up, strict=True):
            x = blocks(x, kept)
            kept = kept.repeat_interleave(2, dim=-1)
            x = up(F.interpolate(x, scale_factor=2.0, mode="nearest") * kept)
        x = self.mix(x * kept).relu()
        return (self.out(x * kept) * kept).mT


def pad_to_multiple(
    x: Float[Tensor, "b t d"], lengths: Sequence[int], multiple: int
) -> tuple[Float[Tensor, "b u d"], Bool[Tensor, "b u"]]:
    """Repeat each item's last frame up to the next multiple; return items and the mask of what is kept."""
    whole = torch.tensor([-(-n // multiple) * multiple for n in lengths], device=x.device)
    steps = torch.arange(int(whole.max()), device=x.device)
    last = torch.tensor(lengths, device=x.device)[:, None] - 1
    index = torch.minimum(steps[None], last)
    padded = torch.take_along_dim(x, index[..., None].expand(-1, -1, x.shape[-1]), dim=1)
    mask = steps[None] < whole[:, None]
    return padded * mask[..., None], mask
