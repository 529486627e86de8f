"""Streamed data for vocoders and codecs: crops of recordings in shards, read when they are needed."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from unisono.data.stream import Examined, Part, Row, StreamData, StreamOptions
from unisono.errors import DataError
from unisono_sound.corpus import AudioFacts, AudioLimits
from unisono_sound.corpus.streamed import AUDIO, FACTS, SPEAKER, speaker_of, usable_wave
from unisono_sound.signal import LogMel, MelSpec

from unisono_codec.vocoders.data import DEFAULT_MEL, MAX_SECONDS


class AudioStream(StreamData):
    """A crop of each recording of a stream, another one in each epoch.

    Items as of ``AudioData``: ``{"mel": [t, m], "wave": [n]}``. Long recordings count once in an epoch: cut them
    before they are put into shards.

    Args:
        root, stream, val_size, batch_size, num_workers: as of every ``StreamData``.
        mel: the mel spectrogram to invert.
        crop_frames: frames of a crop.
    """

    parts: ClassVar[tuple[Part, ...]] = (AUDIO, SPEAKER, FACTS)
    items = "recordings"
    unit = "hours"

    def __init__(
        self,
        root: str,
        *,
        mel: MelSpec = DEFAULT_MEL,
        crop_frames: int = 48,
        stream: StreamOptions = StreamOptions(),  # noqa: B008
        val_size: int = 16,
        batch_size: int = 16,
        num_workers: int = 0,
    ):
        super().__init__(root, stream=stream, val_size=val_size, batch_size=batch_size, num_workers=num_workers)
        if crop_frames < 1:
            raise DataError(
                f"data.crop_frames={crop_frames} must be at least 1",
                code="range",
                path="data.crop_frames",
                value=crop_frames,
            )
        self.mel, self.crop_frames = mel, crop_frames

    @property
    def limits(self) -> AudioLimits:
        """What a usable recording is: at least a crop, and what the mel's frames look at."""
        samples = max(self.crop_frames * self.mel.hop_length, sum(LogMel(self.mel).context))
        return AudioLimits(samples / self.mel.sample_rate, MAX_SECONDS)

    def version(self) -> str:
        return f"1 {self.mel.sample_rate} {self.limits}"

    def examine(self, row: Row) -> Examined:
        seconds = len(usable_wave(row, self.mel, self.limits)) / self.mel.sample_rate
        return Examined(self.crop_frames, seconds / 3600, speaker_of(row))

    def maker(self, random: bool) -> "Crop":
        return Crop(self.mel, self.limits, self.crop_frames, random)

    def describe(self) -> AudioFacts:
        self.setup()
        held = [self.val_set.index.id(int(row)) for row in self.val_set.rows] if self.val_set else []
        return AudioFacts(mel_spec=self.mel, pitch=False, held_out=tuple(held))


@dataclass(frozen=True)
class Crop:
    """Makes an item of a row: a stretch of the recording, and its mel as it is in the whole recording's."""

    spec: MelSpec
    limits: AudioLimits
    frames: int
    random: bool

    def __call__(self, row: Row, generator: torch.Generator) -> dict[str, Tensor]:
        wave = usable_wave(row, self.spec, self.limits)
        log_mel, hop = LogMel(self.spec), self.spec.hop_length
        starts = self.spec.frames(len(wave)) - self.frames + 1
        start = int(torch.randint(0, starts, (), generator=generator)) if self.random else (starts - 1) // 2
        left, right = log_mel.context
        low, high = start * hop - left, (start + self.frames) * hop + right
        samples = wave[max(low, 0) : min(high, len(wave))]
        beyond = (max(-low, 0), max(high - len(wave), 0))
        if any(beyond):  # as the transform of the whole recording reflects its ends
            samples = F.pad(samples[None, None], beyond, mode="reflect")[0, 0]
        return {
            "mel": log_mel(samples[None], pad_mode="none")[0],
            "wave": samples[left : left + self.frames * hop],
        }
