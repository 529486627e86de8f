"""Decoder: the U-Net over frames that answers with the flow (Matcha-TTS, arXiv:2309.03199, §3.2).

::

    x, µ, speaker ─ level ─┬─ half the frames ─ … ─ middle ─ … ─ twice the frames ─ level ─ conv block ─ conv 1 ─ mel
                           └────────────────────────── skip ────────────────────────┘
    level = residual block ─ transformer blocks; the time, through an MLP, goes to every residual block

Frames are filled up to a multiple of the deepest level's and cut again; nothing reads the filling.

Shapes: b batch, c channels, t frames, m mel bins, k channels of the time embedding. Masks are True where kept.
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.modules import Modules

from unisono_tts.matcha.blocks import ConvBlock, ResidualBlock, TransformerBlock
from unisono_tts.matcha.sizes import FieldSizes
from unisono_tts.time_code import time_code


class Level(nn.Module):
    """A residual block, transformer blocks behind it, and what goes on to the next level, if anything."""

    def __init__(self, dim: int, dim_out: int, time_dim: int, sizes: FieldSizes, onward: nn.Module | None = None):
        super().__init__()
        self.residual = ResidualBlock(dim, dim_out, time_dim, sizes.norm_groups)
        self.blocks = Modules(
            TransformerBlock(dim_out, sizes.num_heads, sizes.head_dim, sizes.dropout)
            for _ in range(sizes.blocks_per_level)
        )
        self.onward = onward

    def forward(
        self, x: Float[Tensor, "b c t"], mask: Bool[Tensor, "b t"], time: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b d t"]:
        x = rearrange(self.residual(x, mask, time), "b c t -> b t c")
        for block in self.blocks:
            x = block(x, mask)
        return rearrange(x, "b t c -> b c t") * mask[:, None]


class Decoder(nn.Module):
    """The field of the flow.

    Args:
        condition_dim: channels of what is given beside the state: the mean mel, and the speaker where there are some.
        n_mels: m.
    """

    def __init__(self, condition_dim: int, n_mels: int, sizes: FieldSizes):
        super().__init__()
        channels, dim = sizes.channels, n_mels + condition_dim
        time_dim = 4 * channels[0]
        self.time_code = dim + dim % 2
        self.time_in, self.time_out = nn.Linear(self.time_code, time_dim), nn.Linear(time_dim, time_dim)
        self.halvings = len(channels) - 1

        def same(count: int) -> nn.Module:
            return nn.Conv1d(count, count, 3, padding=1)

        ins = (dim, *channels[:-1])
        self.down = Modules(
            Level(a, b, time_dim, sizes, same(b) if i == self.halvings else nn.Conv1d(b, b, 3, 2, 1))
            for i, (a, b) in enumerate(zip(ins, channels, strict=True))
        )
        self.mid = Modules(Level(channels[-1], channels[-1], time_dim, sizes) for _ in range(sizes.mid_levels))
        outs = (*channels[-2::-1], channels[0])
        self.up = Modules(
            Level(2 * a, b, time_dim, sizes, same(b) if i == self.halvings else nn.ConvTranspose1d(b, b, 4, 2, 1))
            for i, (a, b) in enumerate(zip(channels[::-1], outs, strict=True))
        )
        self.last = ConvBlock(channels[0], channels[0], sizes.norm_groups)
        self.to_mel = nn.Conv1d(channels[0], n_mels, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(
        self,
        x: Float[Tensor, "b t m"],
        time: Float[Tensor, " b"],
        condition: Float[Tensor, "b t c"],
        mask: Bool[Tensor, "b t"],
    ) -> Float[Tensor, "b t m"]:
        """Return the flow at times in [0, 1], 1 the noise; 0 beyond an item's frames."""
        time = self.time_out(F.silu(self.time_in(time_code(time, self.time_code))))
        frames, multiple = x.shape[1], 2**self.halvings
        filling = -frames % multiple
        state = F.pad(rearrange(torch.cat([x, condition], -1), "b t c -> b c t"), (0, filling))
        masks, skips = [F.pad(mask, (0, filling))], []
        for level in self.down:
            state = level(state, masks[-1], time)
            skips.append(state)
            state = _next(level)(state)
            masks.append(masks[-1][:, :: 1 if len(masks) > self.halvings else 2])
        masks.pop()
        for level in self.mid:
            state = level(state, masks[-1], time)
        inside = masks[-1]
        for level in self.up:
            inside = masks.pop()
            state = _next(level)(level(torch.cat([state, skips.pop()], 1), inside, time))
        mel = self.to_mel(self.last(state, inside)) * inside[:, None]
        return rearrange(mel, "b m t -> b t m")[:, :frames]


def _next(level: Level) -> nn.Module:
    assert level.onward is not None  # all but those in the middle have one
    return level.onward
