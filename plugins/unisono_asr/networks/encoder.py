"""Encoder: log mels to steps of 40 ms through a stack of Branchformer blocks, as wholes or chunk by chunk.

Chunk by chunk (``EncoderSizes.chunks``), a step sees its own chunk and some before it, and the convolutions of the
blocks only what was: what a stream gives is what a whole recording gives. A step waits for the end of its chunk.

Shapes: b batch, t mel frames, m mel channels, s steps, d channels.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.errors import UnisonoError
from unisono.nn.fft import keep
from unisono.nn.modules import Modules
from unisono_sound.encoder import Adapt

from unisono_asr.networks.attention import distances
from unisono_asr.networks.branchformer import BLOCKS, Branchformer, EncoderSizes
from unisono_asr.networks.convolution import Past
from unisono_asr.networks.subsampling import BEFORE, Subsampling


class Encoder(nn.Module):
    """::

    mel [b, t, m] ─ conv2d / 4 ─ √d · ─ block × num_blocks ─ LayerNorm ─ [b, s, d]
    """

    def __init__(self, num_mels: int, sizes: EncoderSizes):
        super().__init__()
        self.sizes = sizes
        self.subsample = Subsampling(num_mels, sizes.conv_dim or sizes.dim, sizes.dim)
        self.blocks: Modules[Branchformer] = Modules(BLOCKS[sizes.block](sizes) for _ in range(sizes.num_blocks))
        self.norm = nn.LayerNorm(sizes.dim)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(
        self,
        mel: Float[Tensor, "b t m"],
        lengths: Int[Tensor, " b"],
        layer: int | None = None,
        adapt: Adapt | None = None,
    ) -> tuple[Float[Tensor, "b s d"], Int[Tensor, " b"]]:
        """Return the steps, zeros behind each recording's end, and how many each has.

        ``layer`` gives the output of that block, from 1 on; ``adapt`` adds to what blocks say: see
        ``unisono_sound.encoder``.
        """
        x, steps = self.subsample(mel, lengths)
        size = x.shape[1]
        mask = torch.arange(size, device=x.device) < steps[:, None]
        seen = mask[:, None]
        if self.sizes.chunks.steps:
            seen = seen & in_chunks(size, self.sizes.chunks.steps, self.sizes.chunks.left, x.device)
        x = self._through(x, mask, seen, size, [None] * len(self.blocks), layer, adapt)
        return keep(x, mask), steps

    def _through(
        self,
        x: Float[Tensor, "b s d"],
        mask: Bool[Tensor, "b s"],
        seen: Bool[Tensor, "b q k"],
        num_keys: int,
        pasts: "list[Past | None]",
        layer: int | None = None,
        adapt: Adapt | None = None,
    ) -> Float[Tensor, "b s d"]:
        x = self.dropout(x * math.sqrt(self.sizes.dim))
        places = self.dropout(distances(x.shape[1], num_keys, self.sizes.dim, x.device).to(x.dtype))
        for number, (block, past) in enumerate(zip(self.blocks, pasts, strict=True)):
            made = block(x, mask, places, seen, past)
            x = made if adapt is None else made + adapt(number, x)
            if number + 1 == layer:
                return x
        return self.norm(x)


class EncoderStream:
    """One recording, chunk by chunk: the joined pieces are what ``Encoder`` gives for the whole."""

    def __init__(self, encoder: Encoder):
        if not encoder.sizes.chunks.steps:
            message = "this encoder hears recordings as wholes: train one with model.encoder.chunks.steps above 0"
            raise UnisonoError(message, code="unsupported", path="model.encoder.chunks.steps", value=0)
        self.encoder = encoder
        self.pasts: list[Past | None] = [{} for _ in encoder.blocks]
        self.waiting: Tensor | None = None  # mels from BEFORE frames before the next step on
        self.start = self.heard = self.num_frames = 0

    def push(self, mel: Float[Tensor, "t m"]) -> Float[Tensor, "s d"]:
        """Take more frames, and return the steps of the chunks that are complete."""
        fresh = mel if self.waiting is not None else F.pad(mel, (0, 0, BEFORE, 0))
        self.waiting = fresh if self.waiting is None else torch.cat([self.waiting, fresh])
        self.num_frames += len(mel)
        return self._steps(self.encoder.sizes.chunks.steps, None)

    def flush(self) -> Float[Tensor, "s d"]:
        """Return the last steps: the recording is over."""
        if self.waiting is None:
            raise UnisonoError("flush before any frame was pushed", code="state", path="flush")
        return self._steps(self.encoder.sizes.chunks.steps, self.num_frames)

    def _steps(self, chunk: int, end: int | None) -> Float[Tensor, "s d"]:
        """Hear whole chunks; with ``end``, the frames of the recording, also what is left of one."""
        assert self.waiting is not None
        found = [self.waiting.new_zeros(0, self.encoder.sizes.dim)]
        while True:
            left = -(-self.num_frames // 4) - self.start
            size = chunk if end is None else min(chunk, left)
            need = 4 * size + BEFORE
            if size <= 0 or (end is None and len(self.waiting) < need):
                return torch.cat(found)
            frames = F.pad(self.waiting[:need], (0, 0, 0, max(0, need - len(self.waiting))))
            known = torch.tensor([self.num_frames if end is None else end], device=frames.device)
            found.append(self._chunk(self.encoder.subsample.stretch(frames[None], self.start, known))[0])
            self.waiting = self.waiting[4 * size :]
            self.start += size

    def _chunk(self, x: Float[Tensor, "1 s d"]) -> Float[Tensor, "1 s d"]:
        chunks = self.encoder.sizes.chunks
        mask = torch.ones(1, x.shape[1], dtype=torch.bool, device=x.device)
        num_keys = x.shape[1] + min(self.start, chunks.left * chunks.steps)
        seen = torch.ones(1, 1, num_keys, dtype=torch.bool, device=x.device)
        return self.encoder._through(x, mask, seen, num_keys, self.pasts)


def in_chunks(size: int, chunk: int, left: int, device: torch.device) -> Bool[Tensor, "s s"]:
    """Return whether step i sees step j: j lies in the chunk of i or in one of the ``left`` before it."""
    number = torch.arange(size, device=device) // chunk
    behind = number[:, None] - number
    return (behind >= 0) & (behind <= left)
