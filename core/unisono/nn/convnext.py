"""ConvNeXt: the one-dimensional block, for sequences of any length.

Liu et al., "A ConvNet for the 2020s" (arXiv:2201.03545), in the form that Vocos (arXiv:2306.00814)
uses. Differences: channels stay last, so that only the depthwise convolution sees another layout;
and positions outside a mask are zeroed before the convolution, so that padding never leaks into an
item.

Shapes: b batch, t time, d channels. Masks are True where a position is kept.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class ConvNeXtBlock(nn.Module):
    """Mix over time within each channel, then over channels at each time, and add the result.

    ::

        x ─┬─ mask ─ depthwise conv ─ LayerNorm ─ Linear ─ GELU ─ Linear ─ · γ ─ (+) ─
           └──────────────────────────────────────────────────────────────────────┘

    ``layer_scale`` is where the learned gain γ starts; Vocos takes 1 / number of blocks.
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        kernel_size: int = 7,
        layer_scale: float = 1.0,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.depthwise = nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.expand = nn.Linear(dim, hidden_dim)
        self.project = nn.Linear(hidden_dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.gain = nn.Parameter(torch.full((dim,), layer_scale))

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None = None) -> Float[Tensor, "b t d"]:
        residual = x
        if mask is not None:
            x = x * mask[..., None]
        x = self.depthwise(x.mT).mT
        x = self.project(nn.functional.gelu(self.expand(self.norm(x))))
        return residual + self.dropout(self.gain * x)
