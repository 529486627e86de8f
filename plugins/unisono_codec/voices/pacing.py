"""Pacing: how long each symbol of a text lasts, and on which frames of a recording it lies; what a voice needs beside
its tokens.

Shapes: b batch, s symbols, t codec frames, d channels.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.duration import durations_from_log, search
from unisono.errors import RequestError
from unisono.nn.fft import FFTSizes, FFTStack
from unisono.nn.temporal import TemporalPredictor

TYPICAL_FRAMES = 6.0
"""What durations are predicted before anything is learnt: some 70 ms."""


class SymbolDurations(nn.Module):
    """Durations from symbols and speaker: FastSpeech's predictor (arXiv:1905.09263) over an encoder of its own.

    ::

        symbols, speaker ─ embeddings, summed ─ FFT × num_layers ─ temporal predictor ─ log(1 + frames)

    Speaker number ``num_speakers`` is nobody known.
    """

    def __init__(
        self, num_symbols: int, num_speakers: int, dim: int = 128, num_layers: int = 2, dropout: float = 0.1,
        max_frames: float = 100.0,
    ):  # fmt: skip
        super().__init__()
        self.max_frames = max_frames
        self.symbol = nn.Embedding(num_symbols, dim)
        self.speaker = nn.Embedding(num_speakers + 1, dim)
        sizes = FFTSizes(dim=dim, num_heads=2, head_dim=dim // 2, filter_dim=dim, dropout=dropout, norm_first=True)
        self.encoder = FFTStack(num_layers, sizes)
        self.predictor = TemporalPredictor(dim, dim, dropout=dropout)
        nn.init.constant_(self.predictor.out.bias, math.log1p(TYPICAL_FRAMES))

    def forward(
        self, symbols: Int[Tensor, "b s"], mask: Bool[Tensor, "b s"], speaker: Int[Tensor, " b"]
    ) -> Float[Tensor, "b s"]:
        """Return log(1 + frames), 0 on padding."""
        x = self.symbol(symbols) + self.speaker(speaker)[:, None]
        return self.predictor(self.encoder(x, mask), mask)

    @torch.no_grad()
    def predict(self, symbols: Int[Tensor, " s"], speaker: int) -> Float[Tensor, " s"]:
        """Return one text's durations in frames, not rounded."""
        mask = torch.ones_like(symbols, dtype=torch.bool)[None]
        log = self(symbols[None], mask, torch.tensor([speaker], device=symbols.device))
        return durations_from_log(log, self.max_frames)[0]


class PromptAligner(nn.Module):
    """Says which symbol a codec frame belongs to, so that a prompt can be aligned with its text.

    ``conv 5 ─ ReLU ─ conv 5 ─ ReLU ─ Linear``, learnt from the frames whose symbols are known.
    """

    def __init__(self, in_dim: int, num_symbols: int, dim: int = 128):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(size, dim, 5, padding=2) for size in (in_dim, dim))
        self.out = nn.Linear(dim, num_symbols)

    def forward(self, x: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        """Return each frame's logits of the symbols."""
        kept = mask[..., None]
        for conv in self.convs:
            x = F.relu(conv((x * kept).mT).mT)
        return self.out(x)

    @torch.no_grad()
    def align(self, x: Float[Tensor, "t d"], symbols: Int[Tensor, " s"]) -> Int[Tensor, " s"]:
        """Return each symbol's frames, at least one: the likeliest monotonic path.

        Raises ``RequestError`` for fewer frames than symbols.
        """
        if len(symbols) > len(x):
            message = (
                f"the prompt has {len(x)} codec frames, its text {len(symbols)} symbols: is prompt_text what it says?"
            )
            raise RequestError(message, code="conflict", path="prompt_text", value=len(symbols))
        mask = torch.ones(1, len(x), dtype=torch.bool, device=x.device)
        scores = self(x[None], mask).float().log_softmax(-1)[:, :, symbols]
        return search(scores, torch.tensor([len(symbols)]), torch.tensor([len(x)]))[0]
