"""Request: a sound to hear, as a file or as samples of any rate, and its samples block by block."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from pydantic import Field
from unisono_sound.given import SoundRequest, channels_of, told_of

from unisono_asr.windows import sound_of

__all__ = ["RecognitionRequest", "Sound", "sound_in", "sound_of_file", "sound_of_samples"]


class RecognitionRequest(SoundRequest):
    """A sound to hear: a file, or samples with their rate."""

    steps: int = Field(default=1, ge=1, le=16, description="passes of the decoder, where there is one")


@dataclass(frozen=True)
class Sound:
    """A sound block by block: ``blocks`` [n] of one channel at ``rate``; ``notes`` say what was done to it."""

    rate: int
    blocks: Iterator[Float[np.ndarray, "n"]]
    notes: tuple[str, ...] = ()


def sound_in(request: RecognitionRequest, rate: int) -> Sound:
    """Return the sound of a request; ``rate`` is that of samples without one.

    Raises ``RequestError`` as ``sound_of_samples`` does, and where a file cannot be read: of what is behind its header
    while blocks are read.
    """
    if request.audio is not None:
        return sound_of_file(request.audio)
    return sound_of_samples(request.samples, request.sample_rate or rate)


def sound_of_file(path: str | Path) -> Sound:
    """Return a file's sound; raises ``RequestError`` as ``sound_in`` does."""
    with told_of(str(path)):
        info, blocks = sound_of(path)
    return Sound(info.sample_rate, _told(blocks, str(path)), _averaged(info.num_channels))


def sound_of_samples(samples: Any, rate: int) -> Sound:
    """Return a sound of samples [n] or [c, n]; raises ``RequestError`` where there are none or they are not finite."""
    channels = channels_of(samples)
    return Sound(rate, iter([channels.mean(0)]), _averaged(len(channels)))


def _averaged(channels: int) -> tuple[str, ...]:
    return (f"{channels} channels were averaged",) if channels > 1 else ()


def _told(blocks: Iterator[Float[np.ndarray, "n"]], path: str) -> Iterator[Float[np.ndarray, "n"]]:
    with told_of(path):
        yield from blocks
