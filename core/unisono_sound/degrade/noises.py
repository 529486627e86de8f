"""Noises: what is made on the spot, from the speech that it is added to and a generator.

All are ``(wave [n], rate, generator) -> noise [n]`` at any level: ``power.at_snr`` sets it. Spectra are shaped in the
Fourier domain.

Shapes: n samples.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from unisono_sound.degrade.draws import choice, log_uniform, uniform, whole
from unisono_sound.degrade.power import active

Noise = Callable[[Tensor, int, torch.Generator], Tensor]
LOWEST_HZ = 20.0
"""Below it, coloured noise is flat: nobody hears it, and its power has no bound."""


def white(wave: Float[Tensor, " n"], rate: int, generator: torch.Generator) -> Float[Tensor, " n"]:
    """Make noise of equal power at all frequencies."""
    return torch.randn(len(wave), generator=generator)


def coloured(
    num_samples: int, rate: int, generator: torch.Generator, decibels_per_octave: float
) -> Float[Tensor, " n"]:
    """Make noise whose power density changes by so much with each octave, from 20 Hz on."""
    size = _transform_size(num_samples)
    spectrum = torch.fft.rfft(torch.randn(size, generator=generator))
    hz = torch.fft.rfftfreq(size, 1 / rate).clamp(min=LOWEST_HZ)
    gain = (hz / LOWEST_HZ) ** (decibels_per_octave / (20 * math.log10(2)))
    gain[0] = 0
    return torch.fft.irfft(spectrum * gain, size)[:num_samples]


def pink(wave: Float[Tensor, " n"], rate: int, generator: torch.Generator) -> Float[Tensor, " n"]:
    """Make noise of equal power in each octave: a density of 1/f."""
    return coloured(len(wave), rate, generator, -20 * math.log10(2) / 2)


def brown(wave: Float[Tensor, " n"], rate: int, generator: torch.Generator) -> Float[Tensor, " n"]:
    """Make noise with a density of 1/f²: rumble."""
    return coloured(len(wave), rate, generator, -20 * math.log10(2))


def speech_shaped(wave: Float[Tensor, " n"], rate: int, generator: torch.Generator) -> Float[Tensor, " n"]:
    """Make steady noise with the mean spectrum of the speech itself, while that sounds: the hardest steady noise."""
    size = min(512 if rate <= 16000 else 1024, max(len(wave), 2)) // 2 * 2
    inside = wave * active(wave, rate)
    if len(inside) < size or not bool(inside.any()):
        return white(wave, rate, generator)
    frames = inside.unfold(0, size, size // 2) * torch.hann_window(size)
    density = torch.fft.rfft(frames).abs().square().mean(0)
    whole_size = _transform_size(len(wave))
    spectrum = torch.fft.rfft(torch.randn(whole_size, generator=generator))
    place = torch.linspace(0, size // 2, len(spectrum))
    low = place.floor().long().clamp(max=size // 2 - 1)
    gain = torch.lerp(density[low], density[low + 1], place - low).sqrt()
    return torch.fft.irfft(spectrum * gain, whole_size)[: len(wave)]


def hum(wave: Float[Tensor, " n"], rate: int, generator: torch.Generator) -> Float[Tensor, " n"]:
    """Make the hum of the mains, 50 or 60 Hz, with up to 20 harmonics that fall off by 3 to 9 dB an octave."""
    hz = choice(generator, (50.0, 60.0)) * uniform(generator, (0.998, 1.002))
    most = max(1, min(20, int(0.45 * rate / hz)))
    count, slope = whole(generator, (min(4, most), most)), uniform(generator, (0.5, 1.5))
    numbers = torch.arange(1, count + 1, dtype=torch.float64)
    height = numbers**-slope * (0.3 + 0.7 * torch.rand(count, generator=generator, dtype=torch.float64))
    phase = 2 * math.pi * torch.rand(count, generator=generator, dtype=torch.float64)
    seconds = torch.arange(len(wave), dtype=torch.float64) / rate
    total = torch.zeros(len(wave), dtype=torch.float64)
    for number, level, start in zip(numbers.tolist(), height.tolist(), phase.tolist(), strict=True):
        total += level * torch.sin(2 * math.pi * hz * number * seconds + start)
    return total.float()


def clicks(wave: Float[Tensor, " n"], rate: int, generator: torch.Generator) -> Float[Tensor, " n"]:
    """Make clicks, 2 to 20 a second and at least one: bursts of noise that die away within milliseconds."""
    count = max(1, round(uniform(generator, (2.0, 20.0)) * len(wave) / rate))
    out = torch.zeros(len(wave))
    for _ in range(count):
        start = whole(generator, (0, max(len(wave) - 1, 0)))
        decay = log_uniform(generator, (0.0002, 0.003)) * rate
        size = min(math.ceil(7 * decay), len(wave) - start)
        level = log_uniform(generator, (0.3, 1.0))
        burst = torch.randn(max(size, 0), generator=generator) * torch.exp(-torch.arange(max(size, 0)) / decay)
        out[start : start + size] += level * burst
    return out


def modulated(wave: Float[Tensor, " n"], rate: int, generator: torch.Generator) -> Float[Tensor, " n"]:
    """Make noise between white and brown that swells and falls 0.5 to 8 times a second."""
    noise = coloured(len(wave), rate, generator, -6 * uniform(generator, (0.0, 1.0)))
    hz, depth = log_uniform(generator, (0.5, 8.0)), uniform(generator, (0.5, 1.0))
    turn = 2 * math.pi * (hz * torch.arange(len(wave)) / rate + uniform(generator, (0.0, 1.0)))
    return noise * (1 + depth * torch.sin(turn))


MADE: dict[str, Noise] = {
    "white": white,
    "pink": pink,
    "brown": brown,
    "speech": speech_shaped,
    "hum": hum,
    "clicks": clicks,
    "modulated": modulated,
}
"""Kinds of noise that need no recordings."""


def _transform_size(num_samples: int) -> int:
    """Return an even length of a transform, long enough for the spectrum to be shaped at the lowest frequencies."""
    return max(2, num_samples + num_samples % 2)
