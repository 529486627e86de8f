"""Line: transformers between pictures and a line of vectors, which stand for no place (TiTok: Yu et al.,
arXiv:2406.07550).

::

    patches ┐                                      line of vectors ┐
            ├─ transformer ─ line of vectors                       ├─ transformer ─ logits of a grid's tokens
    line of ┘  (section 3.2)                  mask at every place ─┘
    learnt vectors

What is decoded are the tokens of a trained tokenizer, the *proxy*, at the places of the patches; its vectors, mixed by
how likely each token is, go through a decoder of pictures.

Difference: no class vector stands beside the patches (published: one, of which nothing is asked).

Shapes: b batch, y x height and width of pictures, m patches, n vectors of the line, d channels, v the proxy's codes.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from unisono.nn.transformer import Block

from unisono_image.models.token_sizes import LineSizes


def learnt(length: int, dim: int) -> nn.Parameter:
    """Make vectors to be learnt, for places or in their place."""
    return nn.Parameter(torch.randn(length, dim) * dim**-0.5)


class Blocks(nn.Module):
    """Transformer blocks between two norms; everything sees everything."""

    def __init__(self, sizes: LineSizes):
        super().__init__()
        self.norm_in, self.norm_out = nn.LayerNorm(sizes.dim), nn.LayerNorm(sizes.dim)
        self.blocks = nn.ModuleList(Block(sizes.dim, sizes.num_heads, dropout=0.0) for _ in range(sizes.num_layers))

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        x = self.norm_in(x)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm_out(x)


class LineEncoder(nn.Module):
    """Pictures to a line of vectors: patches and learnt vectors through a transformer, which keeps the latter."""

    def __init__(self, sizes: LineSizes, num_patches: int):
        super().__init__()
        self.patches = nn.Conv2d(3, sizes.dim, sizes.patch_size, stride=sizes.patch_size)
        self.places = learnt(num_patches, sizes.dim)
        self.line = learnt(sizes.num_tokens, sizes.dim)
        self.blocks = Blocks(sizes)

    def forward(self, pictures: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b n d"]:
        x = self.patches(pictures.to(self.places.dtype)).flatten(2).mT + self.places
        line = self.line.to(x.dtype).expand(len(x), -1, -1)
        return self.blocks(torch.cat([x, line], 1))[:, self.places.shape[0] :]


class LineDecoder(nn.Module):
    """A line of vectors to the logits of the proxy's tokens: masks, one for each place, through a transformer."""

    def __init__(self, sizes: LineSizes, num_patches: int):
        super().__init__()
        self.embed = nn.Linear(sizes.dim, sizes.dim)
        self.line = learnt(sizes.num_tokens, sizes.dim)
        self.places = learnt(num_patches, sizes.dim)
        self.mask = learnt(1, sizes.dim)
        self.blocks = Blocks(sizes)
        self.out = nn.Sequential(
            nn.Linear(sizes.dim, 2 * sizes.dim), nn.Tanh(), nn.Linear(2 * sizes.dim, sizes.num_codes)
        )

    def forward(self, vectors: Float[Tensor, "b n d"]) -> Float[Tensor, "b m v"]:
        line = self.embed(vectors.to(self.line.dtype)) + self.line
        masks = (self.mask + self.places).to(line.dtype).expand(len(line), -1, -1)
        return self.out(self.blocks(torch.cat([masks, line], 1))[:, : self.places.shape[0]])


class LineCodec(nn.Module):
    """Encoder and decoder of a line."""

    def __init__(self, sizes: LineSizes, num_patches: int):
        super().__init__()
        self.encoder, self.decoder = LineEncoder(sizes, num_patches), LineDecoder(sizes, num_patches)

    def encode(self, pictures: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b n d"]:
        """Return vectors."""
        return self.encoder(pictures)

    def decode(self, vectors: Float[Tensor, "b n d"]) -> Float[Tensor, "b m v"]:
        """Return the logits of the proxy's tokens."""
        return self.decoder(vectors)


class Painter(nn.Module):
    """A decoder of pictures of the proxy's kind, to be trained on: its codes' vectors ``table`` [v, d], and its
    network."""

    def __init__(self, table: Float[Tensor, "v d"], decoder: nn.Module, grid: tuple[int, int]):
        super().__init__()
        self.table = nn.Parameter(table.clone())
        self.decoder: nn.Module = decoder
        self.grid = grid
        self.copied: Tensor
        self.register_buffer("copied", torch.zeros((), dtype=torch.bool))

    def forward(self, logits: Float[Tensor, "b m v"]) -> Float[Tensor, "b 3 y x"]:
        return self.decoder(mixed(logits, self.table).mT.unflatten(2, self.grid))


def mixed(logits: Float[Tensor, "b m v"], table: Float[Tensor, "v d"]) -> Float[Tensor, "b m d"]:
    """Return the codes' vectors, mixed by how likely each is."""
    return logits.float().softmax(-1) @ table.float()
