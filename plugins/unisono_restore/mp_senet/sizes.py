"""Sizes: the groups of MP-SENet's ``model:`` section."""

from dataclasses import dataclass
from typing import Literal

from unisono.errors import RecipeError
from unisono_sound.signal.phase import TransformSizes

SPECTRUM = TransformSizes(n_fft=400, win_length=400, hop_length=100)
"""As published, at 16 kHz: windows of 25 ms."""


@dataclass(frozen=True, kw_only=True)
class SENetSizes:
    """Sizes of the network.

    blocks: ``transformer``, the long paper's (arXiv:2308.08926), or ``conformer``, the short one's (arXiv:2305.13686):
        what looks along time and frequency, and the convolutions that each paper has around it.
    channels: of every layer (published: 64).
    num_blocks: pairs of a time block and a frequency block (published: 4).
    num_heads: of attention (published: 4).
    depth: convolutions of a dense block, dilated 1, 2, 4 and so on (published: 4).
    compression: power that magnitudes are taken to (published: 0.3).
    mask_limit: what the mask stays below (published: 2).
    dropout: of conformers (published: 0.2); transformers have none.
    """

    blocks: Literal["transformer", "conformer"] = "transformer"
    channels: int = 64
    num_blocks: int = 4
    num_heads: int = 4
    depth: int = 4
    compression: float = 0.3
    mask_limit: float = 2.0
    dropout: float = 0.2

    @property
    def short(self) -> bool:
        """Whether this is the short paper's network."""
        return self.blocks == "conformer"

    def __post_init__(self):
        for name in ("channels", "num_blocks", "num_heads", "depth"):
            if getattr(self, name) < 1:
                raise _refused(name, getattr(self, name), "must be at least 1")
        if self.channels % self.num_heads:
            raise _refused("channels", self.channels, f"must be a multiple of num_heads={self.num_heads}")
        if not 0 < self.compression <= 1:
            raise _refused("compression", self.compression, "must be in (0, 1]")
        if not self.mask_limit > 1:
            raise _refused("mask_limit", self.mask_limit, "must be above 1, the mask of what is clean")
        if not 0 <= self.dropout < 1:
            raise _refused("dropout", self.dropout, "must be in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class SENetObjective:
    """Weights of the losses, as published.

    magnitude: of the squared distance of compressed magnitudes.
    phase: of the three anti-wrapped distances of phases together.
    complex: of the squared distance of compressed real and imaginary parts (0.1 · 2).
    consistency: of the same distance between the spectrum and that of its own waveform (0.1 · 2).
    waveform: of the absolute distance of waveforms.
    metric: of the discriminator that learns PESQ (published: 0.05), which needs the extra ``pesq``; 0 trains without.
    """

    magnitude: float = 0.9
    phase: float = 0.3
    complex: float = 0.2
    consistency: float = 0.2
    waveform: float = 0.2
    metric: float = 0.0

    def __post_init__(self):
        for name, value in vars(self).items():
            if value < 0:
                path = f"model.objective.{name}"
                raise RecipeError(f"{path}={value} must not be negative", code="range", path=path, value=value)


@dataclass(frozen=True, kw_only=True)
class MetricGame:
    """The discriminator that learns PESQ.

    channels: of its first layer, doubled with each of the three others (published: 16).
    pretrain_steps: steps without it before it begins (published: 0).
    processes: how many measure PESQ beside training (published: 15); 0 measures in the training's own.
    """

    channels: int = 16
    pretrain_steps: int = 0
    processes: int = 0

    def __post_init__(self):
        for name, least in (("channels", 1), ("pretrain_steps", 0), ("processes", 0)):
            if getattr(self, name) < least:
                path = f"model.game.{name}"
                value = getattr(self, name)
                raise RecipeError(f"{path}={value} must be at least {least}", code="range", path=path, value=value)


@dataclass(frozen=True, kw_only=True)
class WindowSizes:
    """How long sounds are divided, in seconds: windows, each brought to a level of its own, that fade into each other.

    Attention looks at all of a window, so that memory grows with it. Published: a whole file at once.
    """

    seconds: float = 4.0
    overlap_seconds: float = 0.5

    def __post_init__(self):
        if not 0.25 <= self.seconds <= 60:
            message = f"model.windows.seconds={self.seconds} must be in [0.25, 60]"
            raise RecipeError(message, code="range", path="model.windows.seconds", value=self.seconds)
        if not 0 <= 2 * self.overlap_seconds <= self.seconds:
            message = f"model.windows.overlap_seconds={self.overlap_seconds} must be from 0 to half of {self.seconds}"
            raise RecipeError(message, code="range", path="model.windows.overlap_seconds", value=self.overlap_seconds)


def check_spectrum(spectrum: TransformSizes) -> None:
    """Raise ``RecipeError`` where the frequencies of a transform cannot be halved and doubled again."""
    if spectrum.n_fft % 4:
        message = (
            f"model.spectrum.n_fft={spectrum.n_fft} must be a multiple of 4, so that its frequencies can be halved "
            "and doubled again"
        )
        raise RecipeError(message, code="value", path="model.spectrum.n_fft", value=spectrum.n_fft)


def _refused(name: str, value: object, why: str) -> RecipeError:
    path = f"model.network.{name}"
    return RecipeError(f"{path}={value} {why}", code="range", path=path, value=value)
