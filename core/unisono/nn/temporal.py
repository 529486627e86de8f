"""The temporal predictor: one number per position, from convolutions.

FastSpeech (arXiv:1905.09263) §3.3 predicts durations with it, FastPitch (arXiv:2006.06873) §2.1 pitch and
energy as well. Difference: padding is zeroed before every convolution.

Shapes: b batch, t time, d channels.
"""

from itertools import pairwise

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from unisono.nn.fft import keep


class TemporalPredictor(nn.Module):
    """``num_layers`` × (conv ─ ReLU ─ LayerNorm ─ dropout) ─ Linear to a scalar, 0 on padding."""

    def __init__(
        self, dim: int, filter_dim: int = 256, kernel_size: int = 3, num_layers: int = 2, dropout: float = 0.1
    ):
        super().__init__()
        sizes = [dim] + [filter_dim] * num_layers
        self.convs = nn.ModuleList(nn.Conv1d(a, b, kernel_size, padding=kernel_size // 2) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(nn.LayerNorm(filter_dim) for _ in range(num_layers))
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(filter_dim, 1)

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b t"]:
        """``mask`` is None where nothing is padding."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.dropout(norm(F.relu(conv(keep(x, mask).mT)).mT))
        return keep(self.out(x), mask).squeeze(-1)
