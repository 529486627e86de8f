"""Grid: convolutions between pictures and a grid of vectors (VQGAN: Esser et al., arXiv:2012.09841, section 3).

The networks of picture tokenizers that keep their tokens in rows and columns: LlamaGen's (Sun et al., arXiv:2406.06525)
are VQGAN's; Open-MAGVIT2's (Luo et al., arXiv:2409.04410, section 3.1) and IBQ's (Shi et al., arXiv:2412.02692) have
more blocks, no attention, and a decoder whose norms are moved by mean and deviation of the codes.

Difference: that decoder enlarges by repetition and a convolution as VQGAN's does (published: by depth to space).

Shapes: b batch, y x height and width of pictures, h w of the grid, c channels, d channels of latents.
"""

import itertools

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.attention import attend

from unisono_image.models.token_sizes import GridSizes


class ResidualBlock(nn.Module):
    """Two convolutions beside a short cut.

    ::

        x ─┬─ GroupNorm ─ SiLU ─ conv 3 ─ GroupNorm ─ SiLU ─ conv 3 ─ (+) ─
           └─────────────────────── (conv 1) ───────────────────────────┘
    """

    def __init__(self, width: int, out: int, groups: int):
        super().__init__()
        self.norm_in, self.conv_in = nn.GroupNorm(groups, width), nn.Conv2d(width, out, 3, padding=1)
        self.norm_out, self.conv_out = nn.GroupNorm(groups, out), nn.Conv2d(out, out, 3, padding=1)
        self.short = nn.Identity() if width == out else nn.Conv2d(width, out, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o h w"]:
        y = self.conv_in(F.silu(self.norm_in(x)))
        return self.short(x) + self.conv_out(F.silu(self.norm_out(y)))


class GridAttention(nn.Module):
    """Every place of a grid sees every other, by one head, added to what went in."""

    def __init__(self, width: int, groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(groups, width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        q, k, v = (part.flatten(2).mT[:, None] for part in self.qkv(self.norm(x)).chunk(3, dim=1))
        return x + self.out(attend(q, k, v).mT.reshape(x.shape))


class AdaptiveNorm(nn.Module):
    """A group norm whose scale and shift are linear in deviation and mean of the codes, over all places."""

    def __init__(self, latent_channels: int, width: int, groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, affine=False)
        self.scale = nn.Linear(latent_channels, width)
        self.shift = nn.Linear(latent_channels, width)

    def forward(self, x: Float[Tensor, "b c h w"], z: Float[Tensor, "b d i j"]) -> Float[Tensor, "b c h w"]:
        z = z.flatten(2)
        scale = self.scale((z.var(-1, unbiased=False) + 1e-6).sqrt())
        return scale[..., None, None] * self.norm(x) + self.shift(z.mean(-1))[..., None, None]


class Level(nn.Module):
    """Blocks at one resolution, each followed by attention where there is some."""

    def __init__(self, width: int, out: int, num_blocks: int, attention: bool, groups: int):
        super().__init__()
        widths = [width, *[out] * num_blocks]
        self.blocks = nn.ModuleList(ResidualBlock(a, b, groups) for a, b in itertools.pairwise(widths))
        self.attention = nn.ModuleList(GridAttention(out, groups) for _ in range(num_blocks if attention else 0))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o h w"]:
        for number, block in enumerate(self.blocks):
            x = block(x)
            if self.attention:
                x = self.attention[number](x)
        return x


def middle(width: int, sizes: GridSizes) -> nn.Sequential:
    """Make the lowest resolution's middle: block, attention, block (VQGAN); without attention, ``num_blocks``
    blocks."""
    count = 2 if sizes.attention else sizes.num_blocks
    parts: list[nn.Module] = [ResidualBlock(width, width, sizes.norm_groups) for _ in range(count)]
    if sizes.attention:
        parts.insert(1, GridAttention(width, sizes.norm_groups))
    return nn.Sequential(*parts)


class GridEncoder(nn.Module):
    """Pictures to a grid of vectors.

    ::

        3 ─ conv 3 ─ [ blocks ─ conv 3, ↓2 ] × (levels − 1) ─ blocks ─ middle ─ GroupNorm ─ SiLU ─ conv 3 ─ d
    """

    def __init__(self, sizes: GridSizes):
        super().__init__()
        widths = [sizes.channels * times for times in sizes.multipliers]
        groups, last = sizes.norm_groups, len(widths) - 1
        self.embed = nn.Conv2d(3, sizes.channels, 3, padding=1)
        self.levels = nn.ModuleList(
            Level(before, width, sizes.num_blocks, sizes.attention and number == last, groups)
            for number, (before, width) in enumerate(zip([sizes.channels, *widths], widths, strict=False))
        )
        self.down = nn.ModuleList(nn.Conv2d(width, width, 3, stride=2) for width in widths[:-1])
        self.middle = middle(widths[-1], sizes)
        self.norm = nn.GroupNorm(groups, widths[-1])
        self.out = nn.Conv2d(widths[-1], sizes.latent_channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b d h w"]:
        x = self.embed(x.to(self.embed.weight.dtype))
        for number, level in enumerate(self.levels):
            x = level(x)
            if number < len(self.down):
                x = self.down[number](F.pad(x, (0, 1, 0, 1)))
        return self.out(F.silu(self.norm(self.middle(x))))


class GridDecoder(nn.Module):
    """A grid of vectors to pictures: the encoder's mirror image, with one block more at each resolution.

    ::

        d ─ conv 3 ─ middle ─ [ (adaptive norm) ─ blocks ─ repeat 2 ─ conv 3 ] × (levels − 1) ─ … ─ blocks
          ─ GroupNorm ─ SiLU ─ conv 3 ─ 3
    """

    def __init__(self, sizes: GridSizes):
        super().__init__()
        widths = [sizes.channels * times for times in reversed(sizes.multipliers)]
        groups = sizes.norm_groups
        self.embed = nn.Conv2d(sizes.latent_channels, widths[0], 3, padding=1)
        self.middle = middle(widths[0], sizes)
        befores = [widths[0], *widths]
        self.levels = nn.ModuleList(
            Level(before, width, sizes.num_blocks + 1, sizes.attention and number == 0, groups)
            for number, (before, width) in enumerate(zip(befores, widths, strict=False))
        )
        self.up = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for width in widths[:-1])
        self.styles = nn.ModuleList(
            AdaptiveNorm(sizes.latent_channels, before, groups)
            for before in (befores[: len(widths)] if sizes.adaptive_norm else ())
        )
        self.norm = nn.GroupNorm(groups, widths[-1])
        self.out = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, z: Float[Tensor, "b d h w"]) -> Float[Tensor, "b 3 y x"]:
        z = z.to(self.embed.weight.dtype)
        x = self.middle(self.embed(z))
        for number, level in enumerate(self.levels):
            if self.styles:
                x = self.styles[number](x, z)
            x = level(x)
            if number < len(self.up):
                x = self.up[number](F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.out(F.silu(self.norm(x)))


class GridCodec(nn.Module):
    """Encoder and decoder of a grid, with a row of vectors between, which is what quantisers take."""

    def __init__(self, sizes: GridSizes, grid: tuple[int, int]):
        super().__init__()
        self.grid = grid
        self.encoder, self.decoder = GridEncoder(sizes), GridDecoder(sizes)

    def encode(self, pictures: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b n d"]:
        """Return vectors, row by row."""
        return self.encoder(pictures).flatten(2).mT

    def decode(self, vectors: Float[Tensor, "b n d"]) -> Float[Tensor, "b 3 y x"]:
        """Return pictures, about −1 to 1."""
        return self.decoder(vectors.mT.unflatten(2, self.grid))
