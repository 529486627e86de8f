"""Convolutions over time that never read padding: the gate of a cgMLP, and plain depthwise ones.

Frames behind a recording's end are set to 0 before every convolution, so that a recording alone and in a batch agree
(what espnet's issue 6633 repaired). A causal convolution reads only what was, and can go on from ``past``.

Shapes: b batch, t time, d channels, h hidden channels, k the kernel's size.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.fft import keep

Past = dict[str, Tensor]
"""What a block keeps of the frames before a chunk, by name; empty at the beginning."""


class TimeConvolution(nn.Module):
    """A depthwise convolution over time, of frames that are kept; an odd kernel, or a causal one."""

    def __init__(self, dim: int, kernel_size: int, causal: bool):
        super().__init__()
        self.causal, self.kernel_size = causal, kernel_size
        self.conv = nn.Conv1d(dim, dim, kernel_size, groups=dim)

    def forward(
        self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"], past: Past | None = None, name: str = ""
    ) -> Float[Tensor, "b t d"]:
        """With ``past``, what was kept under ``name`` stands before ``x``, and the end of both is kept."""
        x = keep(x, mask)
        before = self.kernel_size - 1 if self.causal else self.kernel_size // 2
        if past is None:
            return self.conv(F.pad(x.mT, (before, self.kernel_size - 1 - before))).mT
        x = torch.cat([past.get(name, x.new_zeros(len(x), before, x.shape[2])), x], 1)
        past[name] = x[:, x.shape[1] - before :]
        return self.conv(x.mT).mT


class ConvolutionalGate(nn.Module):
    """cgMLP: half of the hidden channels, convolved over time, gates the other half (Sakuma et al., 2022).

    ::

        x ─ Linear ─ GELU ─┬─ half ────────────────────────────────(×)─ Linear ─
                           └─ half ─ LayerNorm ─ depthwise conv k ──┘

    The convolution begins as a constant 1, so that the block begins as a plain feed-forward layer. There is no
    activation behind it.
    """

    def __init__(self, dim: int, hidden_dim: int, kernel_size: int, dropout: float, causal: bool):
        super().__init__()
        self.inside = nn.Linear(dim, hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim // 2)
        self.gate = TimeConvolution(hidden_dim // 2, kernel_size, causal)
        nn.init.normal_(self.gate.conv.weight, std=1e-6)
        assert self.gate.conv.bias is not None
        nn.init.ones_(self.gate.conv.bias)
        self.out = nn.Linear(hidden_dim // 2, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"], past: Past | None = None
    ) -> Float[Tensor, "b t d"]:
        held, gating = F.gelu(self.inside(x)).chunk(2, dim=-1)
        return self.out(self.dropout(held * self.gate(self.norm(gating), mask, past, "gate")))
