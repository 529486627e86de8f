"""A codec's encoder and decoder over samples: strided convolutions, as SEANet, EnCodec and DAC have them.

::

    wave ─ conv ─ [ residual units ─ act ─ conv, stride s ] × S ─ (LSTM) ─ act ─ conv ─ z        channels double
    z ─ conv ─ (LSTM) ─ [ act ─ transposed conv, stride s ─ residual units ] × S ─ act ─ conv ─ wave     and halve

One pair of classes spans the family; ``WaveformSizes`` says which member:

- EnCodec (Défossez et al., arXiv:2210.13438, section 3.1; SEANet, arXiv:2009.02095): ELU, one residual unit of kernel
  3 with half the channels inside and a convolution beside, two LSTM layers, causal, reflected at the start.
- DAC (Kumar et al., arXiv:2306.06546, section 3.1): Snake, residual units of kernel 7 and dilations 1, 3, 9, zeros at
  both ends, tanh at the end, a wider decoder.

What stands beyond an item's length is zeroed before every convolution, so that an item alone and in a padded batch
agree. Causal networks see nothing to the right: a prefix of the wave has a prefix of the vectors. They can go on where
they stopped: a ``past`` keeps, for each layer, the last samples that it has seen.

Shapes: b batch, n samples, t token frames, c, d channels. Masks are True where a token frame is kept.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from unisono.errors import RecipeError, RequestError
from unisono.nn.modules import Modules
from unisono.nn.wide import wide

from unisono_codec.codecs.codec import Decoder, Encoder
from unisono_codec.codecs.streaming import windows

Past = dict[nn.Module, Any]
"""What each layer has seen last: samples, or the state of an LSTM."""


@dataclass(frozen=True)
class WaveformSizes:
    """Sizes of encoders and decoders over samples.

    channels: of the first layer; each stride doubles them (EnCodec: 32, DAC: 64).
    strides: of the encoder; the decoder's are reversed (EnCodec, 24 kHz: 2, 4, 5, 8).
    decoder_channels: of the decoder's first layer (DAC: 1536); 0 takes those of the encoder's last.
    activation: ``elu`` or ``snake``.
    kernel, last_kernel, residual_kernel: of the first layers, of the last ones of encoder and decoder, of the
        residual units (EnCodec: 7, 7, 7, 3; DAC: 7, 3, 7, 7).
    dilations: of a stage's residual units (EnCodec: 1; DAC: 1, 3, 9).
    compress: channels are divided by this inside residual units.
    shortcut: a convolution beside each residual unit, rather than nothing.
    lstm_layers: at the lowest rate; 0 for none.
    causal: nothing is seen to the right.
    padding: what stands before the start (and after the end): ``zeros`` or ``reflect`` (causal only).
    tanh: limits the output.
    short_odd: an odd stride makes a sample less, as in transformers' DAC, rather than whole frames.
    weight_normed: weights are learnt as direction and length (Salimans and Kingma, arXiv:1602.07868).
    """

    channels: int = 64
    strides: tuple[int, ...] = (2, 4, 8, 8)
    decoder_channels: int = 0
    activation: Literal["elu", "snake"] = "snake"
    kernel: int = 7
    last_kernel: tuple[int, int] = (3, 7)
    residual_kernel: int = 7
    dilations: tuple[int, ...] = (1, 3, 9)
    compress: int = 1
    shortcut: bool = False
    lstm_layers: int = 0
    causal: bool = False
    padding: Literal["zeros", "reflect"] = "zeros"
    tanh: bool = True
    short_odd: bool = False
    weight_normed: bool = True

    def __post_init__(self):
        if not self.strides or min(self.strides) < 2:
            message = f"model.waveform.strides={list(self.strides)} must be whole numbers of at least 2"
            raise RecipeError(message, code="range", path="model.waveform.strides", value=self.strides)
        if self.padding == "reflect" and not self.causal:
            message = "model.waveform.padding=reflect needs causal: true; an item's end cannot be mirrored"
            raise RecipeError(message, code="conflict", path="model.waveform.padding", value=self.padding)
        kernels = (self.kernel, self.residual_kernel, *self.last_kernel)
        if not self.causal and any(k % 2 == 0 for k in kernels):
            message = "model.waveform: kernels that are not causal must be odd"
            raise RecipeError(message, code="value", path="model.waveform.kernel", value=kernels)
        wide = self.decoder_channels or self.channels * 2 ** len(self.strides)
        if wide % 2 ** len(self.strides):
            message = (
                f"model.waveform.decoder_channels={wide} must be a multiple of {2 ** len(self.strides)}, "
                f"because {len(self.strides)} strides halve it"
            )
            raise RecipeError(message, code="value", path="model.waveform.decoder_channels", value=wide)

    @property
    def hop_length(self) -> int:
        """Samples per token frame."""
        return math.prod(self.strides)


class WaveformEncoder(Encoder):
    """Waves to vectors; see the module's diagram."""

    reads = "wave"

    def __init__(self, sizes: WaveformSizes, latent_dim: int):
        super().__init__()
        c = sizes.channels
        self.sizes = sizes
        self.first = Conv(sizes, 1, c, sizes.kernel)
        self.stages: Modules[Modules[Any]] = Modules()
        for stride in sizes.strides:
            units = [ResidualUnit(sizes, c, dilation) for dilation in sizes.dilations]
            self.stages.append(Modules([*units, activation(sizes, c), Conv(sizes, c, 2 * c, 2 * stride, stride)]))
            c *= 2
        self.memory = Memory(c, sizes.lstm_layers) if sizes.lstm_layers else None
        self.act = activation(sizes, c)
        self.last = Conv(sizes, c, latent_dim, sizes.last_kernel[0])

    @property
    def causal(self) -> bool:
        """Whether it can go on from a ``past``."""
        return self.sizes.causal

    @property
    def least(self) -> int:
        """Token frames to begin a stream with: those that can be mirrored before the start."""
        longest, rate = 1, 1
        for conv in (m for m in self.modules() if isinstance(m, Conv)):
            longest = max(longest, (conv.left + 1) * rate if conv.reflect else 1)
            rate *= conv.stride
        return -(-longest // self.sizes.hop_length)

    def check_stream(self) -> None:
        """Raise ``RequestError`` where no number of frames is all that is seen."""
        if self.memory is not None and not self.causal:
            message = "a codec with an LSTM that is not causal cannot be streamed: take encode and decode"
            raise RequestError(message, code="unsupported", path="encode_stream")

    @property
    def context(self) -> int:
        """Token frames before one that its vector depends on; more with an LSTM."""
        return -(-self._reach()[0] // self.sizes.hop_length)

    @property
    def lookahead(self) -> int:
        """Token frames after one that its vector depends on."""
        return -(-self._reach()[1] // self.sizes.hop_length)

    def _reach(self) -> tuple[int, int]:
        left, right, rate = 0, 0, 1
        for conv in (m for m in self.modules() if isinstance(m, Conv)):
            left, right = left + conv.left * rate, right + conv.right * rate
            rate *= conv.stride
        return left, right

    def read(self, wave: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """Return the wave as it is."""
        return wave

    def forward(
        self, wave: Float[Tensor, "b n"], mask: Bool[Tensor, "b t"] | None = None, past: Past | None = None
    ) -> Float[Tensor, "b t d"]:
        """Return vectors; with ``past``, those of a wave that goes on where the last one ended (causal only)."""
        counts = None if mask is None else mask.sum(1) * self.sizes.hop_length
        x = self.first(wave[:, None], counts, past)
        for *units, act, down in self.stages:
            for unit in units:
                x = unit(x, counts, past)
            x = down(act(x), counts, past)
            counts = None if counts is None else counts // down.stride
        if self.memory is not None:
            x = self.memory(x, past)
        return wide(self.last(self.act(x), counts, past).mT)


class WaveformDecoder(Decoder):
    """Vectors to waves; see the module's diagram."""

    def __init__(self, sizes: WaveformSizes, latent_dim: int):
        super().__init__()
        c = sizes.decoder_channels or sizes.channels * 2 ** len(sizes.strides)
        self.sizes = sizes
        self.first = Conv(sizes, latent_dim, c, sizes.kernel)
        self.memory = Memory(c, sizes.lstm_layers) if sizes.lstm_layers else None
        self.stages: Modules[Modules[Any]] = Modules()
        for stride in reversed(sizes.strides):
            units = [ResidualUnit(sizes, c // 2, dilation) for dilation in sizes.dilations]
            self.stages.append(Modules([activation(sizes, c), UpConv(sizes, c, c // 2, stride), *units]))
            c //= 2
        self.act = activation(sizes, c)
        self.last = Conv(sizes, c, 1, sizes.last_kernel[1])

    @property
    def causal(self) -> bool:
        """Whether it can go on from a ``past``."""
        return self.sizes.causal

    @property
    def least(self) -> int:
        """Token frames to begin a stream with: those that can be mirrored before the start."""
        longest, rate = 1.0, 1.0
        for layer in (m for m in self.modules() if isinstance(m, Conv | UpConv)):
            if isinstance(layer, UpConv):
                rate /= layer.stride
            elif layer.reflect:
                longest = max(longest, (layer.left + 1) * rate)
        return math.ceil(longest)

    def check_stream(self) -> None:
        """Raise ``RequestError`` where no number of frames is all that is seen."""
        if self.memory is not None and not self.causal:
            message = "a codec with an LSTM that is not causal cannot be streamed: take encode and decode"
            raise RequestError(message, code="unsupported", path="decode_stream")

    @property
    def context(self) -> int:
        """Token frames before one that its samples depend on; more with an LSTM."""
        return math.ceil(self._reach()[0])

    @property
    def lookahead(self) -> int:
        """Token frames after one that its samples depend on."""
        return math.ceil(self._reach()[1])

    def _reach(self) -> tuple[float, float]:
        left, right, rate = 0.0, 0.0, 1.0
        for layer in (m for m in self.modules() if isinstance(m, Conv | UpConv)):
            if isinstance(layer, UpConv):
                left, right = left + rate, right + (0.0 if self.sizes.causal else rate)
                rate /= layer.stride
            else:
                left, right = left + layer.left * rate, right + layer.right * rate
        return left, right

    def forward(
        self, z: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None = None, past: Past | None = None
    ) -> Float[Tensor, "b n"]:
        """Return waves; with ``past``, of vectors that go on where the last ones ended (causal only)."""
        counts = None if mask is None else mask.sum(1)
        if counts is None and self.sizes.short_odd:
            counts = torch.full((len(z),), z.shape[1], device=z.device)
        x = self.first(z.mT, counts, past)
        if self.memory is not None:
            x = self.memory(x, past)
        for act, up, *units in self.stages:
            x = up(act(x), counts, past)
            if counts is not None:
                counts = counts * up.stride - (up.stride % 2 if self.sizes.short_odd else 0)
            for unit in units:
                x = unit(x, counts, past)
        x = wide(only(self.last(self.act(x), counts, past), counts)[:, 0])
        return x.tanh() if self.sizes.tanh else x

    def stream(
        self, chunks: Iterable[Tensor], embed: Callable[[Tensor], Float[Tensor, "b t d"]], block: int
    ) -> Iterator[Float[Tensor, "b n"]]:
        """Turn tokens that come in pieces into waves, ``block`` token frames at once; ``embed`` makes their vectors."""
        past: Past = {}
        if self.causal:
            return windows(chunks, lambda t: self(embed(t), None, past), 0, 0, block=block, least=self.least)
        self.check_stream()
        ahead = self.lookahead + self.sizes.short_odd  # whose windows end in zeros
        return windows(chunks, lambda tokens: self(embed(tokens)), self.context, ahead, block=block)

    def teach(
        self, z: Float[Tensor, "b t d"], batch: dict[str, Any]
    ) -> tuple[Float[Tensor, "b n"], dict[str, tuple[Tensor, Tensor]]]:
        """Return a training batch's waveforms; there are no losses on the way to them."""
        return self(z), {}


class Conv(nn.Module):
    """A convolution that keeps the length (over its stride), and sees zeros beyond each item's end."""

    def __init__(
        self, sizes: WaveformSizes, inward: int, outward: int, kernel: int, stride: int = 1, dilation: int = 1
    ):
        super().__init__()
        self.stride = stride
        self.reach = (kernel - 1) * dilation
        total = self.reach + 1 - stride
        self.left = total if sizes.causal else (self.reach // 2 if stride == 1 else -(-stride // 2))
        self.right = 0 if sizes.causal else (self.reach - self.left if stride == 1 else -(-stride // 2))
        self.reflect = sizes.padding == "reflect"
        conv = nn.Conv1d(inward, outward, kernel, stride, dilation=dilation)
        self.conv = weight_norm(conv) if sizes.weight_normed else conv

    def forward(
        self, x: Float[Tensor, "b c n"], counts: Int[Tensor, "b"] | None, past: Past | None = None
    ) -> Float[Tensor, "b d m"]:
        x = only(x, counts)
        if past is not None and self in past:
            x = torch.cat([past[self], x], dim=-1)
        elif self.reflect and self.left:
            short = max(self.left + 1 - x.shape[-1], 0)  # zeros where there is nothing to mirror
            x = F.pad(F.pad(x, (0, short)), (self.left, 0), mode="reflect")
            x = x[..., : x.shape[-1] - short]
        else:
            x = F.pad(x, (self.left, self.right))
        if past is not None:
            past[self] = x[..., x.shape[-1] - self.left :]
        return self.conv(x)


class UpConv(nn.Module):
    """A transposed convolution of twice its stride: every frame becomes ``stride`` samples, and leans on a neighbour
    (causal) or two."""

    def __init__(self, sizes: WaveformSizes, inward: int, outward: int, stride: int):
        super().__init__()
        self.stride = stride
        self.left = 0 if sizes.causal else -(-stride // 2)
        conv = nn.ConvTranspose1d(inward, outward, 2 * stride, stride)
        self.conv = weight_norm(conv, dim=1) if sizes.weight_normed else conv

    def forward(
        self, x: Float[Tensor, "b c n"], counts: Int[Tensor, "b"] | None, past: Past | None = None
    ) -> Float[Tensor, "b d m"]:
        first, n = self.left, x.shape[-1] * self.stride
        x = only(x, counts)
        if past is not None:
            last = x[..., -1:]
            if self in past:
                x, first = torch.cat([past[self], x], dim=-1), self.stride
            past[self] = last
        return self.conv(x)[..., first : first + n]


class ResidualUnit(nn.Module):
    """``x + conv 1 (act (conv k, dilated (act x)))``, with a convolution beside it where ``shortcut`` says so."""

    def __init__(self, sizes: WaveformSizes, channels: int, dilation: int):
        super().__init__()
        inner = channels // sizes.compress
        self.act_in = activation(sizes, channels)
        self.wide = Conv(sizes, channels, inner, sizes.residual_kernel, dilation=dilation)
        self.act_out = activation(sizes, inner)
        self.point = Conv(sizes, inner, channels, 1)
        self.beside = Conv(sizes, channels, channels, 1) if sizes.shortcut else None

    def forward(
        self, x: Float[Tensor, "b c n"], counts: Int[Tensor, "b"] | None, past: Past | None = None
    ) -> Float[Tensor, "b c n"]:
        made = self.point(self.act_out(self.wide(self.act_in(x), counts, past)), counts, past)
        return made + (x if self.beside is None else self.beside(x, counts, past))


class Snake(nn.Module):
    """``x + sin²(αx) / α`` with a learnt α per channel (Ziyin et al., arXiv:2006.08195)."""

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels, 1))

    def forward(self, x: Float[Tensor, "b c n"]) -> Float[Tensor, "b c n"]:
        return x + (self.alpha + 1e-9).reciprocal() * torch.sin(self.alpha * x).square()


class Memory(nn.Module):
    """LSTM layers with a path around them."""

    def __init__(self, channels: int, num_layers: int):
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, num_layers, batch_first=True)

    def forward(self, x: Float[Tensor, "b c t"], past: Past | None = None) -> Float[Tensor, "b c t"]:
        made, state = self.lstm(x.mT, None if past is None else past.get(self))
        if past is not None:
            past[self] = state
        return made.mT + x


def activation(sizes: WaveformSizes, channels: int) -> nn.Module:
    """Return the activation of so many channels."""
    return nn.ELU() if sizes.activation == "elu" else Snake(channels)


def only(x: Float[Tensor, "b c n"], counts: Int[Tensor, "b"] | None) -> Float[Tensor, "b c n"]:
    """Zero what stands beyond each item's count."""
    if counts is None:
        return x
    return x * (torch.arange(x.shape[-1], device=x.device) < counts[:, None])[:, None]
