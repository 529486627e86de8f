"""Clips: other recordings, which noise is taken from: folders of noise, and voices that speak together.

Shapes: n samples.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.data import Audit
from unisono.errors import DataError

from unisono_sound.corpus import find_audio
from unisono_sound.degrade.draws import whole
from unisono_sound.signal import read_audio

MOST_SECONDS = 1800.0
"""Of a folder, what is kept in memory at most."""


class Clips(Protocol):
    """Recordings by number, all at one rate."""

    @property
    def rate(self) -> int: ...

    def __len__(self) -> int: ...

    def wave(self, number: int) -> Float[Tensor, " n"]: ...


class HeldClips:
    """Recordings in memory."""

    def __init__(self, waves: Sequence[Float[Tensor, " n"]], rate: int):
        self.waves, self.rate = list(waves), rate

    def __len__(self) -> int:
        return len(self.waves)

    def wave(self, number: int) -> Float[Tensor, " n"]:
        return self.waves[number]


def read_clips(
    folder: str,
    rate: int,
    audit: Audit,
    path: str = "data.degrade",
    most_seconds: float = MOST_SECONDS,
    least_samples: int = 1,
) -> HeldClips:
    """Read a folder of sounds, any depth, at a rate; what cannot be used goes to the audit.

    Raises ``DataError`` (``path`` is the option that named the folder) where nothing is left.
    """
    manifest = find_audio(Path(folder))
    manifest.tell(audit)
    found, samples = [], 0
    for utterance in manifest:
        if samples > most_seconds * rate:
            audit.drop(utterance.id, "enough noise", f"{most_seconds:g} s are kept")
            continue
        try:
            wave, _ = read_audio(utterance.audio, rate)
        except DataError as error:
            audit.drop(utterance.id, "unreadable", str(error))
            continue
        if len(wave) < least_samples or not bool(wave.any()):
            audit.drop(utterance.id, "no noise", "too short, or silent")
            continue
        found.append(wave)
        samples += len(wave)
    if not found:
        message = f"{path}={folder!r} holds no usable recording: give a folder of sounds"
        raise DataError(message, code="empty", path=path, value=folder)
    return HeldClips(found, rate)


def stretch(clips: Clips, num_samples: int, generator: torch.Generator, own: int | None = None) -> Float[Tensor, " n"]:
    """Take a stretch of one clip, from anywhere on, and of others where it ends; never of clip ``own``.

    What is silent is passed over; raises ``DataError`` where there is no other clip with a sound.
    """
    others = [number for number in range(len(clips)) if number != own]
    parts: list[Tensor] = []
    have, silent = 0, 0
    while have < num_samples:
        if not others or silent > 2 * len(others) + 100:
            message = "noise is taken from other clips, and there is none that sounds: give more recordings"
            raise DataError(message, code="empty", path="data.degrade", value=len(clips))
        wave = clips.wave(others[whole(generator, (0, len(others) - 1))])
        start = 0 if parts or len(wave) < 2 else whole(generator, (0, len(wave) - 1))
        part = wave[start : start + num_samples - have]
        if not bool(part.any()):
            silent += 1
            continue
        parts.append(part)
        have += len(parts[-1])
    return torch.cat(parts) if parts else torch.zeros(0)
