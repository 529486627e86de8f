"""Swin groups: attention within shifted windows, on maps of any size (Liu et al., arXiv:2111.09883).

A residual group is a few blocks, a convolution and a short cut. A block has attention by the cosine between query and
key, with a temperature that each head learns and a bias that a small network makes of the distance; norms come after
each branch. Every other block's windows are moved by half of their side. Where a map does not fill its windows, what is
missing is not attended to; what a shift brings together from opposite borders is not either.

Shapes: b batch, c channels, y x height and width, h heads, n places of a window, w windows.
"""

import math

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F


class WindowAttention(nn.Module):
    """Cosine attention within windows."""

    def __init__(self, dim: int, num_heads: int, window: int):
        super().__init__()
        self.num_heads, self.window = num_heads, window
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.log_temperature = nn.Parameter(torch.full((num_heads, 1, 1), math.log(10.0)))
        self.position = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, num_heads, bias=False))
        place = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        apart = (place[:, :, None] - place[:, None, :]).permute(1, 2, 0).float()
        scaled = 8 * apart / max(window - 1, 1)
        apart = scaled.sign() * (scaled.abs() + 1).log2() / 3
        self.register_buffer("apart", apart, persistent=False)
        self.apart: Tensor

    def forward(self, x: Float[Tensor, "w n c"], mask: Bool[Tensor, "w n n"]) -> Float[Tensor, "w n c"]:
        q, k, v = rearrange(self.qkv(x), "w n (three h d) -> three w h n d", three=3, h=self.num_heads)
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT
        scores = scores * self.log_temperature.clamp(max=math.log(100.0)).exp()
        bias = 16 * torch.sigmoid(self.position(self.apart.to(x.dtype)))
        scores = scores + bias.permute(2, 0, 1)
        scores = scores.masked_fill(~mask[:, None], -1e4)
        return self.out(rearrange(scores.softmax(-1) @ v, "w h n d -> w n (h d)"))


class SwinBlock(nn.Module):
    """Attention within windows and two linear layers, each after a norm added to what came in."""

    def __init__(self, dim: int, num_heads: int, window: int, shift: bool, mlp_ratio: float = 2.0):
        super().__init__()
        self.window, self.shift = window, window // 2 if shift else 0
        hidden = round(dim * mlp_ratio)
        self.attention = WindowAttention(dim, num_heads, window)
        self.attention_norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.expand, self.project = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Float[Tensor, "b y x c"]) -> Float[Tensor, "b y x c"]:
        batch, height, width, _ = x.shape
        side, more = self.window, (-x.shape[1] % self.window, -x.shape[2] % self.window)
        parts = torch.roll(F.pad(x, (0, 0, 0, more[1], 0, more[0])), (-self.shift, -self.shift), (1, 2))
        rows, columns = (size // side for size in parts.shape[1:3])
        windows = rearrange(parts, "b (i y) (j x) c -> (b i j) (y x) c", y=side, x=side)
        made = self.attention(windows, self._mask(height, width, more, x.device).repeat(batch, 1, 1))
        made = rearrange(made, "(b i j) (y x) c -> b (i y) (j x) c", i=rows, j=columns, y=side)
        made = torch.roll(made, (self.shift, self.shift), (1, 2))[:, :height, :width]
        x = x + self.attention_norm(made)
        return x + self.mlp_norm(self.project(F.gelu(self.expand(x))))

    def _mask(self, height: int, width: int, more: tuple[int, int], device: torch.device) -> Bool[Tensor, "w n n"]:
        """Which places of each window see which: those that a shift did not bring round, and that are there."""
        regions = []
        for size, extra in ((height, more[0]), (width, more[1])):
            place = torch.arange(size + extra, device=device)
            region = (place < self.shift).long() + 2 * (place >= size)
            regions.append(torch.roll(region, -self.shift))
        both = rearrange(
            4 * regions[0][:, None] + regions[1], "(i y) (j x) -> (i j) (y x)", y=self.window, x=self.window
        )
        there = both // 4 < 2
        there &= both % 4 < 2
        same = both[:, :, None] == both[:, None, :]
        alone = torch.eye(both.shape[1], dtype=torch.bool, device=device)
        return (same & there[:, None, :]) | alone


class SwinGroup(nn.Module):
    """A few blocks and a convolution beside a short cut."""

    def __init__(self, dim: int, depth: int, num_heads: int, window: int):
        super().__init__()
        self.blocks = nn.ModuleList(SwinBlock(dim, num_heads, window, shift=n % 2 == 1) for n in range(depth))
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        inner = x.permute(0, 2, 3, 1)
        for block in self.blocks:
            inner = block(inner)
        return x + self.conv(inner.permute(0, 3, 1, 2))
