"""Clips: clean sound to learn from, recordings from a cache and buzzes made on the spot.

Shapes: n samples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.data import Features, derive_seed
from unisono_sound.corpus import Manifest, Utterance, find_audio, read_manifests, wave_facts
from unisono_sound.signal import read_audio

__all__ = ["Clip", "MadeClip", "Recording", "read_recordings", "read_wave"]


class Clip(Protocol):
    """Clean sound of ``num_samples``."""

    @property
    def num_samples(self) -> int: ...

    def load(self, start: int, stop: int) -> Float[Tensor, "n"]:
        """Return samples ``start`` to ``stop``, in [-1, 1]."""
        ...


@dataclass
class Recording:
    """A recording whose samples are in the cache, 16 bits each."""

    features: Features

    @property
    def num_samples(self) -> int:
        return self.features.shapes["wave"][0]

    def load(self, start: int, stop: int) -> Float[Tensor, "n"]:
        return self.features.load("wave", start, stop).float() / 32768


@dataclass
class MadeClip:
    """A buzz whose pitch glides, with hiss between its syllables: sound up to half the rate, the same for a number."""

    number: int
    num_samples: int
    sample_rate: int

    def load(self, start: int, stop: int) -> Float[Tensor, "n"]:
        generator = torch.Generator().manual_seed(derive_seed("clip", self.number))
        pitch, glide, rate, shift = torch.rand(4, generator=generator).tolist()
        seconds = torch.arange(self.num_samples) / self.sample_rate
        hz = 80 * 3**pitch * 2 ** ((glide - 0.5) * torch.linspace(0, 1, self.num_samples))
        phase = 2 * math.pi * torch.cumsum(hz.double(), 0) / self.sample_rate
        harmonics = torch.arange(1, 1 + int(self.sample_rate / 2 / 80))[:, None]
        level = harmonics**-1.2 * (harmonics * hz < 0.49 * self.sample_rate)
        buzz = (level * torch.sin(harmonics * phase)).sum(0).float()
        syllable = torch.sin(2 * math.pi * ((3 + 3 * rate) * seconds + shift)).clamp(min=0)
        hiss = torch.randn(self.num_samples, generator=generator)
        wave = 0.2 * syllable * buzz + 0.03 * (1 - syllable) * hiss
        return wave[start:stop]


def read_recordings(root: str | list[str] | dict[str, str]) -> Manifest:
    """List the recordings of a folder of audio files, a corpus, a manifest, several of these, or one per speaker."""
    if isinstance(root, str) and Path(root).expanduser().is_dir():
        folder = Path(root).expanduser()
        if not (folder / "metadata.csv").is_file():
            return find_audio(folder)
    return read_manifests(root)


def read_wave(utterance: Utterance, sample_rate: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a recording for the cache: 16-bit samples at the wanted rate, and what its limits are judged by."""
    wave, rate = read_audio(utterance.audio, sample_rate)
    samples = (wave * 32768).round().clamp(-32768, 32767).to(torch.int16)
    return {"wave": samples}, wave_facts(wave, rate)


def places(clips: Sequence[Clip], crop_samples: int, tiled: bool) -> list[tuple[int, int, int]]:
    """Return of each crop of an epoch its clip, which stretch of it, and of how many; untiled one of each clip."""
    counts = [clip.num_samples // crop_samples if tiled else 1 for clip in clips]
    return [(i, j, count) for i, count in enumerate(counts) for j in range(count)]
