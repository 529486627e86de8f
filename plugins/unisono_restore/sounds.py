"""Sounds: what is restored, block by block with all its channels, and at another rate.

A file is read as it is needed, so that memory does not grow with it; it may be read more than once.

Shapes: c channels, n samples (m at another rate).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from jaxtyping import Float
from torch import Tensor
from unisono.errors import RequestError
from unisono_sound.given import channels_of, told_of
from unisono_sound.signal import open_sound, sound_blocks

from unisono_restore.request import RestorationRequest

__all__ = ["Sound", "fitted", "resampled", "sound_in", "sound_of_file", "sound_of_samples"]

BLOCK_VALUES = 2**19
"""Samples times channels of a block of a file."""


@dataclass(frozen=True)
class Sound:
    """A sound of ``num_samples`` at ``rate``; each call of ``blocks`` begins it anew."""

    rate: int
    num_channels: int
    num_samples: int
    blocks: Callable[[], Iterator[Float[np.ndarray, "c n"]]]

    def at(self, rate: int) -> Iterator[Float[Tensor, "c m"]]:
        """Yield it at another rate, ``length_at(rate)`` samples in all."""
        blocks = self.blocks() if rate == self.rate else resampled(self.blocks(), self.rate, rate, self.num_channels)
        for block in fitted(blocks, self.length_at(rate), self.num_channels):
            yield torch.from_numpy(np.ascontiguousarray(block, np.float32))

    def length_at(self, rate: int) -> int:
        """Return the samples that it has at another rate, rounded to the nearest."""
        return (2 * self.num_samples * rate + self.rate) // (2 * self.rate)


def sound_in(request: RestorationRequest, rate: int) -> Sound:
    """Return the sound of a request; ``rate`` is that of samples without one.

    Raises ``RequestError`` as ``sound_of_samples`` does, and where a file cannot be read: of what is behind its header
    while blocks are read.
    """
    if request.audio is not None:
        return sound_of_file(request.audio)
    return sound_of_samples(request.samples, request.sample_rate or rate)


def sound_of_file(path: str | Path) -> Sound:
    """Return a file's sound; raises ``RequestError`` where it is missing, empty, cut off, damaged or no sound."""
    where = Path(path)
    with told_of(str(path)), open_sound(where) as file:
        rate, channels, frames = file.samplerate, file.channels, file.frames
    if frames <= 0:
        raise RequestError(f"{path}: holds no samples: record it again", code="empty", path="audio", value=str(path))

    def blocks() -> Iterator[Float[np.ndarray, "c n"]]:
        with told_of(str(path)), open_sound(where) as file:
            for block in sound_blocks(where, file, max(1, BLOCK_VALUES // channels)):
                yield block.T

    return Sound(rate, channels, frames, blocks)


def sound_of_samples(samples: Any, rate: int) -> Sound:
    """Return a sound of samples [n] or [c, n]; raises ``RequestError`` where there are none or they are not finite."""
    channels = channels_of(samples)
    return Sound(rate, len(channels), channels.shape[1], lambda: iter([channels]))


def resampled(
    blocks: Iterable[Float[np.ndarray, "c n"]], rate: int, new_rate: int, num_channels: int
) -> Iterator[Float[np.ndarray, "c m"]]:
    """Yield blocks at another rate, by one resampler (soxr, high quality), so that their borders are not heard."""
    stream = soxr.ResampleStream(rate, new_rate, num_channels, dtype="float32", quality="HQ")
    for block in blocks:
        made = stream.resample_chunk(np.ascontiguousarray(block.T, np.float32).reshape(-1, num_channels))
        if len(made):
            yield made.reshape(-1, num_channels).T
    rest = stream.resample_chunk(np.zeros((0, num_channels), np.float32), last=True)
    if len(rest):
        yield rest.reshape(-1, num_channels).T


def fitted(
    blocks: Iterable[Float[np.ndarray, "c n"]], length: int, num_channels: int
) -> Iterator[Float[np.ndarray, "c n"]]:
    """Yield so many samples: a resampler's last ones may be one more or one less than its rates say."""
    left = length
    for block in blocks:
        if left and block.shape[1]:
            yield block[:, :left]
            left -= min(left, block.shape[1])
    if left:
        yield np.zeros((num_channels, left), np.float32)
