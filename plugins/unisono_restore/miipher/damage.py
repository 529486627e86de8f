"""Damage: what rooms, noise and transmission do to clean speech, drawn anew for each crop.

Six damages, each with a probability of its own, in the order in which they befall a sound: reverberation, noise, a band
limit, clipping, a coarse code, lost packets. The kinds are those of Sidon (arXiv:2509.17052), made on the spot where it
takes recordings of noise and rooms, and MP3: coloured noise and hum, rooms whose echoes decay exponentially, µ-law of
few bits. A share of the crops stays clean, without which a restorer harms what is whole.

Everything is a function of the crop and the generator. What is heard is as long as the crop and not later than it.

Shapes: n samples.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.errors import DataError

__all__ = ["Damage", "DamageOptions"]

Noise = Literal["white", "pink", "brown", "speech", "hum"]
SLOPES = {"white": 0.0, "pink": -0.5, "brown": -1.0}
"""Of the noises' amplitudes over frequency, as powers of it."""
MU = 255
PACKET_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True)
class DamageOptions:
    """Which damages befall a crop.

    clean: the share of crops that stay as they are.
    reverb, noise, band, clip, code, loss: the probability of each damage of the others.
    snr_db: the range of the signal-to-noise ratio.
    noises: kinds of noise; leave one out of training to test on it.
    reverb_seconds: the range of the time in which echoes fall by 60 dB.
    lowest_cutoff: of a band limit, in hertz.
    """

    clean: float = 0.05
    reverb: float = 0.5
    noise: float = 0.5
    band: float = 0.5
    clip: float = 0.5
    code: float = 0.5
    loss: float = 0.5
    snr_db: tuple[float, float] = (-5.0, 20.0)
    noises: tuple[Noise, ...] = ("white", "pink", "brown", "speech", "hum")
    reverb_seconds: tuple[float, float] = (0.1, 0.8)
    lowest_cutoff: float = 2000.0

    def __post_init__(self):
        for name in ("clean", "reverb", "noise", "band", "clip", "code", "loss"):
            if not 0 <= getattr(self, name) <= 1:
                raise _wrong(name, getattr(self, name), "must be in [0, 1]")
        if not self.noises:
            raise _wrong("noises", list(self.noises), "must name at least one kind")
        if self.snr_db[0] > self.snr_db[1]:
            raise _wrong("snr_db", list(self.snr_db), "must begin with the lower one")
        if not 0 < self.reverb_seconds[0] <= self.reverb_seconds[1] <= 10:
            raise _wrong("reverb_seconds", list(self.reverb_seconds), "must be above 0, the lower one first, up to 10")
        if self.lowest_cutoff <= 0:
            raise _wrong("lowest_cutoff", self.lowest_cutoff, "must be above 0")


@dataclass(frozen=True)
class Damage:
    """Damages a crop; called with the crop and a generator, of which every choice comes."""

    options: DamageOptions
    rate: int

    def __call__(self, wave: Float[Tensor, "n"], generator: torch.Generator) -> Float[Tensor, "n"]:
        chance = torch.rand(7, generator=generator).tolist()
        how = torch.rand(6, generator=generator).tolist()
        if chance[0] < self.options.clean or not bool(wave.any()):
            return wave
        damages = (
            (self.options.reverb, self._reverberant),
            (self.options.noise, self._noisy),
            (self.options.band, self._narrow),
            (self.options.clip, self._clipped),
            (self.options.code, self._coded),
            (self.options.loss, self._lossy),
        )
        for (probability, damage), drawn, much in zip(damages, chance[1:], how, strict=True):
            if drawn < probability:
                wave = damage(wave, much, generator)
        return wave

    def _reverberant(self, wave: Tensor, much: float, generator: torch.Generator) -> Tensor:
        """The direct sound, and behind it echoes of half to twice its energy."""
        low, high = self.options.reverb_seconds
        seconds = low + (high - low) * much
        count = max(2, round(seconds * self.rate))
        tail = torch.randn(count, generator=generator) * (-3 * math.log(10) / count * torch.arange(count)).exp()
        tail[0] = 0.0
        tail[1:] *= float(0.5 * 4 ** torch.rand((), generator=generator)) ** 0.5 / tail[1:].norm().clamp(min=1e-9)
        tail[0] = 1.0
        size = len(wave) + count
        return torch.fft.irfft(torch.fft.rfft(wave, size) * torch.fft.rfft(tail, size), size)[: len(wave)]

    def _noisy(self, wave: Tensor, much: float, generator: torch.Generator) -> Tensor:
        kinds, (low, high) = self.options.noises, self.options.snr_db
        kind = kinds[int(torch.randint(len(kinds), (), generator=generator))]
        noise = make_noise(kind, wave, self.rate, generator)
        ratio = 10 ** (-(low + (high - low) * much) / 20)
        return wave + noise * (ratio * wave.norm() / noise.norm().clamp(min=1e-9))

    def _narrow(self, wave: Tensor, much: float, generator: torch.Generator) -> Tensor:
        """Nothing above a cut-off, with a slope of a tenth of it."""
        half = self.rate / 2
        cutoff = min(self.options.lowest_cutoff, half) + max(half - self.options.lowest_cutoff, 0) * much
        hertz = torch.fft.rfftfreq(len(wave), 1 / self.rate)
        passed = ((cutoff - hertz) / (0.1 * cutoff)).clamp(0, 1)
        return torch.fft.irfft(torch.fft.rfft(wave) * passed, len(wave))

    def _clipped(self, wave: Tensor, much: float, generator: torch.Generator) -> Tensor:
        most = float(wave.abs().max()) * (0.1 + 0.6 * much)
        return wave.clamp(-most, most)

    def _coded(self, wave: Tensor, much: float, generator: torch.Generator) -> Tensor:
        """µ-law of 4 to 8 bits (ITU-T G.711's curve), full scale at the crop's peak."""
        steps, peak = 2 ** (4 + round(4 * much)) - 1, wave.abs().max().clamp(min=1e-9)
        code = wave.sign() * (MU * wave.abs() / peak).log1p() / math.log1p(MU)
        code = ((code + 1) / 2 * steps).round() / steps * 2 - 1
        return peak * code.sign() * (code.abs() * math.log1p(MU)).expm1() / MU

    def _lossy(self, wave: Tensor, much: float, generator: torch.Generator) -> Tensor:
        """Up to a tenth of the packets of 20 ms silent."""
        size = max(1, round(PACKET_SECONDS * self.rate))
        packets = -(-len(wave) // size)
        kept = torch.rand(packets, generator=generator) >= 0.1 * much
        return wave * kept.repeat_interleave(size)[: len(wave)]


def make_noise(kind: Noise, wave: Float[Tensor, "n"], rate: int, generator: torch.Generator) -> Float[Tensor, "n"]:
    """Make noise as long as a crop, of any level: white, pink or brown; with the crop's own spectrum, swelling as
    syllables do; or a mains hum with harmonics."""
    count = len(wave)
    if kind == "hum":
        first, shift = torch.rand(2, generator=generator).tolist()
        hertz = 50.0 if first < 0.5 else 60.0
        angle = 2 * math.pi * (hertz * torch.arange(count) / rate + shift)
        return sum((torch.sin(k * angle + k * k) / k for k in range(1, 9)), torch.zeros(count))
    spectrum = torch.fft.rfft(torch.randn(count, generator=generator))
    if kind == "speech":
        power = torch.fft.rfft(wave).abs().square()
        width = max(1, round(100 * count / rate)) // 2 * 2 + 1
        smooth = torch.nn.functional.avg_pool1d(power[None, None], width, 1, width // 2, count_include_pad=False)[0, 0]
        noise = torch.fft.irfft(spectrum * smooth.sqrt(), count)
        speed, shift = torch.rand(2, generator=generator).tolist()
        swell = torch.sin(2 * math.pi * ((2 + 4 * speed) * torch.arange(count) / rate + shift))
        return noise * (0.6 + 0.4 * swell)
    hertz = torch.fft.rfftfreq(count, 1 / rate).clamp(min=50.0)
    return torch.fft.irfft(spectrum * hertz ** SLOPES[kind], count)


def _wrong(name: str, value: object, why: str) -> DataError:
    path = f"data.damage.{name}"
    return DataError(f"{path}={value} {why}", code="range", path=path, value=value)
