"""Items: a stretch of a recording, with others of the same and of another speaker beside it.

What is beside it is drawn with the item, so that no loss depends on which items share a batch.

Shapes: t frames, m mel channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from unisono.data import Features, numbered
from unisono_sound.corpus import Utterance

BESIDE = ("mel", "same", "other", "another")
"""The mels of an item; ``another`` is a second one of the speaker of ``other``."""


@dataclass(frozen=True, eq=False)
class Recording:
    """One usable recording with its features ``mel`` [t, m] and ``pitch`` [t], in hertz, 0 where unvoiced."""

    utterance: Utterance
    speaker: int
    features: Features

    @property
    def num_frames(self) -> int:
        return int(self.features.shapes["mel"][0])


class SpeakerSet:
    """Recordings of speakers as a map-style set.

    ``pool`` are the recordings of which others are drawn. ``labelled``: ``same`` is another recording of the same
    speaker where there is one, ``other`` one of another speaker. Else ``same`` is another stretch of the same
    recording, and ``other`` is of another recording, whoever speaks.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        pool: Sequence[Recording],
        crop_frames: int,
        reference_frames: int,
        labelled: bool,
    ):
        self.recordings, self.pool = list(recordings), list(pool)
        self.crop_frames, self.reference_frames, self.labelled = crop_frames, reference_frames, labelled
        self.of_speaker: dict[int, list[int]] = {}
        for index, recording in enumerate(self.pool):
            self.of_speaker.setdefault(recording.speaker, []).append(index)
        self.speakers = sorted(self.of_speaker)

    def __len__(self) -> int:
        return len(self.recordings)

    def size(self, index: int) -> int:
        return min(self.recordings[index].num_frames, self.crop_frames)

    def groups(self) -> tuple[list[str], list[int]]:
        """Return the speakers' names, and the number of each item's speaker among them."""
        return numbered([recording.utterance.speaker for recording in self.recordings])

    def item(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        """Return mel [t, m] and pitch [t] of a stretch, its speaker, and the mels ``same``, ``other`` and ``another``
        with their speaker ``target``."""
        recording = self.recordings[index]
        start = self._start(recording, self.crop_frames, generator)
        stop = min(start + self.crop_frames, recording.num_frames)
        same = self._same(recording, generator)
        others = self._others(recording, generator)
        return {
            "mel": recording.features.load("mel", start, stop),
            "pitch": recording.features.load("pitch", start, stop),
            "same": self._stretch(same, generator),
            "other": self._stretch(others[0], generator),
            "another": self._stretch(others[1], generator),
            "speaker": recording.speaker,
            "target": others[0].speaker,
            "text": recording.utterance.text,
            "whole": stop - start == recording.num_frames,
            "id": recording.utterance.id,
        }

    def _same(self, recording: Recording, generator: torch.Generator) -> Recording:
        if not self.labelled:
            return recording
        own = [index for index in self.of_speaker[recording.speaker] if self.pool[index] is not recording]
        return self.pool[own[_below(len(own), generator)]] if own else recording

    def _others(self, recording: Recording, generator: torch.Generator) -> tuple[Recording, Recording]:
        if self.labelled:
            strangers = [speaker for speaker in self.speakers if speaker != recording.speaker]
            known = self.of_speaker[strangers[_below(len(strangers), generator)]]
            return self.pool[known[_below(len(known), generator)]], self.pool[known[_below(len(known), generator)]]
        strangers = [other for other in self.pool if other is not recording]
        stranger = strangers[_below(len(strangers), generator)]
        return stranger, stranger

    def _stretch(self, recording: Recording, generator: torch.Generator) -> Float[Tensor, "t m"]:
        start = self._start(recording, self.reference_frames, generator)
        return recording.features.load("mel", start, min(start + self.reference_frames, recording.num_frames))

    def _start(self, recording: Recording, frames: int, generator: torch.Generator) -> int:
        return _below(max(recording.num_frames - frames, 0) + 1, generator)


def _below(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))
