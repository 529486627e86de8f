"""WaveGrad's U-Net: what WaveFit asks at each step for the noise that is left in a waveform.

Chen et al., "WaveGrad: Estimating gradients for waveform generation" (arXiv:2009.00713), its Base model::

    iterate ─ conv 5 ──────── down ─────────── down ── … ─┐        each block of the lower row is told
        │                      │                 │       FiLM      of the iterate at its own rate
      (FiLM)                  FiLM              FiLM      │
        │                      │                 │        │
    noise ─ conv 3 ─ up ── … ─ up ───────────── up ────── up ─ conv 3 ─ log mel

        up    x ─ leaky ─ repeat ─ conv ─ FiLM, leaky ─ conv ─(+)─ FiLM, leaky ─ conv ─ FiLM, leaky ─ conv ─(+)─
              └─ conv 1 ─ repeat ──────────────────────────────┘ └──────────────────────────────────────────┘
        down  x ─ strided conv ─ 3 × (leaky, conv, dilations 1, 2, 4) ─(+)─
              └─ conv 1 ─ strided conv ─────────────────────────────┘
        FiLM  x ─ conv 3 ─ leaky ─ (+ step) ─ conv 3 ─ shift, scale

Where the paper leaves room: a strided convolution has as many taps as its stride, made odd, and its block widens in the
last of its three convolutions, which makes 15.5 million weights of the 15 million that the paper states. What stands
beyond an item's end is zeroed before every convolution.

Shapes: b batch, t frames, n samples, c channels; r steps at a rate between those of frames and samples.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.modules import Modules
from unisono.nn.wide import wide

from unisono_codec.vocoders.wavefit_sizes import WaveFitSizes

SLOPE = 0.2
STEPS = 5000.0
"""How far apart the first and the last step are told, in the positions of a Transformer."""
Mask = Bool[Tensor, "b 1 r"] | None


class UNet(nn.Module):
    """Frames and an iterate to the noise that is left in it; see the module's diagram."""

    def __init__(self, n_mels: int, factors: Sequence[int], sizes: WaveFitSizes, num_steps: int):
        super().__init__()
        ups, downs = sizes.up_channels, (sizes.first_channels, *sizes.down_channels)
        self.repeat, self.factors = sizes.repeat, tuple(factors)
        self.listen = conv(n_mels, sizes.mel_channels, 3)
        self.first = conv(1, downs[0], 5)
        self.downs = Modules(
            Down(downs[i], downs[i + 1], factor) for i, factor in enumerate(reversed(self.factors[1:]))
        )
        film = Shift if sizes.lean else FiLM
        self.films = Modules(film(c, ups[-1 - i], num_steps) for i, c in enumerate(downs) if i or not sizes.lean)
        widths = (sizes.mel_channels, *ups)
        self.ups = Modules(
            Up(widths[i], widths[i + 1], factor, (1, 2, 1, 2) if i < 2 else (1, 2, 4, 8))
            for i, factor in enumerate(self.factors)
        )
        self.last = conv(ups[-1], 1, 3)

    def forward(
        self,
        wave: Float[Tensor, "b n"],
        mel: Float[Tensor, "b t m"],
        step: int,
        frames: Bool[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b n"]:
        """Return the noise, in float32, of step number ``step``; where ``frames`` do not hold, it is zero."""
        rates = [self.repeat]
        for factor in self.factors:
            rates.append(rates[-1] * factor)
        masks: list[Mask] = [
            None if frames is None else frames[:, None].repeat_interleave(rate, dim=-1) for rate in rates
        ]
        x = masked(self.first(wave[:, None]), masks[-1])
        seen = [x]
        for down, mask in zip(self.downs, reversed(masks[1:-1]), strict=True):
            seen.append(x := down(x, mask))
        told: list[Modulation] = [
            film(x, step, mask)
            for film, x, mask in zip(self.films, seen[-len(self.films) :], self._film_masks(masks), strict=True)
        ]
        if len(told) < len(self.ups):
            told.insert(0, (None, None))
        x = self.listen(mel.mT if frames is None else mel.mT.masked_fill(~frames[:, None], 0.0))
        x = masked(x.repeat_interleave(self.repeat, dim=-1), masks[0])
        for up, modulation, mask in zip(self.ups, reversed(told), masks[1:], strict=True):
            x = up(x, modulation, mask)
        # In bfloat16 a waveform would have a floor of noise 50 dB below its peaks.
        with torch.autocast(wave.device.type, enabled=False):
            return masked(self.last(wide(x)), masks[-1])[:, 0]

    def _film_masks(self, masks: list[Mask]) -> list[Mask]:
        finest_first = masks[:0:-1]
        return finest_first[len(finest_first) - len(self.films) :]


Modulation = tuple[Float[Tensor, "b c r"] | None, Float[Tensor, "b c r"] | None]
"""A shift and a scale; None where there is none."""


class FiLM(nn.Module):
    """What the iterate says at one rate: a shift and a scale for a block (Perez et al., arXiv:1709.07871)."""

    places: Tensor

    def __init__(self, channels: int, out_channels: int, num_steps: int):
        super().__init__()
        self.inside = conv(channels, channels, 3)
        self.shift = conv(channels, out_channels, 3)
        for layer in (self.inside, self.shift):
            nn.init.xavier_uniform_(layer.weight)
        self.register_buffer("places", step_places(channels, num_steps), persistent=False)
        self.rest(channels, out_channels)

    def rest(self, channels: int, out_channels: int) -> None:
        """Make the layers in which the kinds of modulation differ."""
        self.scale = conv(channels, out_channels, 3)
        nn.init.xavier_uniform_(self.scale.weight)

    def heard(self, x: Float[Tensor, "b c r"], place: Float[Tensor, " c"], mask: Mask) -> Float[Tensor, "b c r"]:
        """Return what shift and scale are made of."""
        return masked(F.leaky_relu(self.inside(x), SLOPE) + place[:, None], mask)

    def forward(self, x: Float[Tensor, "b c r"], step: int, mask: Mask) -> Modulation:
        x = self.heard(x, self.places[step], mask)
        return self.shift(x), self.scale(x)


class Shift(FiLM):
    """A shift alone, as in Miipher-2; the step is told through a matrix."""

    def rest(self, channels: int, out_channels: int) -> None:
        self.tell = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.tell.weight)
        nn.init.zeros_(self.tell.bias)

    def forward(self, x: Float[Tensor, "b c r"], step: int, mask: Mask) -> Modulation:
        return self.shift(self.heard(x, self.tell(self.places[step]), mask)), None


class Up(nn.Module):
    """A block that multiplies the rate; ``dilations`` are those of its four convolutions."""

    def __init__(self, channels: int, out_channels: int, factor: int, dilations: Sequence[int]):
        super().__init__()
        self.factor = factor
        self.beside = conv(channels, out_channels, 1)
        widths = (channels, *[out_channels] * 4)
        self.convs = Modules(conv(widths[i], widths[i + 1], 3, dilation=d) for i, d in enumerate(dilations))

    def forward(self, x: Float[Tensor, "b c s"], modulation: Modulation, mask: Mask) -> Float[Tensor, "b c r"]:
        # A matrix over channels and repeating commute: the matrix comes where there are fewer steps.
        beside = self.beside(x).repeat_interleave(self.factor, dim=-1)
        h = self.convs[0](F.leaky_relu(x, SLOPE).repeat_interleave(self.factor, dim=-1))
        x = beside + self.convs[1](modulated(h, modulation, mask))
        h = self.convs[2](modulated(x, modulation, mask))
        return masked(x + self.convs[3](modulated(h, modulation, mask)), mask)


class Down(nn.Module):
    """A block that divides the rate."""

    def __init__(self, channels: int, out_channels: int, factor: int):
        super().__init__()
        taps = factor // 2 * 2 + 1
        self.beside = Modules([conv(channels, channels, 1), conv(channels, out_channels, taps, stride=factor)])
        self.shrink = conv(channels, channels, taps, stride=factor)
        widths = (channels, channels, channels, out_channels)
        self.convs = Modules(conv(widths[i], widths[i + 1], 3, dilation=d) for i, d in enumerate((1, 2, 4)))

    def forward(self, x: Float[Tensor, "b c s"], mask: Mask) -> Float[Tensor, "b c r"]:
        finer = None if mask is None else mask.repeat_interleave(x.shape[-1] // mask.shape[-1], dim=-1)
        beside = self.beside[1](masked(self.beside[0](x), finer))
        x = self.shrink(x)
        for layer in self.convs:
            x = layer(masked(F.leaky_relu(x, SLOPE), mask))
        return masked(x + beside, mask)


def conv(channels: int, out_channels: int, taps: int, stride: int = 1, dilation: int = 1) -> nn.Conv1d:
    """Make a convolution that keeps the number of steps, or divides it by its stride, initialised as published."""
    layer = nn.Conv1d(channels, out_channels, taps, stride, dilation * (taps - 1) // 2, dilation)
    nn.init.orthogonal_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def masked(x: Float[Tensor, "b c r"], mask: Mask) -> Float[Tensor, "b c r"]:
    """Return ``x`` with zeros where the mask does not hold; None holds everywhere."""
    return x if mask is None else x.masked_fill(~mask, 0.0)


def modulated(x: Float[Tensor, "b c r"], modulation: Modulation, mask: Mask) -> Float[Tensor, "b c r"]:
    """Scale and shift, then leaky ReLU."""
    shift, scale = modulation
    if scale is not None:
        x = x * scale
    if shift is not None:
        x = x + shift
    return masked(F.leaky_relu(x, SLOPE), mask)


def step_places(channels: int, num_steps: int) -> Float[Tensor, "k c"]:
    """Return sines and cosines that tell each of k steps: positions from 0 to 5,000, evenly."""
    place = torch.linspace(0.0, STEPS, num_steps, dtype=torch.float64)
    half = channels // 2
    angle = place[:, None] * torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float64) / half)
    return torch.cat([angle.sin(), angle.cos()], dim=-1).float()
