"""Denoiser: all vertices of an outline at once, under what is seen of picture and phrase, and the centre.

Shapes: b batch, n vertices, k cells of the picture, d channels.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from unisono.nn.modules import Modules
from unisono.nn.transformer import Block

from unisono_outline.models.encoder import FREQUENCIES, Seen, waves
from unisono_outline.models.sizes import NetworkSizes


class VertexDenoiser(nn.Module):
    """::

        noised offset ─ linear ───────────────┐
        place in the picture ─ waves, linear ─┤
        place along the line ─ waves, linear ─┼─ (+) ─ blocks, which see each other and the picture ─ norm ─ linear ─ x0
        noise level ─ waves, SiLU, linear ────┤
        centre ─ waves, linear ── sentence ───┘

    The place along the line is an angle: the last vertex is a neighbour of the first.
    """

    def __init__(self, sizes: NetworkSizes):
        super().__init__()
        dim = sizes.dim
        self.offset = nn.Linear(2, dim)
        self.place = nn.Linear(4 * FREQUENCIES, dim)
        self.along = nn.Linear(2 * FREQUENCIES, dim)
        self.level = nn.Sequential(nn.Linear(2 * FREQUENCIES, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.centre = nn.Linear(4 * FREQUENCIES, dim)
        self.blocks = Modules(
            Block(dim, sizes.num_heads, sizes.dropout, cross=True) for _ in range(sizes.decoder_layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, 2)

    def forward(
        self,
        x: Float[Tensor, "b n 2"],
        time: Float[Tensor, " b"],
        centre: Float[Tensor, "b 2"],
        spread: float,
        seen: Seen,
    ) -> Float[Tensor, "b n 2"]:
        """Return the clean offsets; ``x`` are noised ones in units of ``spread``, ``time`` is in [0, 1000)."""
        n = x.shape[1]
        along = torch.arange(n, device=x.device)[:, None] / n
        told = self.level(waves(time[:, None] / 2000)) + self.centre(waves(centre / 2)) + seen.sentence
        y = self.offset(x) + self.place(waves((centre[:, None] + spread * x) / 2)) + self.along(waves(along))
        y = y + told[:, None]
        everywhere = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        cells = torch.ones(seen.tokens.shape[:2], dtype=torch.bool, device=x.device)
        for block in self.blocks:
            y = block(y, everywhere, seen.tokens, cells)
        return self.out(self.norm(y)).float()
