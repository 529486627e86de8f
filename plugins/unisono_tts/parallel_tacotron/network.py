"""Network: Parallel Tacotron's text encoder, durations, upsampling by repetition, and iterative decoder.

Shapes: b batch, s symbols, t frames, m mel bins, d channels, n blocks. Masks are True where a position is kept.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.duration import Alignment
from unisono.nn.fft import FFTStack, keep, position_code
from unisono.nn.lconv import LConvBlock, LConvStack
from unisono.nn.modules import Modules

from unisono_tts.parallel_tacotron.sizes import TacotronSizes

INITIAL_FRAMES = 6.0
"""How long symbols last before anything is learnt: about what they do in read speech, 86 frames a second."""
LONGEST_POSITION = 1000
"""Positions in a symbol and durations are coded up to so many frames; longer ones are coded as this."""


class TextEncoder(nn.Module):
    """``encoder_convs`` × (conv ─ ReLU ─ LayerNorm ─ dropout), then transformer blocks with sinusoidal positions."""

    def __init__(self, sizes: TacotronSizes):
        super().__init__()
        dim, count = sizes.dim, sizes.encoder_convs
        self.convs = Modules(nn.Conv1d(dim, dim, 5, padding=2) for _ in range(count))
        self.norms = Modules(nn.LayerNorm(dim) for _ in range(count))
        self.blocks = FFTStack(sizes.encoder_layers, sizes.transformer())
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, x: Float[Tensor, "b s d"], mask: Bool[Tensor, "b s"]) -> Float[Tensor, "b s d"]:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.dropout(norm(F.relu(conv(keep(x, mask).mT)).mT))
        return self.blocks(x, mask)


class DurationDecoder(nn.Module):
    """Lightweight convolutions, whose output is also what learned upsampling reads, and a duration of each symbol."""

    def __init__(self, sizes: TacotronSizes):
        super().__init__()
        self.blocks = LConvStack(sizes.duration_layers, sizes.lconv(sizes.duration_kernel_size))
        self.out = nn.Linear(sizes.dim, 1)
        nn.init.constant_(self.out.bias, INITIAL_FRAMES)  # softplus of 6 is 6.002

    def forward(
        self, x: Float[Tensor, "b s d"], mask: Bool[Tensor, "b s"]
    ) -> tuple[Float[Tensor, "b s d"], Float[Tensor, "b s"]]:
        """Return vectors, and durations in frames, above 0; 0 on padding."""
        x = self.blocks(x, mask)
        return x, F.softplus(self.out(x).squeeze(-1).float()) * mask


class RepeatUpsampling(nn.Module):
    """Each symbol for as many frames as it lasts, and three signals of where in it a frame is.

    They are the sinusoidal code of the frame's place in the symbol, that of the symbol's duration, and the fraction of
    the symbol that is over, from a linear layer.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.signals = nn.Linear(2 * dim + 1, dim)
        self.dim = dim

    def forward(self, x: Float[Tensor, "b s d"], alignment: Alignment) -> Float[Tensor, "b t d"]:
        elapsed, fraction = alignment.positions(("elapsed", "fraction")).unbind(-1)
        lasting = alignment.expand(alignment.durations)
        codes = [self.code(elapsed.floor().long()), self.code(lasting), fraction[..., None].to(x)]
        return keep(alignment.expand(x) + self.signals(torch.cat(codes, -1)), alignment.tgt_mask)

    def code(self, frames: Int[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        """Return the sinusoidal code of numbers of frames."""
        table = position_code(torch.arange(LONGEST_POSITION + 1, device=frames.device), self.dim)
        return table[frames.clamp(0, LONGEST_POSITION)]


class IterativeDecoder(nn.Module):
    """Blocks of lightweight convolutions, each with a projection of its own to a mel spectrogram."""

    def __init__(self, sizes: TacotronSizes, n_mels: int):
        super().__init__()
        block = sizes.lconv(sizes.decoder_kernel_size)
        self.blocks = Modules(LConvBlock(block) for _ in range(sizes.decoder_layers))
        self.norm = nn.LayerNorm(sizes.dim) if sizes.norm_first else nn.Identity()
        self.to_mel = Modules(nn.Linear(sizes.dim, n_mels) for _ in range(sizes.decoder_layers))

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> list[Float[Tensor, "b t m"]]:
        """Return the mel spectrogram of each block, the last one last; 0 on padding."""
        mels = []
        for block, to_mel in zip(self.blocks, self.to_mel, strict=True):
            x = block(x, mask)
            mels.append(keep(to_mel(self.norm(x)), mask))
        return mels
