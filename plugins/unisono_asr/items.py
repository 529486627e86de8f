"""Items: recordings with the ids of their units, as they vary from pass to pass.

Shapes: t frames, m mel channels, n units.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from unisono.errors import DataError
from unisono_sound.corpus import SpeechItem, SpeechSet

from unisono_asr.features import with_noise
from unisono_asr.noise import Noise
from unisono_asr.units import Kind

FRAMES_PER_STEP = 4
"""Mel frames to a step of every encoder here: two convolutions of stride 2."""


@dataclass(frozen=True, kw_only=True)
class UnitOptions:
    """What is recognised: ``kind`` as in ``unisono_asr.units``, and for ``bpe`` how many ids there are."""

    kind: Kind = "phones"
    size: int = 256


@dataclass(frozen=True, kw_only=True)
class Variation:
    """How training recordings vary from pass to pass.

    speeds: each pass plays a recording at one of these.
    noise: a folder of recordings of noise, or one of ``noise.STEADY`` ("white", "pink"); None adds none.
    noise_share: of the recordings, how many are heard in noise.
    snr_db: from and to which ratio of speech to noise, in decibels.
    """

    speeds: tuple[float, ...] = (0.9, 1.0, 1.1)
    noise: str | None = None
    noise_share: float = 0.5
    snr_db: tuple[float, float] = (5.0, 25.0)

    def __post_init__(self):
        if 1.0 not in self.speeds or not all(0.5 <= speed <= 2 for speed in self.speeds):
            message = f"data.variation.speeds={list(self.speeds)} must hold 1.0, and speeds from 0.5 to 2"
            raise DataError(message, code="range", path="data.variation.speeds", value=list(self.speeds))
        if not 0 <= self.noise_share <= 1:
            message = f"data.variation.noise_share={self.noise_share} must be from 0 to 1"
            raise DataError(message, code="range", path="data.variation.noise_share", value=self.noise_share)
        if not self.snr_db[0] <= self.snr_db[1]:
            message = f"data.variation.snr_db={list(self.snr_db)} must be a lower and an upper ratio"
            raise DataError(message, code="range", path="data.variation.snr_db", value=list(self.snr_db))


class RecognitionSet(SpeechSet):
    """Utterances with the ids of their units as a map-style set; speed and noise are drawn for each training item."""

    def __init__(
        self,
        items: Sequence[SpeechItem],
        targets: Sequence[list[int]],
        variation: Variation | None,
        noise: Noise | None,
    ):
        super().__init__(items)
        self.targets, self.variation, self.noise = list(targets), variation, noise

    def item(self, index: int, generator: torch.Generator | None = None) -> dict[str, Any]:
        """Return mel [t, m], targets [n], speaker, row, id, text."""
        item, targets = self.items[index], self.targets[index]
        mel = item.features.load("mel")
        if self.variation is not None:
            mel = self._varied(item, least_steps(targets), generator)
        return {
            "mel": mel,
            "targets": torch.tensor(targets),
            "speaker": item.speaker,
            "id": item.utterance.id,
            "text": item.utterance.text,
        }

    def _varied(self, item: SpeechItem, steps: int, generator: torch.Generator | None) -> Tensor:
        variation = self.variation
        assert variation is not None
        names = ["mel" if speed == 1.0 else f"mel_{speed:g}" for speed in variation.speeds]
        fit = [name for name in names if math.ceil(item.features.shapes[name][0] / FRAMES_PER_STEP) >= steps]
        draws = torch.rand(4, generator=generator).tolist()
        mel = item.features.load(fit[int(draws[0] * len(fit))])
        if self.noise is None or draws[1] >= variation.noise_share:
            return mel
        low, high = variation.snr_db
        return with_noise(mel, self.noise.stretch(len(mel), draws[2]), low + (high - low) * draws[3])


def least_steps(ids: Sequence[int]) -> int:
    """Return how many steps CTC needs for a transcript: one for each unit, and a blank between equal ones."""
    return len(ids) + sum(one == other for one, other in pairwise(ids))
