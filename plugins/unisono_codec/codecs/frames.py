"""A codec's encoder and decoder at the frame rate: log mels in, log mels out, and a vocoder's network behind them.

Every layer runs at the rate of mel frames or below; only Fourier transforms see samples. That makes training and use
on a CPU some twenty times cheaper than strided convolutions over the waveform. The blocks are Vocos' (Siuzdak,
arXiv:2306.00814); a codec with them is WavTokenizer's idea (Ji et al., arXiv:2408.16532) taken one step further: not
only the decoder but the encoder too works on frames, and the decoder says a mel spectrogram first, which has a loss of
its own and can begin with a vocoder that exists.

Shapes: b batch, n samples, u mel frames, t token frames (u / downsampling), m mel bins, d channels. Masks are True
where a token frame is kept.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from unisono.errors import RecipeError
from unisono.nn.convnext import ConvNeXtBlock
from unisono.nn.wide import wide
from unisono_sound.signal import LogMel, MelSpec

from unisono_codec.codecs.codec import Decoder, Encoder
from unisono_codec.codecs.streaming import windows
from unisono_codec.vocoders.harmonic import HarmonicNet
from unisono_codec.vocoders.vocoder import SILENCE
from unisono_codec.vocoders.vocos import VocosNet

CENTRE, SPREAD = -5.0, 2.5
"""Log mels of speech lie about here: networks begin there, and read and write distances from it."""


@dataclass(frozen=True)
class FrameSizes:
    """Sizes of encoders and decoders at the frame rate.

    downsampling: mel frames per token frame.
    dim, intermediate_dim: channels of the blocks and inside them.
    frame_blocks: ConvNeXt blocks at the rate of mel frames, in the encoder and in the decoder.
    token_blocks: likewise at the rate of tokens.
    head: the network from the mel to the waveform: ``harmonic`` or ``vocos``.
    head_dim, head_intermediate_dim, head_blocks: its sizes, as of ``codec/vocos``.
    """

    downsampling: int = 2
    dim: int = 256
    intermediate_dim: int = 768
    frame_blocks: int = 2
    token_blocks: int = 4
    head: Literal["vocos", "harmonic"] = "vocos"
    head_dim: int = 256
    head_intermediate_dim: int = 768
    head_blocks: int = 8

    def __post_init__(self):
        if self.downsampling < 1:
            message = f"model.frames.downsampling={self.downsampling} must be at least 1"
            raise RecipeError(message, code="range", path="model.frames.downsampling", value=self.downsampling)


class FrameEncoder(Encoder):
    """Log mels to vectors.

    ::

        wave ─ log mel ─┬─ conv 7 ─ norm ─ N × ConvNeXt ─ stack s frames, Linear ─ M × ConvNeXt ─ norm ─ Linear ─┐
                        └──────────────────────── stack s frames, Linear ────────────────────────────────────── (+)

    The way past the layers begins as an isometry: before anything is learnt, vectors are the mel itself, low bins
    first, and so groups of channels are bands.
    """

    reads = "mel"

    def __init__(self, spec: MelSpec, sizes: FrameSizes, latent_dim: int):
        super().__init__()
        dim, inner = sizes.dim, sizes.intermediate_dim
        self.downsampling = sizes.downsampling
        self.log_mel = LogMel(spec)
        self.embed = nn.Conv1d(spec.n_mels, dim, 7, padding=3)
        self.embed_norm = nn.LayerNorm(dim, eps=1e-6)
        scale = 1 / (sizes.frame_blocks + sizes.token_blocks or 1)
        self.frame_blocks = _blocks(sizes.frame_blocks, dim, inner, scale)
        self.down = nn.Linear(dim * sizes.downsampling, dim)
        self.token_blocks = _blocks(sizes.token_blocks, dim, inner, scale)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.out = nn.Linear(dim, latent_dim)
        _initialise(self)
        self.past = _isometry(spec.n_mels * sizes.downsampling, latent_dim)

    @property
    def context(self) -> int:
        """Token frames on each side that a vector depends on, the windows of the mels included."""
        mel_frames = 3 * (1 + len(self.frame_blocks)) + 1 + max(self.log_mel.context) // self.log_mel.spec.hop_length
        return 3 * len(self.token_blocks) + -(-mel_frames // self.downsampling)

    def check_stream(self) -> None:
        """What it sees has an end: it can be streamed."""

    @property
    def lookahead(self) -> int:
        """Of these, the frames that lie ahead."""
        return self.context

    def read(self, wave: Float[Tensor, "b n"]) -> Float[Tensor, "b u m"]:
        """Return the log mel, with silence before and after."""
        return self.log_mel(wave, pad_mode="constant")

    def forward(self, mel: Float[Tensor, "b u m"], mask: Bool[Tensor, "b t"] | None = None) -> Float[Tensor, "b t d"]:
        kept = None if mask is None else mask.repeat_interleave(self.downsampling, dim=1)
        past = rearrange((mel - CENTRE) / SPREAD, "b (t k) m -> b t (m k)", k=self.downsampling)  # low bins first
        x = (mel - SILENCE) / -SILENCE  # zero padding is silence
        if kept is not None:
            x = x * kept[..., None]
        x = self.embed_norm(self.embed(x.mT).mT)
        for block in self.frame_blocks:
            x = block(x, kept)
        x = self.down(rearrange(x, "b (t k) d -> b t (k d)", k=self.downsampling))
        for block in self.token_blocks:
            x = block(x, mask)
        with torch.autocast(x.device.type, enabled=False):
            return self.past(wide(past)) + self.out(self.norm(wide(x)))


class FrameDecoder(Decoder):
    """Vectors to a log mel, and on to the waveform.

    ::

        z ─┬─ Linear ─ norm ─ M × ConvNeXt ─ Linear, unstack s frames ─ N × ConvNeXt ─ norm ─ Linear ─┐
           └──────────────────── Linear, unstack s frames ────────────────────────────────────────── (+) ─ log mel
                                                                                          log mel ─ head ─ wave
    """

    def __init__(self, spec: MelSpec, sizes: FrameSizes, latent_dim: int):
        super().__init__()
        dim, inner = sizes.dim, sizes.intermediate_dim
        self.downsampling = sizes.downsampling
        self.embed = nn.Linear(latent_dim, dim)
        self.embed_norm = nn.LayerNorm(dim, eps=1e-6)
        scale = 1 / (sizes.frame_blocks + sizes.token_blocks or 1)
        self.token_blocks = _blocks(sizes.token_blocks, dim, inner, scale)
        self.up = nn.Linear(dim, dim * sizes.downsampling)
        self.frame_blocks = _blocks(sizes.frame_blocks, dim, inner, scale)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.out = nn.Linear(dim, spec.n_mels)
        _initialise(self)
        self.past = _isometry(latent_dim, spec.n_mels * sizes.downsampling)
        head = HarmonicNet if sizes.head == "harmonic" else VocosNet
        self.head: VocosNet = head(spec, sizes.head_dim, sizes.head_intermediate_dim, sizes.head_blocks)

    @property
    def context(self) -> int:
        """Token frames on each side that the mel of a token frame depends on; the head's come on top."""
        return 3 * len(self.token_blocks) + -(-3 * len(self.frame_blocks) // self.downsampling)

    def mel(self, z: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None = None) -> Float[Tensor, "b u m"]:
        """Return the log mel that the vectors stand for."""
        kept = None if mask is None else mask.repeat_interleave(self.downsampling, dim=1)
        x = self.embed_norm(self.embed(z))
        for block in self.token_blocks:
            x = block(x, mask)
        x = rearrange(self.up(x), "b t (k d) -> b (t k) d", k=self.downsampling)
        for block in self.frame_blocks:
            x = block(x, kept)
        with torch.autocast(x.device.type, enabled=False):
            past = rearrange(self.past(wide(z)), "b t (m k) -> b (t k) m", k=self.downsampling)
            return CENTRE + SPREAD * (past + self.out(self.norm(wide(x))))

    def forward(self, z: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None = None) -> Float[Tensor, "b n"]:
        lengths = None if mask is None else mask.sum(1) * self.downsampling
        return self.head(self.mel(z, mask), lengths)

    def stream(
        self, chunks: Iterable[Tensor], embed: Callable[[Tensor], Float[Tensor, "b t d"]], block: int
    ) -> Iterator[Float[Tensor, "b n"]]:
        """Turn tokens that come in pieces into waves, ``block`` token frames at once; ``embed`` makes their vectors."""
        sees = self.context, self.context
        return self.head.stream(windows(chunks, lambda tokens: self.mel(embed(tokens)), *sees, block=block))

    def teach(
        self, z: Float[Tensor, "b t d"], batch: dict[str, Any]
    ) -> tuple[Float[Tensor, "b n"], dict[str, tuple[Tensor, Tensor]]]:
        """Return a training batch's waveforms, and losses of what they are made from: values and where they count."""
        mel = self.mel(z)
        wave, beside = self.head.teach({**batch, "mel": mel})
        return wave, {**self._spectrogram(mel, batch), **beside}

    def teach_mel(self, z: Float[Tensor, "b t d"], batch: dict[str, Any]) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the loss of the mel alone; the head rests."""
        return self._spectrogram(self.mel(z), batch)

    def _spectrogram(self, mel: Float[Tensor, "b u m"], batch: dict[str, Any]) -> dict[str, tuple[Tensor, Tensor]]:
        distance = (mel - batch["mel"]).abs().mean(-1)
        return {"spectrogram": (distance, torch.ones_like(distance, dtype=torch.bool))}


def _blocks(count: int, dim: int, intermediate_dim: int, layer_scale: float) -> nn.ModuleList:
    return nn.ModuleList(ConvNeXtBlock(dim, intermediate_dim, layer_scale=layer_scale) for _ in range(count))


def _initialise(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv1d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _isometry(wide: int, narrow: int) -> nn.Linear:
    """A map that changes no length, as far as there is room; the identity between equals."""
    linear = nn.Linear(wide, narrow)
    with torch.no_grad():
        if wide == narrow:
            linear.weight.copy_(torch.eye(wide))
        else:
            nn.init.orthogonal_(linear.weight)
        linear.bias.zero_()
    return linear
