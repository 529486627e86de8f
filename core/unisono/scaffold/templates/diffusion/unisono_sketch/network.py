"""Network: a transformer over the points of an outline, told the noise level and the shape.

Shapes: b batch, n points, d channels. Masks are True where a point is.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from unisono.nn.modules import Modules
from unisono.nn.transformer import Block

FREQUENCIES = 8


class Network(nn.Module):
    """::

        points ─ linear ────────────┐
        place along the line ───────┤
        noise level ─ linear, SiLU ─┼─ (+) ─ blocks ─ norm ─ linear ─ points
        shape ─ embedding ──────────┘

    The shape's number after the last one stands for none, which guidance leads away from.
    """

    def __init__(self, num_shapes: int, dim: int, num_layers: int, num_heads: int, dropout: float):
        super().__init__()
        self.points = nn.Linear(2, dim)
        self.place = nn.Linear(2 * FREQUENCIES, dim)
        self.level = nn.Sequential(nn.Linear(2 * FREQUENCIES, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.shape = nn.Embedding(num_shapes + 1, dim)
        self.blocks = Modules(Block(dim, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, 2)

    def forward(
        self,
        x: Float[Tensor, "b n 2"],
        time: Float[Tensor, " b"],
        shape: Int[Tensor, " b"],
        there: Bool[Tensor, "b n"],
    ) -> Float[Tensor, "b n 2"]:
        """``time`` is in [0, 1000], as schedulers of diffusers count it."""
        place = torch.arange(x.shape[1], device=x.device) / there.sum(1, keepdim=True)  # round the line, in [0, 1)
        told = self.level(waves(time / 2000)) + self.shape(shape)  # half a wave, so that both ends differ
        y = self.points(x) + self.place(waves(place)) + told[:, None]
        for block in self.blocks:
            y = block(y, there)
        return self.out(self.norm(y))


def waves(share: Float[Tensor, "..."]) -> Float[Tensor, "... w"]:
    """Return sines and cosines of 1, 2, … turns of a share."""
    angle = 2 * torch.pi * share[..., None] * torch.arange(1, FREQUENCIES + 1, device=share.device)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
