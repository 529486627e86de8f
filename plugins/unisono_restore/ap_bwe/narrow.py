"""Narrow: wide sound made narrow in the ways that real narrow sound has been, to learn from.

The published way is one resampler, there and back, at one cut-off, and what it teaches fails on telephones, codecs and
old recordings. A cut-off and a family of filters are drawn for each crop therefore, with what else a recipe asks for.
No filter delays, so that what is kept stays in its place.

Shapes: n samples.
"""

import io
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import soundfile
import soxr
import torch
from jaxtyping import Float
from torch import Tensor
from unisono.errors import DataError
from unisono.extras import optional
from unisono.media.opus import OPUS_RATES, encode_opus

__all__ = ["Family", "Narrow", "NarrowOptions", "filtered", "mu_law"]

Family = Literal["resampler", "fir", "butterworth", "chebyshev", "elliptic", "bessel"]
MU = 255


@dataclass(frozen=True, kw_only=True)
class NarrowOptions:
    """How crops are made narrow.

    from_rate: the sample rate that the narrow sound would need, in hertz.
    lowest_cutoff: cut-offs are drawn from here up to half of ``from_rate``, in hertz; without it none is drawn.
    filters: families to draw from: ``resampler`` (the published one), ``fir`` (Kaiser windows), and of the 4th to 10th
        order and without delay ``butterworth``, ``chebyshev`` (type 1), ``elliptic`` and ``bessel``.
    mu_law: share of crops that go through 8 bits of µ-law at ``from_rate``, as of a telephone.
    opus: share of crops that go through Opus at ``from_rate``, which must be a rate of it.
    """

    from_rate: int = 8000
    lowest_cutoff: float | None = None
    filters: tuple[Family, ...] = ("resampler",)
    mu_law: float = 0.0
    opus: float = 0.0

    def __post_init__(self):
        def refuse(name: str, value: Any, why: str, code: Any = "range") -> DataError:
            return DataError(f"data.narrow.{name}={value} {why}", code=code, path=f"data.narrow.{name}", value=value)

        if self.from_rate < 1000:
            raise refuse("from_rate", self.from_rate, "must be at least 1000 Hz")
        if self.lowest_cutoff is not None and not self.from_rate / 8 <= self.lowest_cutoff <= self.from_rate / 2:
            wanted = f"must be from {self.from_rate / 8:g} to {self.from_rate / 2:g} Hz, half of from_rate"
            raise refuse("lowest_cutoff", self.lowest_cutoff, wanted)
        if not self.filters:
            raise refuse("filters", self.filters, f"names none: take some of {', '.join(get_args(Family))}", "empty")
        for name in ("mu_law", "opus"):
            if not 0 <= getattr(self, name) <= 1:
                raise refuse(name, getattr(self, name), "must be in [0, 1]")
        if self.mu_law + self.opus > 1:
            raise refuse("opus", self.opus, f"and mu_law={self.mu_law} must be at most 1 together", "conflict")
        if self.opus and self.from_rate not in OPUS_RATES:
            rates = ", ".join(map(str, OPUS_RATES))
            raise refuse("opus", self.opus, f"needs a from_rate of Opus ({rates}), not {self.from_rate}", "conflict")

    @property
    def cutoffs(self) -> tuple[float, float]:
        """The lowest and the highest cut-off, in hertz."""
        highest = self.from_rate / 2
        return (highest if self.lowest_cutoff is None else self.lowest_cutoff), highest


@dataclass(frozen=True)
class Narrow:
    """Makes a crop narrow; called with the crop and a generator, of which every choice comes."""

    options: NarrowOptions
    rate: int

    def __call__(self, wave: Float[Tensor, "n"], generator: torch.Generator) -> Float[Tensor, "n"]:
        options = self.options
        family_at, cutoff_at, coded_at, *rest = torch.rand(7, generator=generator).tolist()
        low, high = options.cutoffs
        cutoff = high - (high - low) * cutoff_at
        family = options.filters[int(family_at * len(options.filters))]
        narrow = filtered(wave.numpy(), self.rate, cutoff, family, *rest)
        if coded_at < options.mu_law:
            narrow = self._at_from_rate(narrow, mu_law)
        elif coded_at < options.mu_law + options.opus:
            narrow = self._at_from_rate(narrow, self._opus)
        return torch.from_numpy(np.ascontiguousarray(narrow, np.float32))

    def _at_from_rate(self, wave: Float[np.ndarray, "n"], change: Any) -> Float[np.ndarray, "n"]:
        few = soxr.resample(wave, self.rate, self.options.from_rate, quality="HQ")
        return _fitted(soxr.resample(change(few), self.options.from_rate, self.rate, quality="HQ"), len(wave))

    def _opus(self, wave: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        data = encode_opus(wave.clip(-1, 1), self.options.from_rate)
        return _fitted(soundfile.read(io.BytesIO(data), dtype="float32")[0], len(wave))


def filtered(
    wave: Float[np.ndarray, "n"],
    rate: int,
    cutoff: float,
    family: Family,
    order_at: float = 0.5,
    ripple_at: float = 0.5,
    stop_at: float = 0.5,
    width_at: float = 0.5,
) -> Float[np.ndarray, "n"]:
    """Return a waveform without what lies above ``cutoff`` hertz, by a filter of a family.

    The others are in [0, 1) and say which of the family: its order, its ripple (0.05 to 1 dB), how much it stops (40 to
    80 dB, of FIR too) and the width of FIR's slope (2 to 20 % of the cut-off). Raises ``MissingExtra`` without scipy.
    """
    if family == "resampler":
        few = soxr.resample(wave, rate, 2 * cutoff, quality="HQ")
        return _fitted(soxr.resample(few, 2 * cutoff, rate, quality="HQ"), len(wave))
    signal: Any = optional("scipy", "scipy.signal", extra="restore")
    order, ripple, stop = 4 + int(7 * order_at), 0.05 * 20**ripple_at, 40 + 40 * stop_at
    if family == "fir":
        count, beta = signal.kaiserord(stop, (0.02 + 0.18 * width_at) * cutoff / (rate / 2))
        taps = signal.firwin(count | 1, cutoff, window=("kaiser", beta), fs=rate)
        return np.convolve(wave, taps)[len(taps) // 2 :][: len(wave)]
    sections = {
        "butterworth": lambda: signal.butter(order, cutoff, fs=rate, output="sos"),
        "chebyshev": lambda: signal.cheby1(order, ripple, cutoff, fs=rate, output="sos"),
        "elliptic": lambda: signal.ellip(order, ripple, stop, cutoff, fs=rate, output="sos"),
        "bessel": lambda: signal.bessel(order, cutoff, norm="mag", fs=rate, output="sos"),
    }[family]()
    padding = min(3 * (2 * len(sections) + 1), len(wave) - 1)
    return signal.sosfiltfilt(sections, wave, padlen=padding)


def mu_law(wave: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Return a waveform as 8 bits of µ-law hold it (ITU-T G.711's curve, µ = 255)."""
    wave = wave.clip(-1, 1)
    code = np.sign(wave) * np.log1p(MU * np.abs(wave)) / np.log1p(MU)
    code = np.round((code + 1) / 2 * MU) / MU * 2 - 1
    return (np.sign(code) * np.expm1(np.abs(code) * np.log1p(MU)) / MU).astype(np.float32)


def _fitted(wave: Float[np.ndarray, "m"], length: int) -> Float[np.ndarray, "n"]:
    return np.pad(wave[:length], (0, max(0, length - len(wave))))
