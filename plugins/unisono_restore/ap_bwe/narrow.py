"""Narrow: wide sound made narrow in the ways that real narrow sound has been, to learn from.

The published way is one resampler, there and back, at one cut-off, and what it teaches fails on telephones, codecs and
old recordings. A cut-off and a family of filters are drawn for each crop therefore, with what else a recipe asks for.
No filter delays, so that what is kept stays in its place.

Shapes: n samples.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import soxr
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from unisono.errors import DataError
from unisono_sound import degrade

__all__ = ["Narrow", "NarrowOptions", "resampled"]

Family = Literal["resampler", "butterworth", "chebyshev1", "chebyshev2", "elliptic", "sinc"]
ORDERS, RIPPLE_DB, STOP_DB, KBPS = (4, 12), (0.05, 1.0), (40.0, 80.0), (6.0, 16.0)
"""What is drawn of a filter and of Opus: poles (of a sinc, 16 taps for each), decibels, kb/s."""


@dataclass(frozen=True, kw_only=True)
class NarrowOptions:
    """How crops are made narrow.

    from_rate: the sample rate that the narrow sound would need, in hertz.
    lowest_cutoff: cut-offs are drawn from here up to half of ``from_rate``, in hertz; without it none is drawn.
    filters: families to draw from: ``resampler`` (the published one), and those of ``unisono_sound.degrade``, with
        orders from 4 to 12 and without delay.
    mu_law: share of crops that go through 8 bits of µ-law at ``from_rate``, as of a telephone.
    opus: share of crops that go through Opus at 6 to 16 kb/s and ``from_rate``.
    """

    from_rate: int = 8000
    lowest_cutoff: float | None = None
    filters: tuple[Family, ...] = ("resampler",)
    mu_law: float = 0.0
    opus: float = 0.0

    def __post_init__(self):
        def refused(name: str, value: Any, why: str, code: Any = "range") -> DataError:
            return DataError(f"data.narrow.{name}={value} {why}", code=code, path=f"data.narrow.{name}", value=value)

        if self.from_rate < 1000:
            raise refused("from_rate", self.from_rate, "must be at least 1000 Hz")
        if self.lowest_cutoff is not None and not self.from_rate / 8 <= self.lowest_cutoff <= self.from_rate / 2:
            wanted = f"must be from {self.from_rate / 8:g} to {self.from_rate / 2:g} Hz, half of from_rate"
            raise refused("lowest_cutoff", self.lowest_cutoff, wanted)
        if not self.filters:
            raise refused("filters", self.filters, f"names none: take some of {', '.join(get_args(Family))}", "empty")
        for name in ("mu_law", "opus"):
            if not 0 <= getattr(self, name) <= 1:
                raise refused(name, getattr(self, name), "must be in [0, 1]")
        if self.mu_law + self.opus > 1:
            raise refused("opus", self.opus, f"and mu_law={self.mu_law} must be at most 1 together", "conflict")

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
        family_at, cutoff_at, coded_at, order_at, ripple_at, stop_at, kbps_at = torch.rand(
            7, generator=generator
        ).tolist()
        low, high = options.cutoffs
        cutoff = high - (high - low) * cutoff_at
        family = options.filters[int(family_at * len(options.filters))]
        if family == "resampler":
            wave = resampled(wave, self.rate, 2 * cutoff)
        else:
            design = degrade.LowPass(
                family=cast(Any, family),
                hz=cutoff,
                order=ORDERS[0] + int(order_at * (ORDERS[1] - ORDERS[0] + 1)),
                ripple_db=_between(RIPPLE_DB, ripple_at),
                stop_db=_between(STOP_DB, stop_at),
            )
            wave = degrade.filtered(wave, self.rate, design, zero_phase=True)
        if coded_at < options.mu_law:
            return resampled(
                wave, self.rate, options.from_rate, lambda few, rate: degrade.companded(few, rate, "mulaw")
            )
        if coded_at < options.mu_law + options.opus:
            kbps = _between(KBPS, kbps_at)
            return resampled(wave, self.rate, options.from_rate, lambda few, rate: degrade.opus(few, rate, kbps))
        return wave


def resampled(
    wave: Float[Tensor, "n"],
    rate: int,
    few: float,
    change: Callable[[Float[Tensor, "m"], int], Float[Tensor, "m"]] | None = None,
) -> Float[Tensor, "n"]:
    """Return a waveform brought to ``few`` samples a second and back (soxr, high quality), changed between."""
    there = torch.from_numpy(soxr.resample(wave.numpy(), rate, few, quality="HQ"))
    if change is not None:
        there = change(there, int(few))
    back = torch.from_numpy(soxr.resample(there.numpy(), few, rate, quality="HQ"))[: len(wave)]
    return F.pad(back, (0, len(wave) - len(back)))


def _between(limits: tuple[float, float], at: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * at
