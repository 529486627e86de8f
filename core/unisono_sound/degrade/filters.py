"""Filters: Butterworth, Chebyshev of both types, elliptic and windowed-sinc low-passes, by their exact responses.

A digital filter is its analogue prototype (poles and zeros in closed form) seen through the bilinear transform. Its
response is evaluated at the frequencies of a Fourier transform that is long enough for the filter to have died away,
and multiplied in there: the same as running the recursion, without its loop and without its rounding. Elliptic
functions are computed by Landen's descent (Orfanidis, "Lecture notes on elliptic filter design", 2006).

Shapes: n samples, f frequencies.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor
from unisono.errors import DataError

Family = Literal["butterworth", "chebyshev1", "chebyshev2", "elliptic", "sinc"]
FAMILIES: tuple[Family, ...] = get_args(Family)
GONE = 1e-6
"""A filter's memory lasts until its slowest pole has fallen to this."""


@dataclass(frozen=True, kw_only=True)
class LowPass:
    """A low-pass filter.

    family: as in ``FAMILIES``.
    hz: where the pass band ends: at −3 dB (Butterworth), at ``ripple_db`` (Chebyshev 1, elliptic), at −6 dB (sinc);
        for Chebyshev 2 where the stop band begins, as its designers count.
    order: poles; of a sinc, its taps are 16 for each.
    ripple_db: of the pass band (Chebyshev 1, elliptic).
    stop_db: how far down the stop band is (Chebyshev 2, elliptic).
    """

    family: Family
    hz: float
    order: int = 8
    ripple_db: float = 0.1
    stop_db: float = 60.0

    def __post_init__(self):
        if self.family not in FAMILIES:
            message = f"no filter family {self.family!r}: one of {', '.join(FAMILIES)}"
            raise DataError(message, code="unknown", path="family", value=self.family)
        if not 1 <= self.order <= 20:
            raise DataError(f"order={self.order} must be in [1, 20]", code="range", path="order", value=self.order)
        if not (0 < self.ripple_db < self.stop_db):
            message = f"ripple_db={self.ripple_db:g} must be above 0 and below stop_db={self.stop_db:g}"
            raise DataError(message, code="range", path="ripple_db", value=self.ripple_db)


def filtered(
    wave: Float[Tensor, " n"], rate: int, design: LowPass, high: bool = False, zero_phase: bool = False
) -> Float[Tensor, " n"]:
    """Filter a wave, length kept; ``high`` mirrors the filter to a high-pass with the same edge.

    Recursive filters delay as they do; the sinc's even delay is taken out. ``zero_phase`` takes the magnitude alone, of
    any family: nothing is delayed, and what was sharp rings before and after.

    Raises ``DataError`` where the edge is not in (0, rate / 2).
    """
    memory = _memory(design, rate, high)
    size = 2 ** math.ceil(math.log2(max(len(wave) + memory, 2)))
    gain = response(design, rate, torch.arange(size // 2 + 1).double() * rate / size, high)
    if zero_phase:
        gain = gain.abs().to(torch.complex128)
    return torch.fft.irfft(torch.fft.rfft(wave.double(), size) * gain, size)[: len(wave)].to(wave.dtype)


def response(design: LowPass, rate: int, hz: Float[Tensor, " f"], high: bool = False) -> Complex[Tensor, " f"]:
    """Return a filter's complex gain at frequencies from 0 to ``rate / 2``; the sinc's without its delay."""
    _check(design, rate)
    if design.family == "sinc":
        taps = _sinc_taps(design, rate).double()
        half = len(taps) // 2
        turn = 2 * math.pi * hz.double()[:, None] / rate * torch.arange(-half, half + 1)
        gain = (taps * torch.cos(turn)).sum(1)
        return (1 - gain if high else gain).to(torch.complex128)
    zeros, poles, scale = prototype(design)
    # within an infinitesimal of both ends, which the transform maps to 0 and infinity
    warped = np.tan(np.pi * np.clip(hz.double().numpy() / rate, 1e-12, 0.5 - 1e-12))
    edge = math.tan(math.pi * design.hz / rate)
    s = 1j * (-edge / warped if high else warped / edge)
    gain = np.full(s.shape, scale, complex)
    for pole in poles:
        gain /= s - pole
    for zero in zeros:
        gain *= s - zero
    return torch.from_numpy(gain)


def prototype(design: LowPass) -> tuple[np.ndarray, np.ndarray, float]:
    """Return zeros, poles and scale of the analogue low-pass whose edge is at 1 radian per second."""
    n = design.order
    angle = np.pi * (2 * np.arange(1, n + 1) - 1) / (2 * n)
    ripple, stop = 10 ** (design.ripple_db / 10) - 1, 10 ** (design.stop_db / 10) - 1
    zeros = np.zeros(0, complex)
    if design.family == "butterworth":
        poles = 1j * np.exp(1j * angle)
    elif design.family == "chebyshev1":
        width = math.asinh(1 / math.sqrt(ripple)) / n
        poles = -math.sinh(width) * np.sin(angle) + 1j * math.cosh(width) * np.cos(angle)
    elif design.family == "chebyshev2":
        width = math.asinh(math.sqrt(stop)) / n
        poles = 1 / (-math.sinh(width) * np.sin(angle) + 1j * math.cosh(width) * np.cos(angle))
        zeros = 1j / np.cos(np.delete(angle, n // 2) if n % 2 else angle)
    else:
        zeros, poles = _elliptic(n, math.sqrt(ripple), math.sqrt(stop))
    at_zero = np.prod(-zeros) / np.prod(-poles)
    level = 1.0
    if n % 2 == 0 and design.family in ("chebyshev1", "elliptic"):  # an even order begins at the bottom of its ripple
        level = 10 ** (-design.ripple_db / 20)
    return zeros, poles, level / float(at_zero.real)


def _elliptic(n: int, ripple: float, stop: float) -> tuple[np.ndarray, np.ndarray]:
    """Return zeros and poles of Cauer's filter: ripple and stop are ε of either band."""
    k1 = ripple / stop
    u = (2 * np.arange(1, n // 2 + 1) - 1) / n
    k = _degree(n, k1, u)
    zeros = 1j / (k * _cd(u, k))
    shift = -1j * _asn(1j / ripple, k1) / n
    poles = 1j * _cd(u - 1j * shift, k)
    zeros, poles = np.concatenate([zeros, zeros.conj()]), np.concatenate([poles, poles.conj()])
    if n % 2:
        poles = np.append(poles, 1j * _sn(1j * shift, k))
    return zeros, poles


def _degree(n: int, k1: float, u: np.ndarray) -> float:
    """Solve the degree equation for the modulus k, by way of its complement."""
    other = math.sqrt(1 - k1 * k1)
    kc = other**n * float(np.prod(np.real(_sn(u, other)))) ** 4
    return math.sqrt(1 - kc * kc)


def _descent(k: float) -> list[float]:
    moduli = []
    while k > 1e-16 and len(moduli) < 60:
        k = (k / (1 + math.sqrt(1 - k * k))) ** 2
        moduli.append(k)
    return moduli


def _ascend(w: np.ndarray, k: float) -> np.ndarray:
    for modulus in reversed(_descent(k)):
        w = (1 + modulus) * w / (1 + modulus * w * w)
    return w


def _cd(u: np.ndarray, k: float) -> np.ndarray:
    return _ascend(np.cos(np.asarray(u, complex) * np.pi / 2), k)


def _sn(u: np.ndarray | complex, k: float) -> np.ndarray:
    return _ascend(np.sin(np.asarray(u, complex) * np.pi / 2), k)


def _asn(w: complex, k: float) -> complex:
    """Return the u, in quarter periods, with ``sn(u, k) = w``."""
    before = k
    for modulus in _descent(k):
        w = w / (1 + complex(np.sqrt(complex(1 - w * w * before * before)))) * 2 / (1 + modulus)
        before = modulus
    return complex(np.arcsin(complex(w)) * 2 / np.pi)


def _sinc_taps(design: LowPass, rate: int) -> Float[Tensor, " h"]:
    half = 8 * design.order
    place = torch.arange(-half, half + 1, dtype=torch.float64)
    window = torch.kaiser_window(2 * half + 1, periodic=False, beta=8.0, dtype=torch.float64)
    taps = torch.sinc(2 * design.hz / rate * place) * window
    return taps / taps.sum()


def _memory(design: LowPass, rate: int, high: bool) -> int:
    """Return after how many samples a filter has died away."""
    _check(design, rate)
    if design.family == "sinc":
        return 16 * design.order + 1
    edge = math.tan(math.pi * design.hz / rate)
    _, poles, _ = prototype(design)
    s = edge / poles if high else edge * poles
    slowest = float(np.abs((1 + s) / (1 - s)).max())
    return 2 * min(math.ceil(math.log(GONE) / math.log(min(slowest, 1 - 1e-9))), 30 * rate)


def _check(design: LowPass, rate: int) -> None:
    if not 0 < design.hz < rate / 2:
        message = f"an edge at {design.hz:g} Hz must be above 0 and below half of the rate, {rate / 2:g} Hz"
        raise DataError(message, code="range", path="hz", value=design.hz)
