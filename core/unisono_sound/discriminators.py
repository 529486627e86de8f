"""Discriminators of sound: waveforms folded by periods, and spectrograms of several resolutions.

Multi-period: Kong et al., HiFi-GAN (arXiv:2010.05646), section 2.3. Multi-resolution: Jang et al.,
UnivNet (arXiv:2106.07889), with the convolutions that Vocos (arXiv:2306.00814) gives it. It sees
*magnitudes*, as in UnivNet and in the Vocos paper; the bands of a complex spectrogram, which later
Vocos code took over from DAC, are not built. AP-BWE's (arXiv:2401.06387) see amplitudes and phases
of a rectangular window, one each. Default sizes are the published ones; smaller ``channels`` train on
a CPU.

Differences: a period's columns go through one-dimensional convolutions as items of the batch, which
is the same sum as published with half the time on a CPU; where no window is named, spectrograms have a
Hann window.

Every discriminator returns ``Judgement``s: scores that say real or not in every region, and the
features that led there, for feature matching.

Shapes: b batch, n samples, p period, k regions, c channels.
"""

from collections.abc import Callable, Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from unisono.nn.modules import Modules
from unisono.nn.wide import wide_as
from unisono.train.discriminator_losses import Judgement

from unisono_sound.signal.phase import amplitude, phase
from unisono_sound.signal.stft import stft_same

SLOPE = 0.1


class MultiPeriodDiscriminator(nn.Module):
    """One ``PeriodDiscriminator`` per period; primes, so that they overlap little."""

    def __init__(
        self,
        periods: Sequence[int] = (2, 3, 5, 7, 11),
        channels: Sequence[int] = (32, 128, 512, 1024, 1024),
    ):
        super().__init__()
        self.judges = nn.ModuleList(PeriodDiscriminator(period, channels) for period in periods)

    def forward(self, wave: Float[Tensor, "b n"]) -> list[Judgement]:
        return [judge(wave) for judge in self.judges]


class PeriodDiscriminator(nn.Module):
    """Every ``period``-th sample, seen together.

    ::

        wave ─ fold [b · p, 1, n / p] ─ 4 × conv 5, stride 3 ─ conv 5 ─ conv 3 ─ scores
    """

    def __init__(self, period: int, channels: Sequence[int]):
        super().__init__()
        self.period = period
        widths = [1, *channels]
        last = len(channels) - 1
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv1d(widths[i], widths[i + 1], 5, stride=3 if i < last else 1, padding=2))
            for i in range(len(channels))
        )
        self.score = weight_norm(nn.Conv1d(widths[-1], 1, 3, padding=1))

    def forward(self, wave: Float[Tensor, "b n"]) -> Judgement:
        size, samples = wave.shape
        x = F.pad(wave[:, None], (0, -samples % self.period), mode="reflect")
        x = rearrange(x, "b c (n p) -> (b p) c n", p=self.period)
        features = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), SLOPE)
            features.append(x)
        x = self.score(x)
        features = [f.unflatten(0, (size, self.period)) for f in [*features[1:], x]]
        return Judgement(x.reshape(size, -1), features)


class MultiResolutionDiscriminator(nn.Module):
    """One ``SpectrogramDiscriminator`` per pair of FFT size and hop."""

    def __init__(
        self,
        resolutions: Sequence[tuple[int, int]] = ((1024, 256), (2048, 512), (512, 128)),
        channels: int = 64,
    ):
        super().__init__()
        self.judges = nn.ModuleList(SpectrogramDiscriminator(n_fft, hop, channels) for n_fft, hop in resolutions)

    def forward(self, wave: Float[Tensor, "b n"]) -> list[Judgement]:
        return [judge(wave) for judge in self.judges]


class MultiResolutionAmplitudeDiscriminator(nn.Module):
    """Amplitudes of a rectangular window, by one ``SpectrogramDiscriminator`` per pair of FFT size and hop."""

    def __init__(
        self, resolutions: Sequence[tuple[int, int]] = ((512, 128), (1024, 256), (2048, 512)), channels: int = 64
    ):
        super().__init__()
        self.judges = nn.ModuleList(
            SpectrogramDiscriminator(n_fft, hop, channels, window=torch.ones) for n_fft, hop in resolutions
        )

    def forward(self, wave: Float[Tensor, "b n"]) -> list[Judgement]:
        return [judge(wave) for judge in self.judges]


class MultiResolutionPhaseDiscriminator(nn.Module):
    """Phases of a rectangular window, in (−π, π], by one ``SpectrogramDiscriminator`` per pair of FFT size and hop.

    Difference: gradients are bounded where nothing sounds (``unisono_sound.signal.phase``).
    """

    def __init__(
        self, resolutions: Sequence[tuple[int, int]] = ((512, 128), (1024, 256), (2048, 512)), channels: int = 64
    ):
        super().__init__()
        self.judges = nn.ModuleList(
            SpectrogramDiscriminator(n_fft, hop, channels, window=torch.ones, seen=phase) for n_fft, hop in resolutions
        )

    def forward(self, wave: Float[Tensor, "b n"]) -> list[Judgement]:
        return [judge(wave) for judge in self.judges]


class SpectrogramDiscriminator(nn.Module):
    """What is ``seen`` of a complex spectrogram, its amplitude or its phase, as a picture of frequency by time.

    ::

        wave ─ STFT ─ seen ─ 5 × conv, halving frequency each and time thrice ─ conv 3 × 3 ─ scores
    """

    window: Tensor

    def __init__(
        self,
        n_fft: int,
        hop: int,
        channels: int,
        window: Callable[[int], Tensor] = torch.hann_window,
        seen: Callable[[Tensor], Tensor] = amplitude,
    ):
        super().__init__()
        self.n_fft = n_fft
        self.hop = hop
        self.seen = seen
        self.register_buffer("window", window(n_fft), persistent=False)
        shapes = [  # kernel and stride, (frequency, time)
            ((7, 5), (2, 2)),
            ((5, 3), (2, 1)),
            ((5, 3), (2, 2)),
            ((3, 3), (2, 1)),
            ((3, 3), (2, 2)),
        ]
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(channels if i else 1, channels, kernel, stride, (kernel[0] // 2, kernel[1] // 2)))
            for i, (kernel, stride) in enumerate(shapes)
        )
        self.score = weight_norm(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, wave: Float[Tensor, "b n"]) -> Judgement:
        with torch.autocast(wave.device.type, enabled=False):
            x = self.seen(stft_same(wide_as(wave, self.window), self.n_fft, self.hop, self.window)).mT[:, None]
        x = x.contiguous(memory_format=torch.channels_last)
        features = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), SLOPE)
            features.append(x)
        x = self.score(x)
        return Judgement(x.flatten(1), [*features, x])


DAC_BANDS = ((0.0, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))
"""DAC's bands, as shares of the frequencies."""


class MultiBandDiscriminator(nn.Module):
    """One ``ComplexDiscriminator`` per window length (DAC, arXiv:2306.06546, section 3.3: 2048, 1024, 512 samples)."""

    def __init__(
        self,
        windows: Sequence[int] = (2048, 1024, 512),
        channels: int = 32,
        bands: Sequence[tuple[float, float]] = DAC_BANDS,
    ):
        super().__init__()
        self.judges = nn.ModuleList(ComplexDiscriminator(n, channels, bands, (1, 1, 1), SLOPE) for n in windows)

    def forward(self, wave: Float[Tensor, "b n"]) -> list[Judgement]:
        return [judge(wave) for judge in self.judges]


class MultiScaleSTFTDiscriminator(nn.Module):
    """One ``ComplexDiscriminator`` of the whole band per window length (EnCodec, arXiv:2210.13438, section 3.4)."""

    def __init__(self, windows: Sequence[int] = (2048, 1024, 512, 256, 128), channels: int = 32):
        super().__init__()
        whole = ((0.0, 1.0),)
        self.judges = nn.ModuleList(ComplexDiscriminator(n, channels, whole, (1, 2, 4), 0.2) for n in windows)

    def forward(self, wave: Float[Tensor, "b n"]) -> list[Judgement]:
        return [judge(wave) for judge in self.judges]


class ComplexDiscriminator(nn.Module):
    """A complex spectrogram, real and imaginary parts as two channels, band by band.

    ::

        wave ─ STFT ─ split ─ [ conv 3×9 ─ 3 × conv 3×9, halving frequency ─ conv 3×3 ] × bands ─ join ─ conv 3×3

    ``dilations`` are those of the three strided convolutions over time. Frames are a quarter of a window apart.
    Differences: transforms are scaled so that a sine's peak does not depend on the window; DAC levels the waveform to a
    peak of 0.8 first, which is not done here.
    """

    window: Tensor

    def __init__(
        self,
        n_fft: int,
        channels: int,
        bands: Sequence[tuple[float, float]],
        dilations: tuple[int, int, int],
        slope: float,
    ):
        super().__init__()
        self.n_fft = n_fft
        self.slope = slope
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        count = n_fft // 2 + 1
        self.edges = [(int(low * count), int(high * count)) for low, high in bands]
        self.bands = Modules(
            nn.ModuleList(
                weight_norm(conv)
                for conv in (
                    nn.Conv2d(2, channels, (3, 9), padding=(1, 4)),
                    *(
                        nn.Conv2d(channels, channels, (3, 9), (1, 2), (dilation, 4), (dilation, 1))
                        for dilation in dilations
                    ),
                    nn.Conv2d(channels, channels, 3, padding=1),
                )
            )
            for _ in bands
        )
        self.score = weight_norm(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, wave: Float[Tensor, "b n"]) -> Judgement:
        with torch.autocast(wave.device.type, enabled=False):
            spectrum = stft_same(wide_as(wave, self.window), self.n_fft, self.n_fft // 4, self.window)
            x = rearrange(torch.view_as_real(spectrum), "b f t c -> b c f t") * (2 / self.window.sum())
        features, ends = [], []
        for (low, high), convs in zip(self.edges, self.bands, strict=True):
            part = x[..., low:high]
            for conv in convs:
                part = F.leaky_relu(conv(part), self.slope)
                features.append(part)
            ends.append(part)
        score = self.score(torch.cat(ends, dim=-1))
        return Judgement(score.flatten(1), [*features, score])
