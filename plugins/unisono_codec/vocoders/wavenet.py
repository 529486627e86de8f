"""WaveNet from noise: the generator of Parallel WaveGAN, a stack of dilated convolutions at the sample rate.

Yamamoto, Song and Kim, "Parallel WaveGAN: A fast waveform generation model based on generative adversarial networks
with multi-resolution spectrogram" (arXiv:1910.11480), section 2. All samples are made at once, from Gaussian noise
and from the mel, which is brought to the sample rate by repeating and smoothing it, factor by factor.

Differences, none of which changes what the network can say: the upsampling, which treats all channels alike and is
linear, comes after each layer's own matrix instead of before it, so that these matrices work at the frame rate, and its
factors are multiplied out into one filter (``MelUpsample``); beyond the ends the mel is silent and samples are zero,
in batches too; the last layer has no residual output, which nobody would read; zero means silence in the mel, rather
than its mean; the noise is a function of the sample's number and the item's seed, so that a waveform is the same alone,
in a batch and in pieces. Weight norm stays in place in exports: making all weights takes 2 ms of a CPU core, per call.

Shapes: b batch, t frames, n samples (t · hop), m mel bins, c channels, k frames that a frame's samples are made of.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from unisono.errors import RecipeError
from unisono.nn.modules import Modules
from unisono_sound.signal import MelSpec

from unisono_codec.vocoders.noise import gaussian_noise
from unisono_codec.vocoders.sizes import WaveNetSizes
from unisono_codec.vocoders.vocoder import SILENCE


class WaveNet(nn.Module):
    """The generator.

    ::

        log mel ─ conv 5 ─┬───────────┬── … ─┐  matrix, upsample
        noise ─ conv 1 ─ layer ─── layer ─ … layer
                          └─ skips ─ (+) ─ … (+) ─ ReLU ─ conv 1 ─ ReLU ─ conv 1 ─ samples

        layer: conv 3, dilated ─ (+ mel) ─ tanh · σ ─┬─ conv 1 ─ residual
                                                     └─ conv 1 ─ skip
    """

    def __init__(self, mel_spec: MelSpec, sizes: WaveNetSizes = WaveNetSizes()):  # noqa: B008
        super().__init__()
        num_layers, num_stacks, upsample_factors = sizes.num_layers, sizes.num_stacks, sizes.upsample_factors
        if num_layers < 1 or num_stacks < 1 or num_layers % num_stacks:
            message = (
                f"model.network.num_layers={num_layers} must be a multiple of num_stacks={num_stacks}, which share them"
            )
            raise RecipeError(message, code="range", path="model.network.num_layers", value=num_layers)
        if sizes.gate_channels % 2 or sizes.kernel_size % 2 == 0:
            message = (
                f"model.network.gate_channels={sizes.gate_channels} must be even, kernel_size={sizes.kernel_size} odd: "
                "half of a layer gates the other half, and a kernel has a middle"
            )
            raise RecipeError(
                message,
                code="value",
                path="model.network.gate_channels" if sizes.gate_channels % 2 else "model.network.kernel_size",
                value=sizes.gate_channels if sizes.gate_channels % 2 else sizes.kernel_size,
            )
        if math.prod(upsample_factors) != mel_spec.hop_length:
            message = (
                f"model.network.upsample_factors={list(upsample_factors)} make {math.prod(upsample_factors)} samples "
                f"of a frame, the data has a hop of {mel_spec.hop_length}: choose factors whose product is the hop"
            )
            raise RecipeError(message, code="conflict", path="model.network.upsample_factors", value=upsample_factors)
        self.mel_spec = mel_spec
        mel_context = self.mel_context = sizes.mel_context
        self.skip_channels = sizes.skip_channels
        self.listen = weight_norm(
            nn.Conv1d(mel_spec.n_mels, mel_spec.n_mels, 2 * mel_context + 1, padding=mel_context, bias=False)
        )
        self.upsample = MelUpsample(upsample_factors)
        self.first = weight_norm(nn.Conv1d(1, sizes.channels, 1))
        per_stack = num_layers // num_stacks
        self.layers = Modules(
            Layer(
                mel_spec.n_mels,
                sizes.channels,
                sizes.gate_channels,
                sizes.skip_channels,
                sizes.kernel_size,
                dilation=2 ** (i % per_stack),
                last=i == num_layers - 1,
            )
            for i in range(num_layers)
        )
        self.before_last = weight_norm(nn.Conv1d(sizes.skip_channels, sizes.skip_channels, 1))
        self.last = weight_norm(nn.Conv1d(sizes.skip_channels, 1, 1))

    @property
    def receptive_field(self) -> int:
        """Samples of noise that a sample is made of."""
        return 1 + sum(layer.reach for layer in self.layers) * 2

    @property
    def context(self) -> int:
        """Frames on each side that a frame's samples depend on: convolutions, upsampling, the mel's own convolution."""
        reach = sum(layer.reach for layer in self.layers) + self.upsample.reach
        return math.ceil(reach / self.mel_spec.hop_length) + self.mel_context

    def forward(
        self,
        mel: Float[Tensor, "b t m"],
        lengths: Int[Tensor, " b"] | None = None,
        seeds: Sequence[int] | None = None,
        first: int = 0,
    ) -> Float[Tensor, "b n"]:
        """Turn log mels into waveforms; samples beyond an item's ``lengths`` (frames) are zero.

        The noise is that of ``seeds`` (default: 0 for all) at the samples from number ``first`` on.
        """
        frames = samples = None
        if lengths is not None:
            frames = torch.arange(mel.shape[1], device=mel.device) < lengths.to(mel.device)[:, None]
            samples = frames.repeat_interleave(self.mel_spec.hop_length, dim=1)[:, None]
            frames = frames[:, None]
        like = torch.empty(len(mel), mel.shape[1] * self.mel_spec.hop_length, device=mel.device)
        noise = gaussian_noise(first, [0] * len(mel) if seeds is None else seeds, like)
        heard = masked(self.listen(masked((mel.mT - SILENCE) / -SILENCE, frames)), frames)
        smooth = self.upsample.filters()
        x = self.first(noise[:, None])
        skips = torch.zeros(len(mel), self.skip_channels, like.shape[1], device=mel.device)
        for layer in self.layers:
            x, skip = layer(masked(x, samples), self.upsample(layer.condition(heard), smooth))
            skips = skips.add_(skip)
        # In bfloat16 a waveform would have a floor of noise 50 dB below its peaks.
        with torch.autocast(mel.device.type, enabled=False):
            x = F.relu(skips * math.sqrt(1 / len(self.layers)))
            wave = self.last(F.relu(self.before_last(x)))
        return masked(wave, samples)[:, 0]

    def stream(self, chunks: Iterable[Float[Tensor, "b t m"]]) -> Iterator[Float[Tensor, "b n"]]:
        """Turn mel chunks of any length into waves that join up to the whole."""
        context, hop = self.context, self.mel_spec.hop_length
        held, done, first = None, 0, 0  # frames kept, how many of them are spoken, the number of their first sample
        for chunk in chunks:
            held = chunk if held is None else torch.cat([held, chunk], dim=1)
            ready = held.shape[1] - context
            if ready > done:
                yield self(held, first=first)[:, done * hop : ready * hop]
                drop = max(ready - context, 0)
                held, done, first = held[:, drop:], ready - drop, first + drop * hop
        if held is not None and held.shape[1] > done:
            yield self(held, first=first)[:, done * hop :]


class Layer(nn.Module):
    """One residual layer: a dilated convolution plus the mel's part, gated; returns the residual and the skip."""

    def __init__(
        self,
        n_mels: int,
        channels: int,
        gate_channels: int,
        skip_channels: int,
        kernel_size: int,
        dilation: int,
        last: bool,
    ):
        super().__init__()
        self.reach = (kernel_size - 1) // 2 * dilation
        self.channels = 0 if last else channels
        self.conv = weight_norm(nn.Conv1d(channels, gate_channels, kernel_size, padding=self.reach, dilation=dilation))
        self.condition = weight_norm(nn.Conv1d(n_mels, gate_channels, 1, bias=False))
        self.out = weight_norm(nn.Conv1d(gate_channels // 2, self.channels + skip_channels, 1))

    def forward(
        self, x: Float[Tensor, "b c n"], condition: Float[Tensor, "b g n"]
    ) -> tuple[Float[Tensor, "b c n"], Float[Tensor, "b s n"]]:
        # In place where no gradient needs what was there: on a CPU every pass over so long a tensor shows.
        value, gate = self.conv(x).add_(condition).chunk(2, dim=1)
        out = self.out(value.tanh() * gate.sigmoid())
        residual, skip = out[:, : self.channels], out[:, self.channels :]
        # Halving the power of the sum keeps it even through the stack.
        return ((x + residual).mul_(math.sqrt(0.5)) if self.channels else x), skip


class MelUpsample(nn.Module):
    """Frames to samples: for each factor s, every value s times, then a convolution of 2 s + 1 taps, the same for all
    channels.

    All of this is linear and the same at every frame, so a frame's samples are one matrix times the ``k`` frames
    around it; ``filters`` makes that matrix by sending impulses through the convolutions.
    """

    def __init__(self, factors: Sequence[int]):
        super().__init__()
        if not factors or min(factors) < 1:
            message = f"model.upsample_factors={list(factors)} must be one or more whole numbers above 0"
            raise RecipeError(message, code="range", path="model.network.upsample_factors", value=tuple(factors))
        self.factors = tuple(factors)
        self.hop = math.prod(factors)
        self.smooth = Modules(nn.Conv1d(1, 1, 2 * s + 1, padding=s, bias=False) for s in factors)
        for conv in self.smooth:
            nn.init.constant_(conv.weight, 1 / conv.kernel_size[0])
            weight_norm(conv)

    @property
    def reach(self) -> int:
        """Samples on each side of a sample whose frames it is made of."""
        rate, total = self.hop, 0
        for factor in self.factors:
            rate //= factor
            total += factor * rate
        return total

    def filters(self) -> Float[Tensor, "k hop"]:
        """Return what each of the frames around a frame adds to its samples, in float32."""
        side = math.ceil(self.reach / self.hop)
        weight = self.smooth[0].weight
        with torch.autocast(weight.device.type, enabled=False):
            x = torch.eye(2 * side + 1, device=weight.device, dtype=weight.dtype)[:, None]
            for factor, conv in zip(self.factors, self.smooth, strict=True):
                x = conv(x.repeat_interleave(factor, dim=-1))
        return x[:, 0, side * self.hop : (side + 1) * self.hop]

    def forward(self, x: Float[Tensor, "b c t"], filters: Float[Tensor, "k hop"]) -> Float[Tensor, "b c n"]:
        side = len(filters) // 2
        around = F.pad(x, (side, side)).unfold(-1, len(filters), 1)
        return (around @ filters.to(x.dtype)).flatten(-2)


def masked(x: Float[Tensor, "b c n"], mask: Bool[Tensor, "b 1 n"] | None) -> Float[Tensor, "b c n"]:
    """Return ``x`` with zeros where the mask does not hold; None holds everywhere."""
    return x if mask is None else x.masked_fill(~mask, 0)
