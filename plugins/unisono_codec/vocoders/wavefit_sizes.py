"""WaveFit's sizes: the groups of its ``model:`` section, and the factors that a hop is made of."""

import math
from dataclasses import dataclass
from itertools import combinations_with_replacement

from unisono.errors import RecipeError

LARGEST_FACTOR = 8
"""Of samples that a block makes of one: more leaves its convolutions of three taps with gaps."""


@dataclass(frozen=True, kw_only=True)
class WaveFitSizes:
    """Sizes of the network, WaveGrad's Base model.

    up_channels: of the blocks that bring frames to samples (published: 512, 512, 256, 128, 128).
    down_channels: of the blocks that bring the iterate to the rates between, the finest first; one fewer (published:
        128, 128, 256, 512).
    first_channels: of the convolution that reads the iterate (published: 32).
    mel_channels: of the convolution that reads the mel (published: 768).
    factors: by how much each block multiplies the rate; their product, times ``repeat``, is the hop. None finds them
        (published: 5, 5, 3, 2, 2 for a hop of 300).
    repeat: how often a frame is repeated before the first block (Miipher-2: 4).
    lean: takes less memory, as in Miipher-2 (arXiv:2505.04457, section 2.3): FiLM shifts and does not scale, and the
        block that works at the sample rate has none.
    """

    up_channels: tuple[int, ...] = (512, 512, 256, 128, 128)
    down_channels: tuple[int, ...] = (128, 128, 256, 512)
    first_channels: int = 32
    mel_channels: int = 768
    factors: tuple[int, ...] | None = None
    repeat: int = 1
    lean: bool = False

    def __post_init__(self):
        if len(self.up_channels) < 2 or len(self.down_channels) != len(self.up_channels) - 1:
            raise _refused(
                "down_channels",
                self.down_channels,
                f"must be one fewer than up_channels={list(self.up_channels)}, of which there are at least 2",
                "shape",
            )
        for name in ("up_channels", "down_channels", "first_channels", "mel_channels", "repeat"):
            value = getattr(self, name)
            if min(value if isinstance(value, tuple) else (value,)) < 1:
                raise _refused(name, value, "must be at least 1", "range")
        odd = [c for c in (self.first_channels, *self.down_channels) if c % 2]
        if odd:
            raise _refused(
                "down_channels" if self.first_channels % 2 == 0 else "first_channels",
                odd[0],
                "must be even: half of what tells the step are sines, half cosines",
                "value",
            )

    def factors_for(self, hop: int) -> tuple[int, ...]:
        """Return the factors, of which ``hop`` is the product, times ``repeat``; raises ``RecipeError`` where it
        cannot be."""
        count = len(self.up_channels)
        if hop % self.repeat:
            raise _refused("repeat", self.repeat, f"must divide the hop of the data, {hop}", "conflict")
        if self.factors is None:
            return derived(hop // self.repeat, count)
        made = self.repeat * math.prod(self.factors)
        if len(self.factors) != count or made != hop or not all(1 <= f <= LARGEST_FACTOR for f in self.factors):
            raise _refused(
                "factors",
                self.factors,
                f"must be {count}, one for each of up_channels, from 1 to {LARGEST_FACTOR}, and with "
                f"repeat={self.repeat} make the data's hop of {hop}; they make {made}",
                "conflict",
            )
        return self.factors


@dataclass(frozen=True, kw_only=True)
class WaveFitObjective:
    """Weights beside the adversarial loss.

    stft_weight: of spectral convergence and of log magnitudes, each (published: 2.5).
    stft_resolutions: FFT size, hop and window of each distance of spectra (published: as they stand, for 24 kHz).
    """

    stft_weight: float = 2.5
    stft_resolutions: tuple[tuple[int, int, int], ...] = ((512, 80, 360), (1024, 150, 900), (2048, 300, 1800))


@dataclass(frozen=True, kw_only=True)
class WaveFitGame:
    """The discriminators and when they begin.

    scales: how many there are, each at half the rate of the one before (published: 3).
    channels: of the first layer, four times as many in each of the next ones (published: 16).
    most_channels: at which that ends (published: 1024).
    feature_weight: of the mean distance of their features (published: 10).
    lr: their learning rate, relative to ``optim.lr`` (published: 2).
    pretrain_steps: steps on the distance of spectra alone before the game begins (published: none).
    """

    scales: int = 3
    channels: int = 16
    most_channels: int = 1024
    feature_weight: float = 10.0
    lr: float = 2.0
    pretrain_steps: int = 0


def derived(hop: int, count: int) -> tuple[int, ...]:
    """Return the ``count`` factors of a hop, each from 2 to 8 and the largest first, whose largest is the smallest.

    240, 256 and 300 in five give (5, 4, 3, 2, 2), (4, 4, 4, 2, 2) and (5, 5, 3, 2, 2). Raises ``RecipeError`` where
    there are none.
    """
    ways = combinations_with_replacement(range(LARGEST_FACTOR, 1, -1), count)
    found = [factors for factors in ways if math.prod(factors) == hop]
    if not found:
        raise _refused(
            "up_channels",
            count,
            f"blocks cannot make a hop of {hop}: it is not the product of {count} factors from 2 to {LARGEST_FACTOR}; "
            "give as many channels as it has such factors, or prepare the data with another hop",
            "conflict",
        )
    return min(found)


def _refused(name: str, value: object, why: str, code: str) -> RecipeError:
    path = f"model.network.{name}"
    return RecipeError(f"{path}={value} {why}", code=code, path=path, value=value)  # type: ignore[arg-type]
