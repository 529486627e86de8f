"""Log mel spectrograms: the one description of an acoustic front end and the module that computes
it.

Natural logarithm of Slaney-style mel magnitudes (not powers), floored at 1e-5, with "same" framing:
a waveform of ``n`` samples makes exactly ``n // hop_length`` frames. The filters equal
``librosa.filters.mel`` (a test compares them); they are computed here because importing librosa
costs a second and a half.

Shapes: b batch, n samples, t frames, f = n_fft // 2 + 1 frequencies, m = n_mels channels.
"""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from unisono.errors import DataError, did_you_mean
from unisono.nn.wide import wide_as

from unisono_sound.signal.stft import same_padding, stft_same

LOG_FLOOR = 1e-5


@dataclass(frozen=True)
class MelSpec:
    """What a mel frame means: two models may share mels only if their specs are equal."""

    sample_rate: int = 22050
    n_fft: int = 1024
    win_length: int = 1024
    hop_length: int = 256
    n_mels: int = 80
    f_min: float = 0.0
    f_max: float = 8000.0

    def __post_init__(self) -> None:
        if self.n_mels < 1:
            raise DataError(f"n_mels={self.n_mels} must be at least 1", code="range", path="n_mels", value=self.n_mels)
        if not 0 < self.hop_length <= self.n_fft // 2:
            message = f"hop_length={self.hop_length} must lie between 1 and n_fft / 2 = {self.n_fft // 2}"
            raise DataError(message, code="range", path="hop_length", value=self.hop_length)
        if not 0 < self.win_length <= self.n_fft:
            message = f"win_length={self.win_length} must lie between 1 and n_fft={self.n_fft}"
            raise DataError(message, code="range", path="win_length", value=self.win_length)
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            message = (
                f"f_min={self.f_min}, f_max={self.f_max}: need 0 <= f_min < f_max <= "
                f"sample_rate / 2 = {self.sample_rate / 2:g}"
            )
            raise DataError(message, code="range", path="f_max", value=(self.f_min, self.f_max))

    def frames(self, num_samples: int) -> int:
        return num_samples // self.hop_length

    def seconds(self, num_frames: int) -> float:
        return num_frames * self.hop_length / self.sample_rate

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "MelSpec":
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise DataError(
                    f"a mel spec has no field {name!r}{did_you_mean(name, known)}", code="unknown", path=name
                )
        return cls(**values)


class LogMel(nn.Module):
    """Waveform → log mel.

    ```
    wave [b, n] → STFT [b, t, f] → |·| → mel filters → clamp 1e-5 → ln → mel [b, t, m]
    ```
    Computed in float32, or float64 where the buffers are, whatever the autocast state; differentiable. It has
    buffers but no state.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, spec: MelSpec):
        super().__init__()
        self.spec = spec
        self.register_buffer("window", torch.hann_window(spec.win_length), persistent=False)
        self.register_buffer("filters", mel_filters(spec), persistent=False)

    def forward(self, wave: Float[Tensor, "b n"], pad_mode: str = "reflect") -> Float[Tensor, "b t m"]:
        """``pad_mode="none"`` takes a crop that brings ``context`` samples on either side."""
        return self.from_magnitude(self.magnitude(wave, pad_mode))

    def magnitude(self, wave: Float[Tensor, "b n"], pad_mode: str = "reflect") -> Float[Tensor, "b t f"]:
        with torch.autocast(wave.device.type, enabled=False):
            return stft_same(
                wide_as(wave, self.window), self.spec.n_fft, self.spec.hop_length, self.window, pad_mode
            ).abs()

    def from_magnitude(self, magnitude: Float[Tensor, "b t f"]) -> Float[Tensor, "b t m"]:
        with torch.autocast(magnitude.device.type, enabled=False):
            return (wide_as(magnitude, self.filters) @ self.filters).clamp(min=LOG_FLOOR).log()

    @property
    def context(self) -> tuple[int, int]:
        """Samples that a crop needs before its first and after its last hop."""
        return same_padding(self.spec.n_fft, self.spec.hop_length)


class MelInverse(nn.Module):
    """Log mel → the magnitudes that it was made from, as far as it tells: non-negative least squares.

    Lee and Seung's (2001) multiplicative updates from the mel itself, interpolated over frequency:
    smooth, positive, and with the level of the outermost filter beyond the filters' range. No state.
    """

    filters: Tensor
    spread: Tensor

    def __init__(self, spec: MelSpec, num_updates: int = 16):
        super().__init__()
        self.num_updates = num_updates
        filters = mel_filters(spec)
        cover = filters / filters.amax(0)
        reached = (cover.sum(1) > 1e-3).nonzero()[:, 0]
        cover[: reached[0]], cover[reached[-1] + 1 :] = 0.0, 0.0
        cover[: reached[0], 0], cover[reached[-1] + 1 :, -1] = 1.0, 1.0
        levels = cover / cover.sum(1, keepdim=True).clamp(min=1e-6) / filters.sum(0)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("spread", levels.T.contiguous(), persistent=False)

    def forward(self, mel: Float[Tensor, "*b t m"]) -> Float[Tensor, "*b t f"]:
        with torch.autocast(mel.device.type, enabled=False):
            target = wide_as(mel, self.spread).exp()
            magnitude = target @ self.spread
            wanted = target @ self.filters.T
            for _ in range(self.num_updates):
                reached = (magnitude @ self.filters) @ self.filters.T
                ratio = wanted / reached.clamp(min=1e-12)
                magnitude = torch.where(reached > 1e-12, magnitude * ratio, magnitude)
            return magnitude


def mel_filters(spec: MelSpec) -> Float[Tensor, "f m"]:
    """Triangular filters of unit area on Slaney's mel scale: linear below 1 kHz, logarithmic
    above."""
    log_step = math.log(6.4) / 27  # 27 steps from 1 kHz to 6.4 kHz

    def to_mel(hz: float) -> float:
        return 3 * hz / 200 if hz < 1000 else 15 + math.log(hz / 1000) / log_step

    mels = torch.linspace(to_mel(spec.f_min), to_mel(spec.f_max), spec.n_mels + 2, dtype=torch.float64)
    corners = torch.where(mels < 15, 200 * mels / 3, 1000 * torch.exp(log_step * (mels - 15)))
    bins = torch.linspace(0, spec.sample_rate / 2, spec.n_fft // 2 + 1, dtype=torch.float64)
    low, centre, high = corners[:-2], corners[1:-1], corners[2:]
    rising = (bins[:, None] - low) / (centre - low)
    falling = (high - bins[:, None]) / (high - centre)
    triangles = torch.minimum(rising, falling).clamp(min=0)
    empty = int((~triangles.any(0)).sum())
    if empty:
        message = (
            f"n_mels={spec.n_mels} is too many for n_fft={spec.n_fft}: {empty} filters hold "
            "no frequency bin; lower n_mels or raise n_fft"
        )
        raise DataError(message, code="range", path="n_mels", value=spec.n_mels)
    return (triangles * 2 / (high - low)).float()
