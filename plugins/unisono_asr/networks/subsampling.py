"""Subsampling: four mel frames to a step, by two convolutions over time and frequency (conv2d/4).

Each has stride 2 and a kernel of 3. Step j reads its own frames, 4j to 4j + 3, and 3 before them; what lies outside of
a recording is 0 before each convolution, whether it is padding of the batch or of the convolution. espnet's pads
nothing, so that its steps lie 3 frames later.

Shapes: b batch, t mel frames, m mel channels, s = ⌈t / 4⌉ steps, d channels.
"""

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

BEFORE = 3
"""Frames that a step reads before its own four."""


class Subsampling(nn.Module):
    """``[b, t, m]`` to ``[b, s, d]``."""

    def __init__(self, num_mels: int, conv_dim: int, dim: int):
        super().__init__()
        self.first = nn.Conv2d(1, conv_dim, 3, stride=2)
        self.second = nn.Conv2d(conv_dim, conv_dim, 3, stride=2)
        self.out = nn.Linear(conv_dim * (((num_mels - 1) // 2 - 1) // 2), dim)

    def forward(
        self, mel: Float[Tensor, "b t m"], lengths: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b s d"], Int[Tensor, " b"]]:
        """Return steps, zeros behind each recording's end, and how many each has."""
        steps = -(-mel.shape[1] // 4)
        padded = F.pad(mel, (0, 0, BEFORE, 4 * steps - mel.shape[1]))
        return self.stretch(padded, 0, lengths), -(-lengths // 4)

    def stretch(self, mel: Float[Tensor, "b t m"], start: int, lengths: Int[Tensor, " b"]) -> Float[Tensor, "b s d"]:
        """Return the steps from ``start`` on, of mels that begin ``BEFORE`` frames before these and end with what the
        last of them reads, 4 s + 3 frames; of those from ``lengths`` on nothing is read."""
        x = mel[:, None] * inside(mel.shape[1], 4 * start - BEFORE, lengths)
        x = F.relu(self.first(x))
        x = x * inside(x.shape[2], 2 * start - 1, -(-lengths // 2))
        x = F.relu(self.second(x))
        x = self.out(rearrange(x, "b c s m -> b s (c m)"))
        return x * inside(x.shape[1], start, -(-lengths // 4))[:, 0]


def inside(size: int, start: int, lengths: Int[Tensor, " b"]) -> Float[Tensor, "b 1 t 1"]:
    """Return 1 for the places from ``start`` on that lie in [0, length), else 0."""
    place = torch.arange(start, start + size, device=lengths.device)
    return ((place >= 0) & (place < lengths[:, None])).float()[:, None, :, None]
